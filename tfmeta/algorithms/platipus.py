"""PLATIPUS (Finn, Xu, Levine, 2018)."""

from collections.abc import Sequence
import math
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta import layers
from tfmeta import packages
from tfmeta.algorithms import probabilistic
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import functional
from tfmeta.core import inner_loop
from tfmeta.core import random
from tfmeta.typing import Reduction
from tfmeta.typing import Weights

# Logarithms of standard deviations in the order of the weights. A weight
# without a spread has `None`.
LogScales = Sequence[tf.Tensor | None]

_BOUNDS = (-10.0, 2.0)  # Bounds of the logarithms of standard deviations.
_SMALLEST_SCALE, _LARGEST_SCALE = (math.exp(bound) for bound in _BOUNDS)

# Optimizers such as Adam move a variable by about their learning rate, whatever
# its size. The variables of the rates, which may be tiny, therefore start at a
# usual size, and constants scale them. A power of 2 is exact in every dtype.
_UNSCALED_RATE = 2**-7

# Inner steps use the streams of random numbers from 0 up, and predictions use
# -1: see `MetaLearner.state_of`.
_SAMPLE_STREAM = -2
_PRIOR_STREAM = -3
_POSTERIOR_STREAM = -4


@keras.saving.register_keras_serializable("tfmeta")
class PLATIPUS(probabilistic.ProbabilisticLearner):
  """Meta-learner that samples the initial weights of each task.

  The initial weights theta have a Gaussian distribution. For each task, one
  gradient step on the support loss shifts its mean `mu`. The shifted Gaussian
  is the prior of the task. Adapting samples theta from the prior and takes
  gradient steps from there. Training samples theta from a posterior instead,
  whose mean is shifted by a gradient step on the query loss. A penalty keeps
  the posterior close to the prior [1]:

      q = Normal(mu - posterior_rate * grad(query_sum)(mu), posterior_scales)
      p = Normal(mu - prior_rate * grad(support_sum)(mu), prior_scales)
      theta ~ q;  weights = theta, after inner_steps steps on support_sum
      minimize  mean over tasks of query_loss(weights) + kl_weight * KL(q || p)

  Inner steps and shifts follow the gradient of a log-likelihood, a sum over the
  examples, as in the paper. With `inner_loss_reduction="mean"`, each example
  counts less the more there are, and samples do not come closer together near
  the points if there are more of them. The query loss is a mean.

  The minimum is over mu (the weights of the model), both sets of standard
  deviations (scales), and both rates. The variables of the rates start at 2^-7
  and are scaled by constants, so that steps of an optimizer suit them. A
  prediction is a mean over `num_samples` samples of p. The scales and shifts of
  normalization layers are not sampled: in all samples, they equal their values
  in mu.

  In training, `loss` and the metrics are measured on a sample of the posterior,
  which has seen the query labels. They say less about new tasks than validation
  does.

  The objective of the paper is a bound: the negative log-likelihood of all Q
  queries plus the divergence, a sum over all weights. This learner has the mean
  query loss in place of the first term. Relative to the bound, it therefore
  weighs the divergence by `kl_weight * Q` for class labels, and by `kl_weight *
  Q / (2 s^2)` for a squared error and Gaussian noise of standard deviation s in
  the targets. A `kl_weight` of 1 / Q, or of `2 s^2 / Q`, gives the bound
  itself. Most of s is what the adapted weights still get wrong, so it depends
  on the number of support examples, and one weight is a compromise.

  Differences from the paper (the authors published no code):
    - `prior_rate` and `posterior_rate` are one number each for all weights.
    - A constraint keeps the logarithms of the scales in [-10, 2].
    - The authors' initial scales and rates are not known.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`, whose weights are mu;
      for classification, `[n, W]` logits.
    num_samples: Integer >= 1. Number of samples over which a prediction is
      averaged. Defaults to 10.
    kl_weight: Float >= 0. Weight of the divergence. Defaults to 1e-3.
    initial_scale: Float in [4.6e-5, 7.3]. Initial value of all standard
      deviations. Defaults to 0.02.
    initial_prior_rate: Float. Initial value of `prior_rate`, the step size of
      the shift by the support set. Large values end in NaN, because the
      gradient is a sum. Defaults to 0.002.
    initial_posterior_rate: Float. Initial value of `posterior_rate`, the step
      size of the shift by the queries, of which there are often more. Defaults
      to 0.0002.
    initial_from: A trained learner with an equal model, such as a `MAML`, whose
      weights become the initial mu. It is not part of the configuration.
      Defaults to `None`, which keeps the weights of `model`.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. Defaults to 1.
    inner_learning_rate: Float > 0. Step size of the inner loop. Defaults to
      0.01.
    eval_inner_steps: Integer >= 0. Number of inner steps in `evaluate`,
      `predict`, `adapt` and exported models. Defaults to `inner_steps`.
    inner_loss: A Keras loss, its name, or a function `(y, y_pred) -> [n]`, for
      the support set and the query set. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    inner_loss_reduction: How the loss of an inner step or of a shift is reduced
      over the examples: `"sum"` (default), `"mean"` or `"sum_over_ways"`. A
      rate that suits a mean over n examples is n times too large for a sum.
    normalization: Which statistics batch normalization uses for query examples.
      `"transductive"`: the statistics of the query set itself.
      `"support_stats"`: the statistics of the support set under the adapted
      weights. `"none"`: the moving statistics of the model, which training does
      not update. Defaults to `"transductive"` if the model has batch
      normalization, else to `"none"`.
    first_order: Boolean. Whether the outer gradient treats the inner gradients
      and the gradients that shift the means as constants. The rates are learned
      in both cases. Defaults to `False`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `ProbabilisticLearner` and `MetaLearner`:
      `noise_stddev` (float > 0: in regression, the standard deviation of
      targets around the outputs of one sample; 1.0 by default),
      `task_map`, `clipvalue`, `clipnorm`, and `name` and `dtype` of the Keras
      model.

  Raises:
    ImportError: If TensorFlow Probability is not installed.

  References:
    [1] C. Finn, K. Xu, S. Levine. Probabilistic Model-Agnostic Meta-Learning.
        NeurIPS 2018. https://arxiv.org/abs/1806.02817
  """

  takes_weights = True

  def __init__(
    self,
    model: keras.Model,
    *,
    num_samples: int = 10,
    kl_weight: float = 1e-3,
    initial_scale: float = 0.02,
    initial_prior_rate: float = 0.002,
    initial_posterior_rate: float = 0.0002,
    initial_from: Any = None,
    inner_steps: int = 1,
    inner_learning_rate: float = 0.01,
    eval_inner_steps: int | None = None,
    inner_loss: Any = None,
    inner_loss_reduction: Reduction = "sum",
    normalization: str | None = None,
    first_order: bool = False,
    seed: int = 0,
    **kwargs: Any,
  ):
    packages.probability()
    super().__init__(
      model,
      num_samples=num_samples,
      inner_steps=inner_steps,
      inner_learning_rate=inner_learning_rate,
      eval_inner_steps=eval_inner_steps,
      inner_loss=inner_loss,
      inner_loss_reduction=inner_loss_reduction,
      normalization=normalization,
      seed=seed,
      **kwargs,
    )
    arguments.check_number("kl_weight", kl_weight, least=0)
    arguments.check_number(
      "initial_scale", initial_scale, least=_SMALLEST_SCALE, most=_LARGEST_SCALE
    )
    arguments.check_number("initial_prior_rate", initial_prior_rate)
    arguments.check_number("initial_posterior_rate", initial_posterior_rate)
    self.kl_weight = kl_weight
    self.initial_scale = initial_scale
    self.initial_prior_rate = initial_prior_rate
    self.initial_posterior_rate = initial_posterior_rate
    self.first_order = first_order
    if initial_from is not None:
      _copy_weights(initial_from, model)
    self.prior_log_scales = self._log_scales("prior")
    self.posterior_log_scales = self._log_scales("posterior")
    self.unscaled_prior_rate = self._unscaled_rate("prior")
    self.unscaled_posterior_rate = self._unscaled_rate("posterior")
    if not first_order:
      self.warn_if_inexact()

  @property
  def prior_rate(self) -> tf.Tensor:
    """Step size of the shift by the support set, a scalar."""
    return _scaled(self.unscaled_prior_rate, self.initial_prior_rate)

  @property
  def posterior_rate(self) -> tf.Tensor:
    """Step size of the shift by the queries, a scalar."""
    return _scaled(self.unscaled_posterior_rate, self.initial_posterior_rate)

  def sampled_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor, context: Context
  ) -> list[Weights]:
    means = functional.weights_of(self.model)
    scales = _tensors(self.prior_log_scales)
    shifted = self._prior_means(support_x, support_y, context)
    noise = noise_for(scales, self._sample_seed(context), self.num_samples)
    # All items of a path share their noise, so they show how one sample moves.

    def path_of_sample(noise: tf.Tensor, context: Context) -> list[Weights]:
      before = sample_weights(means, scales, noise)
      before = self.with_statistics(before, support_x, context)
      initial = sample_weights(shifted, scales, noise)
      path = self._path_from(initial, support_x, support_y, context)
      # The path counts the shift as a part of the first step. Without inner
      # steps, the shift is the only move.
      return [before, *(path[1:] or path)]

    return self.for_each_sample(path_of_sample, noise, context=context)

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    prior = self._prior_means(support_x, support_y, context)
    of_queries = context.replace(support_weight=context.query_weight)
    posterior = self._shifted(
      self.posterior_rate, query_x, query_y, _POSTERIOR_STREAM, of_queries
    )
    scales = _tensors(self.posterior_log_scales)
    # One sample estimates the expected query loss under the posterior. It is
    # differentiable in the means and scales, because the noise is given.
    noise = noise_for(scales, self._sample_seed(context))
    initial = sample_weights(posterior, scales, noise)
    weights = self._path_from(initial, support_x, support_y, context)[-1]
    outputs = self.predict_sample(weights, query_x, context)
    loss = self.query_loss(query_y, outputs, context)
    prior_scales = _tensors(self.prior_log_scales)
    apart = divergence(posterior, scales, prior, prior_scales)
    return loss + self.kl_weight * tf.cast(apart, loss.dtype), outputs

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "kl_weight": self.kl_weight,
      "initial_scale": self.initial_scale,
      "initial_prior_rate": self.initial_prior_rate,
      "initial_posterior_rate": self.initial_posterior_rate,
      "first_order": self.first_order,
    }

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "PLATIPUS":
    config = dict(config)
    if "initial_shift_rate" in config:
      # In files of earlier versions, the variables are not scaled.
      del config["initial_shift_rate"]
      names = ("initial_prior_rate", "initial_posterior_rate")
      config |= dict.fromkeys(names, _UNSCALED_RATE)
    return super().from_config(config)

  def _prior_means(
    self, x: tf.Tensor, y: tf.Tensor, context: Context
  ) -> Weights:
    return self._shifted(self.prior_rate, x, y, _PRIOR_STREAM, context)

  def _shifted(
    self,
    rate: tf.Tensor,
    x: tf.Tensor,
    y: tf.Tensor,
    stream: int,
    context: Context,
  ) -> Weights:
    """Returns the means after one gradient step on the loss of an example set.

    The scales and shifts of normalization layers do not change.
    """
    loss_fn = self.support_loss(x, y, context)
    return inner_loop.gradient_step(
      lambda weights: loss_fn(weights, stream),
      functional.weights_of(self.model),
      [None if s is None else rate for s in self.prior_log_scales],
      first_order=self.first_order,
    )

  def _path_from(
    self,
    sample: Weights,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context,
  ) -> list[Weights]:
    return self.descend(
      support_x,
      support_y,
      [self.inner_learning_rate] * len(sample),
      initial=sample,
      first_order=self.first_order,
      context=context,
    )

  def _sample_seed(self, context: Context) -> tf.Tensor:
    return random.fold_in(context.seed_from(self.seed), _SAMPLE_STREAM)

  def _log_scales(self, name: str) -> list[Any]:
    """Creates a variable for each weight with a spread; others get `None`."""
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
        constraint=_ClippedScale(),
        name=f"{name}_log_scale_{variable.path.replace('/', '_')}",
      )
      for variable, normalizes in pairs
    ]

  def _unscaled_rate(self, name: str) -> Any:
    return self.add_weight(
      shape=(),
      initializer=keras.initializers.Constant(_UNSCALED_RATE),
      dtype=self.model.trainable_variables[0].dtype,
      name=f"{name}_rate",
    )


