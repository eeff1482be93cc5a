"""PLATIPUS (Finn, Xu, Levine, 2018)."""

import math
from typing import Any

import keras
import tensorflow as tf

from tfmeta import layers
from tfmeta.algorithms import probabilistic
from tfmeta.algorithms import settings
from tfmeta.core import functional
from tfmeta.core import gaussian
from tfmeta.core import inner_loop
from tfmeta.core import random
from tfmeta.typing import Weights

_BOUNDS = (-10.0, 2.0)  # Of the logarithms of scales, and of scales.
_SCALES = tuple(math.exp(bound) for bound in _BOUNDS)

# Inner steps draw from the streams from 0 on, and predictions from -1.
_DRAW_STREAM = -2
_PRIOR_STREAM = -3
_POSTERIOR_STREAM = -4


@keras.saving.register_keras_serializable("tfmeta")
class PLATIPUS(probabilistic.ProbabilisticLearner):
  """MAML from initial weights that are drawn anew for each task.

  The initial weights theta have a Gaussian distribution. A support set moves
  its mean `mu` by one gradient step, which is the prior of the task; adapting
  is gradient descent from a draw of it. In training the draw is of a posterior
  that has seen the query set too, and is held close to the prior [1]:

      q = Normal(mu - posterior_rate * grad(query_loss)(mu), posterior_scales)
      p = Normal(mu - prior_rate * grad(support_loss)(mu), prior_scales)
      theta ~ q;  weights = theta, after inner_steps steps on the support loss
      minimise  mean over tasks of query_loss(weights) + kl_weight * KL(q || p)

  over mu (the weights of the model), both scales and both rates. Predictions
  are means over `num_samples` draws of p. Scales and shifts of normalisation
  have no spread, and are in mu alone.

  In training, `loss` and metrics are those of the posterior, which has seen the
  labels of the queries: they say less of new tasks than validation does.

  The query loss stands for the negative log-likelihood: for labels it is that
  per query, for a mean squared error it is that of a standard deviation of 0.71
  (the square root of 1/2). `kl_weight` weighs the divergence, a sum over all
  weights, against this mean.

  Differences from the paper (the authors published no code):
    - `prior_rate` and `posterior_rate` are a number each for all weights.
    - Logarithms of scales are held in [-10, 2], by a constraint.
    - Which scales and rates to begin with is not known; these are ours.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`; its weights are mu.
    num_samples: Integer >= 1. Draws that a prediction is the mean of.
    kl_weight: Float >= 0.
    initial_scale: Float in [4.6e-5, 7.3]. What all standard deviations begin
      with.
    initial_shift_rate: Float. What `prior_rate` and `posterior_rate` begin
      with.
    first_order: Boolean. Whether gradients of the inner loop and those that
      shift the means are taken for constants; the rates are learned all the
      same.
    initial_from: A trained learner of an equal model, such as a `MAML`, whose
      weights mu begins with. Not kept: a saved learner has its own.
    **kwargs: Those of `MetaLearner`, and `noise_stddev`, the standard deviation
      of targets around the outputs of one draw, for `predict_distribution`.

  References:
    [1] C. Finn, K. Xu, S. Levine. Probabilistic Model-Agnostic Meta-Learning.
        NeurIPS 2018. https://arxiv.org/abs/1806.02817
  """

  def __init__(
    self,
    model: keras.Model,
    *,
    num_samples: int = 10,
    kl_weight: float = 1e-3,
    initial_scale: float = 0.02,
    initial_shift_rate: float = 0.01,
    first_order: bool = False,
    initial_from: Any = None,
    **kwargs: Any,
  ):
    super().__init__(model, num_samples=num_samples, **kwargs)
    settings.check_not_negative("kl_weight", kl_weight)
    settings.check_between("initial_scale", initial_scale, *_SCALES)
    settings.check_finite("initial_shift_rate", initial_shift_rate)
    self.kl_weight = kl_weight
    self.initial_scale = initial_scale
    self.initial_shift_rate = initial_shift_rate
    self.first_order = first_order
    if initial_from is not None:
      settings.copy_weights(initial_from, model)
    self.prior_log_scales = self._log_scales("prior")
    self.posterior_log_scales = self._log_scales("posterior")
    self.prior_rate = self._shift_rate("prior")
    self.posterior_rate = self._shift_rate("posterior")
    if not first_order:
      self.warn_if_inexact()

  def drawn_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    means = functional.weights_of(self.model)
    scales = _tensors(self.prior_log_scales)
    shifted = self._prior_means(support_x, support_y)
    noise = gaussian.noise_for(scales, self._draw_seed, self.num_samples)

    def path_of_draw(noise: tf.Tensor) -> list[Weights]:
      before = gaussian.draw(means, scales, noise)
      before = self.with_statistics(before, support_x)
      drawn = gaussian.draw(shifted, scales, noise)
      path = self._path_from(drawn, support_x, support_y)
      # The shift counts to the first step, or is all there is.
      return [before, *(path[1:] or path)]

    return self.for_each_sample(path_of_draw, noise)

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    with self.in_training():
      prior = self._prior_means(support_x, support_y)
      posterior = self._shifted(
        self.posterior_rate, query_x, query_y, _POSTERIOR_STREAM
      )
      scales = _tensors(self.posterior_log_scales)
      noise = gaussian.noise_for(scales, self._draw_seed)
      drawn = gaussian.draw(posterior, scales, noise)
      weights = self._path_from(drawn, support_x, support_y)[-1]
    outputs = self.predict_draw(weights, query_x)
    loss = functional.reduced_loss(self.inner_loss, query_y, outputs)
    prior_scales = _tensors(self.prior_log_scales)
    apart = gaussian.divergence(posterior, scales, prior, prior_scales)
    return loss + self.kl_weight * tf.cast(apart, loss.dtype), outputs

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "kl_weight": self.kl_weight,
      "initial_scale": self.initial_scale,
      "initial_shift_rate": self.initial_shift_rate,
      "first_order": self.first_order,
    }

  def _prior_means(self, x: tf.Tensor, y: tf.Tensor) -> Weights:
    return self._shifted(self.prior_rate, x, y, _PRIOR_STREAM)

  def _shifted(
    self, rate: Any, x: tf.Tensor, y: tf.Tensor, stream: int
  ) -> Weights:
    """The means, after a step on the loss of a set; normalisation stays."""
    rate = tf.convert_to_tensor(rate)
    loss_fn = self.support_loss(x, y)
    return inner_loop.gradient_step(
      lambda weights: loss_fn(weights, stream),
      functional.weights_of(self.model),
      [None if s is None else rate for s in self.prior_log_scales],
      first_order=self.first_order,
    )

  def _path_from(
    self, drawn: Weights, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    return self.descend(
      support_x,
      support_y,
      [self.inner_learning_rate] * len(drawn),
      initial=drawn,
      first_order=self.first_order,
    )

  @property
  def _draw_seed(self) -> tf.Tensor:
    return random.fold_in(self.task_seed, _DRAW_STREAM)

  def _log_scales(self, name: str) -> list[Any]:
    """A variable for each weight that has a spread, and `None` for others."""
    constant = keras.initializers.Constant(math.log(self.initial_scale))
    pairs = zip(
      self.model.trainable_variables,
      layers.in_normalization(self.model),
      strict=True,
    )
    return [
      None
      if normalizes
      else self.add_weight(
        shape=variable.shape,
        initializer=constant,
        dtype=variable.dtype,
        constraint=_held,
        name=f"{name}_log_scale_{variable.path.replace('/', '_')}",
      )
      for variable, normalizes in pairs
    ]

  def _shift_rate(self, name: str) -> Any:
    return self.add_weight(
      shape=(),
      initializer=keras.initializers.Constant(self.initial_shift_rate),
      dtype=self.model.trainable_variables[0].dtype,
      name=f"{name}_rate",
    )


def _tensors(log_scales: list[Any]) -> list[tf.Tensor | None]:
  return [None if s is None else tf.convert_to_tensor(s) for s in log_scales]


def _held(log_scale: tf.Tensor) -> tf.Tensor:
  """What a log-scale is set to after an update."""
  return tf.clip_by_value(log_scale, *_BOUNDS)
