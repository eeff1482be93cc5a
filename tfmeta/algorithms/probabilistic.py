"""What learners share that predict with several draws of the weights."""

from collections.abc import Callable
import dataclasses
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfmeta import layers
from tfmeta.algorithms import losses
from tfmeta.algorithms import meta_learner
from tfmeta.algorithms import settings
from tfmeta.core import functional
from tfmeta.core import random
from tfmeta.core import samples
from tfmeta.core import task_map
from tfmeta.typing import Weights


class ProbabilisticLearner(meta_learner.MetaLearner):
  """A learner whose adapted weights are draws: lists of tensors `[M, ...]`.

  `predict_with`, and with it `call`, gives their mean prediction: for logits
  and labels the logarithm of the mean probability, which is a logit again; for
  regression the mean.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`.
    num_samples: Integer >= 1, M.
    noise_stddev: Float > 0. In regression, the standard deviation of targets
      around the outputs of one draw, for `predict_distribution`;
      default 1.0.
    **kwargs: Those of `MetaLearner`.
  """

  def __init__(
    self,
    model: keras.Model,
    *,
    num_samples: int,
    noise_stddev: float = 1.0,
    **kwargs: Any,
  ):
    super().__init__(model, **kwargs)
    losses.check_likelihood(self.inner_loss)
    settings.check_positive("num_samples", num_samples)
    settings.check_rate("noise_stddev", noise_stddev)
    self.num_samples = num_samples
    self.noise_stddev = noise_stddev

  def adapt(self, support_x: tf.Tensor, support_y: tf.Tensor) -> Any:
    return self.adaptation_path(support_x, support_y)[-1]

  def adaptation_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Any]:
    """As for any learner. Subclasses implement `drawn_path`.

    Outside of training, draws are decided by the seed of the learner and by the
    support set, in whatever order and batch it comes: so a task has the same
    draws in `predict`, in `evaluate` and in an exported model.
    """
    if self.task_pass.training:
      return self.drawn_path(support_x, support_y)
    self.checked_support(support_x, support_y)  # Before anything reads it.
    key = random.fingerprint(support_x, support_y)
    with self._in_pass(dataclasses.replace(self.task_pass, index=key)):
      return self.drawn_path(support_x, support_y)

  def drawn_path(self, support_x: tf.Tensor, support_y: tf.Tensor) -> list[Any]:
    """Weights of all draws, before adapting and after each inner step.

    Args:
      support_x: `[S, ...]`.
      support_y: `[S, ...]`.

    Returns:
      Structures of tensors `[M, ...]`.
    """
    raise NotImplementedError

  def predict_with(self, weights: Any, x: tf.Tensor) -> tf.Tensor:
    """Mean prediction `[n, ...]` of all draws for examples `x`."""
    return self.mean_prediction(self.predict_samples(weights, x))

  def predict_samples(self, weights: Any, x: tf.Tensor) -> tf.Tensor:
    """Outputs `[M, n, ...]` of each draw for examples `x`."""
    return self.for_each_sample(lambda w: self.predict_draw(w, x), weights)

  def predict_draw(self, weights: Weights, x: tf.Tensor) -> tf.Tensor:
    """Outputs `[n, ...]` of one draw, a list of tensors without their M."""
    return super().predict_with(weights, x)

  def mean_prediction(self, outputs: tf.Tensor) -> tf.Tensor:
    """What draws with outputs `[M, n, ...]` predict together."""
    return samples.mean_prediction(outputs, self.inner_loss)

  def predict_distribution(self, weights: Any, x: tf.Tensor) -> Any:
    """What targets of examples `x` may be, a TFP distribution over `[n]`.

    For labels a `OneHotCategorical`, whose mean are the mean probabilities;
    otherwise a mixture, with equal shares, of a Gaussian around the outputs of
    each draw, whose mean is what `predict_with` gives.
    """
    outputs = self.predict_samples(weights, x)
    if functional.takes_labels(self.inner_loss):
      mean = self.mean_prediction(outputs)
      kind = "logits" if samples.from_logits(self.inner_loss) else "probs"
      return tfp.distributions.OneHotCategorical(**{kind: mean})
    return self._mixture(outputs, self.noise_stddevs(weights))

  def noise_stddevs(
    self, weights: Any, given: float | None = None
  ) -> tf.Tensor:
    """Standard deviation `[M]` of targets around the outputs of each draw.

    Args:
      weights: What `adapt` returned.
      given: In place of the learner's own, be it constant or learned.
    """
    del weights
    stddev = self.noise_stddev if given is None else given
    return tf.constant(stddev, self.variable_dtype, [self.num_samples])

  def for_each_sample(
    self, fn: Callable[..., Any], *structures: Any, count: int | None = None
  ) -> Any:
    """Applies `fn` to each of the draws of one task.

    Args:
      fn: Maps the slices of `structures` for one draw to a structure of
        tensors; `task_seed` is the draw's own there.
      *structures: Structures of tensors `[M, ...]`.
      count: M; by default `num_samples`.

    Returns:
      The structure of `fn`, each tensor stacked to `[M, ...]`.
    """
    flat = tf.nest.flatten(structures)

    def one_sample(index: tf.Tensor, *tensors: tf.Tensor) -> Any:
      with self._in_pass(dataclasses.replace(self.task_pass, sample=index)):
        return fn(*tf.nest.pack_sequence_as(structures, list(tensors)))

    indices = tf.range(self.num_samples if count is None else count)
    # Vectorised eagerly, a graph would be built for each call.
    method = "unroll" if tf.executing_eagerly() else self._method()
    return task_map.map_draws(one_sample, (indices, *flat), method)

  def to_model(self, weights: Weights) -> keras.Model:
    """A plain Keras model of all draws, which predicts as `predict_with`."""
    to_model = super().to_model
    members = [
      to_model([w[index] for w in weights]) for index in range(self.num_samples)
    ]
    inputs = keras.Input(
      self.model.input_shape[1:], dtype=self.model.inputs[0].dtype
    )
    mean = layers.MeanPrediction(members, self.inner_loss)
    return keras.Model(inputs, mean(inputs))

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "num_samples": self.num_samples,
      "noise_stddev": self.noise_stddev,
    }

  def _mixture(self, outputs: tf.Tensor, stddevs: tf.Tensor) -> Any:
    """Mixture over the leading axis of `outputs`, `[M, n, ...]`."""
    rank = outputs.shape.rank
    means = tf.transpose(outputs, [1, 0, *range(2, rank)])
    stddevs = tf.cast(stddevs, means.dtype)
    spread = tf.reshape(stddevs, [-1, *[1] * (rank - 2)])
    # One draw for all the numbers of a target, which are independent under it.
    return tfp.distributions.MixtureSameFamily(
      tfp.distributions.Categorical(logits=tf.zeros_like(stddevs)),
      tfp.distributions.Independent(
        tfp.distributions.Normal(means, spread),
        reinterpreted_batch_ndims=rank - 2,
      ),
    )