def _scaled(rate: Any, initial: float) -> tf.Tensor:
  return initial / _UNSCALED_RATE * tf.convert_to_tensor(rate)


def _tensors(log_scales: list[Any]) -> list[tf.Tensor | None]:
  return [None if s is None else tf.convert_to_tensor(s) for s in log_scales]


class _ClippedScale(keras.constraints.Constraint):
  """Constraint that clips a log-scale to its bounds after each update."""

  def __call__(self, log_scale: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(log_scale, *_BOUNDS)


def noise_for(log_scales: LogScales, seed: tf.Tensor, *count: int) -> tf.Tensor:
  """Samples standard normal numbers `[*count, D]` for weights with a spread.

  Args:
    log_scales: List of tensors that have D elements together. A weight without
      a spread has `None`.
    seed: Integers `[2]`, which alone determine the numbers.
    *count: Number of samples. Without it, the result is one sample, `[D]`.
  """
  scales = [s for s in log_scales if s is not None]
  size = sum(math.prod(s.shape) for s in scales)
  return random.normal([*count, size], seed, scales[0].dtype)


def sample_weights(
  means: Weights, log_scales: LogScales, noise: tf.Tensor
) -> Weights:
  """Returns one sample of all weights, differentiable in means and scales.

  Args:
    means: List of tensors, the means of the weights.
    log_scales: Logarithms of standard deviations: a tensor for each mean, of
      the same shape, or `None` for a weight without a spread.
    noise: Standard normal numbers `[D]`, from `noise_for`.
  """
  sizes = [0 if s is None else math.prod(s.shape) for s in log_scales]
  parts = tf.split(noise, sizes)
  return [
    m if s is None else m + tf.exp(s) * tf.reshape(part, m.shape)
    for m, s, part in zip(means, log_scales, parts, strict=True)
  ]


def divergence(
  means: Weights,
  log_scales: LogScales,
  other_means: Weights,
  other_log_scales: LogScales,
) -> tf.Tensor:
  """Returns the Kullback-Leibler divergence of two Gaussians, in nats.

  Args:
    means: List of tensors, the means of the first Gaussian. The divergence is
      an expectation over this Gaussian.
    log_scales: Logarithms of the standard deviations of the first Gaussian: a
      tensor for each mean, of the same shape, or `None`.
    other_means: Means of the second Gaussian, of the same shapes.
    other_log_scales: Logarithms of the standard deviations of the second
      Gaussian, with `None` at the same places.

  Returns:
    Scalar, the sum over all weights that have a spread.
  """
  pairs: list[tuple[Any, Any]] = []
  for mean, scale, other_mean, other_scale in zip(
    means, log_scales, other_means, other_log_scales, strict=True
  ):
    if scale is not None and other_scale is not None:
      pairs.append((_normal(mean, scale), _normal(other_mean, other_scale)))
  kl_divergence = packages.probability().distributions.kl_divergence
  return tf.add_n([tf.reduce_sum(kl_divergence(q, p)) for q, p in pairs])


def _normal(mean: tf.Tensor, log_scale: tf.Tensor) -> Any:
  return packages.probability().distributions.Normal(mean, tf.exp(log_scale))


def _copy_weights(source: Any, model: keras.Model) -> None:
  """Copies the weights of the learner or model `source` into `model`."""
  source = getattr(source, "model", source)
  if not isinstance(source, keras.Model):
    raise ValueError(
      "`initial_from` must be a learner, such as a tfmeta.MAML. Received: "
      f"initial_from={source!r}"
    )
  shapes = [[w.shape for w in m.weights] for m in (source, model)]
  if shapes[0] != shapes[1]:
    raise ValueError(
      "`initial_from` must be a learner of an equal model. Received: weights "
      f"of the shapes {shapes[0]}, and {shapes[1]} in `model`"
    )
  model.set_weights(source.get_weights())
