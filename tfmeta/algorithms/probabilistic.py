"""Learners that predict with several samples of the adapted weights."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta import layers
from tfmeta import packages
from tfmeta.algorithms import meta_learner
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context
from tfmeta.core import checks
from tfmeta.core import functional
from tfmeta.core import inner_rule
from tfmeta.core import inputs as model_inputs
from tfmeta.core import losses
from tfmeta.core import random
from tfmeta.core import task_map
from tfmeta.layers import chosen_weights
from tfmeta.layers import copying
from tfmeta.typing import Weights


class ProbabilisticLearner(meta_learner.MetaLearner):
  """Meta-learner that predicts with M samples of the adapted weights.

  The adapted weights are structures of tensors `[M, ...]`. `predict_with` and
  `call` return the mean prediction of the samples. For logits of classes, this
  is the logarithm of the mean probability, which is a logit again. For
  regression, it is the mean of the outputs.

  A subclass writes `sampled_path` in place of `adaptation_path`.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`; for classification,
      `[n, W]` logits.
    num_samples: Integer >= 1. Number M of samples.
    noise_stddev: Float > 0. In regression, the standard deviation of targets
      around the outputs of one sample, which `predict_distribution` uses.
      Defaults to 1.0.
    **kwargs: Forwarded to `MetaLearner`, which describes them.
  """

  probabilistic = True
  takes_weights = True

  def __init__(
    self,
    model: keras.Model,
    *,
    num_samples: int,
    noise_stddev: float = 1.0,
    **kwargs: Any,
  ):
    super().__init__(model, **kwargs)
    arguments.check_integer("num_samples", num_samples, least=1)
    arguments.check_number("noise_stddev", noise_stddev, above=0)
    self.num_samples = num_samples
    self.noise_stddev = noise_stddev

  def adaptation_path(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> list[Any]:
    """Returns the weights of all samples before and after each inner step.

    Outside of training, the samples depend only on the seed of the learner and
    on the support set, regardless of the order of its examples. A task
    therefore has the same samples in `predict`, in `evaluate` and in an
    exported model.
    """
    if not context.training:
      # The fingerprint is the first to read the support set, so it needs the
      # check.
      support_x, support_y = self.checked_support(support_x, support_y)
      key = random.fingerprint(support_x, support_y, context.support_weight)
      context = context.replace(index=key)
    return self.sampled_path(support_x, support_y, context)

  def sampled_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor, context: Context
  ) -> list[Any]:
    """Returns the weights of all samples before and after each inner step.

    Args:
      support_x: Support examples, `[S, ...]`.
      support_y: Support targets, `[S, ...]`.
      context: Task, step and mode of the call.

    Returns:
      A list of structures of tensors `[M, ...]`, in the order that
      `MetaLearner.adaptation_path` describes.
    """
    raise NotImplementedError(
      f"{type(self).__name__} must define `sampled_path`"
    )

  def unrolls(self, context: Context = EVALUATION) -> bool:
    """Returns whether the graph holds a copy of each inner step, not a loop."""
    # TensorFlow cannot vectorize a loop over the samples and then over tasks.
    vectorized = self.task_map_method() == "vectorize"
    return vectorized or super().unrolls(context)

  def predict_with(
    self, weights: Any, x: tf.Tensor, context: Context = EVALUATION
  ) -> tf.Tensor:
    """Returns the mean prediction `[n, ...]` of all samples for `x`."""
    return self.mean_prediction(self.predict_samples(weights, x, context))

  def predict_samples(
    self, weights: Any, x: tf.Tensor, context: Context = EVALUATION
  ) -> tf.Tensor:
    """Returns the outputs `[M, n, ...]` of each sample for examples `x`.

    Args:
      weights: Weights returned by `adapt`.
      x: Examples, `[n, ...]`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.
    """
    checks.check_weights(weights, self.model, self.num_samples)

    def one_sample(weights: Weights, context: Context) -> tf.Tensor:
      return self.predict_sample(weights, x, context)

    return self.for_each_sample(one_sample, weights, context=context)

  def predict_sample(
    self, weights: Weights, x: tf.Tensor, context: Context = EVALUATION
  ) -> tf.Tensor:
    """Returns the outputs `[n, ...]` of one sample of the weights.

    Args:
      weights: Weights of one sample, without the axis M.
      x: Examples, `[n, ...]`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.
    """
    return super().predict_with(weights, x, context)

  def mean_prediction(self, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the joint prediction of samples with outputs `[M, n, ...]`."""
    return losses.mean_prediction_of(outputs, self.target_kind, self.inner_loss)

  def predict_distribution(self, weights: Any, x: tf.Tensor) -> Any:
    """Returns the distribution of the targets of examples `x`.

    Args:
      weights: Weights returned by `adapt`.
      x: Examples, `[n, ...]`.

    Returns:
      A TensorFlow Probability distribution of `[n]` targets. For classes, it is
      a `OneHotCategorical` whose mean holds the mean probabilities. For binary
      targets, it is a `Bernoulli` for each output. For regression, it is an
      equally weighted mixture of Gaussians, one around the outputs of each
      sample; `predict_with` returns the mean of this mixture.

    Raises:
      ImportError: If TensorFlow Probability is not installed.
    """
    distributions = packages.probability().distributions
    outputs = self.predict_samples(weights, x)
    if self.target_kind is losses.Targets.NUMBERS:
      return _mixture(distributions, outputs, self.noise_stddevs(weights))
    mean = self.mean_prediction(outputs)
    name = "logits" if losses.takes_logits(self.inner_loss) else "probs"
    if self.target_kind is losses.Targets.BINARY:
      axes = mean.shape.rank - 1
      bernoulli = distributions.Bernoulli(**{name: mean})
      return distributions.Independent(bernoulli, axes)
    return distributions.OneHotCategorical(**{name: mean})

  def noise_stddevs(
    self, weights: Any, given: float | None = None
  ) -> tf.Tensor:
    """Returns the standard deviations `[M]` of targets around each sample.

    Args:
      weights: Weights returned by `adapt`.
      given: A standard deviation that replaces the learner's own. Defaults to
        `None`, which keeps the learner's own.
    """
    del weights
    stddev = self.noise_stddev if given is None else given
    return tf.constant(stddev, self.variable_dtype, [self.num_samples])

  def for_each_sample(
    self,
    fn: Callable[..., Any],
    *structures: Any,
    count: int | None = None,
    context: Context = EVALUATION,
  ) -> Any:
    """Applies `fn` to each sample of one task.

    Args:
      fn: Maps the slices of `structures` for one sample to a structure of
        tensors. If it has an argument `context`, it receives the context of the
        sample.
      *structures: Structures of tensors `[M, ...]`.
      count: Integer, the number M of samples. Defaults to `num_samples`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.

    Returns:
      The structure that `fn` returns, each tensor stacked to `[M, ...]`.
    """
    return self.sample_map(fn, count=count, context=context)(*structures)

  def sample_map(
    self,
    fn: Callable[..., Any],
    *,
    count: int | None = None,
    context: Context = EVALUATION,
  ) -> Callable[..., Any]:
    """Returns `for_each_sample` as a function of the structures.

    All calls of it in one graph share one trace of `fn`.

    Args:
      fn: See `for_each_sample`.
      count: Integer, the number M of samples. Defaults to `num_samples`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.
    """

    def one_sample(index: tf.Tensor, *slices: Any) -> Any:
      return context.replace(sample=index).call(fn, *slices)

    # Vectorizing an eager call would build a graph for each call.
    eager = tf.executing_eagerly()
    method = "unroll" if eager else self.task_map_method()
    inline = not inner_rule.shares_steps(self, context)
    each = task_map.SampleMap(one_sample, method, inline=inline)
    samples = self.num_samples if count is None else count
    return lambda *structures: each(tf.range(samples), *structures)

  def to_model(self, weights: Weights) -> keras.Model:
    """Returns a plain Keras model that averages all samples.

    It predicts as `predict_with(weights, x)`.

    Args:
      weights: Weights returned by `adapt`.
    """
    checks.check_weights(weights, self.model, self.num_samples)
    to_model = super().to_model
    members = [
      to_model([w[index] for w in weights]) for index in range(self.num_samples)
    ]
    inputs = tf.nest.map_structure(
      lambda spec: keras.Input(
        spec.shape[1:], dtype=spec.dtype, name=spec.name
      ),
      model_inputs.input_specs(self.model),
    )
    mean = layers.MeanPrediction(members, self.inner_loss)
    return copying.called(keras.Model(inputs, mean(inputs)))

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "num_samples": self.num_samples,
      "noise_stddev": self.noise_stddev,
    }


def _mixture(distributions: Any, outputs: tf.Tensor, stddevs: tf.Tensor) -> Any:
  """Returns a Gaussian mixture over the leading axis of `[M, n, ...]`."""
  rank = outputs.shape.rank
  means = tf.transpose(outputs, [1, 0, *range(2, rank)])
  stddevs = tf.cast(stddevs, means.dtype)
  spread = tf.reshape(stddevs, [-1, *[1] * (rank - 2)])
  # All numbers of one target come from the same sample, so the mixture is over
  # their joint density.
  return distributions.MixtureSameFamily(
    distributions.Categorical(logits=tf.zeros_like(stddevs)),
    distributions.Independent(
      distributions.Normal(means, spread),
      reinterpreted_batch_ndims=rank - 2,
    ),
  )


class ParticleLearner(ProbabilisticLearner):
  """Meta-learner that adapts M sets of initial weights, the particles.

  The weights of the model are the first particle. The other particles start at
  fresh initializations of the model. Weights that are not specific to a
  particle belong to the model, and all particles start with them.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`, that can be created
      again from its configuration.
    num_particles: Integer >= 1. Number M of particles. Defaults to 5.
    particle_weights: Weights of which each particle has its own values: `"all"`
      (default); `"head"`, the last layer with trainable weights; a list of
      layer names; or a function from a variable to a boolean.
    **kwargs: Forwarded to `ProbabilisticLearner`, which describes them. They
      must not contain `num_samples`, because the samples are the particles.
  """

  def __init__(
    self,
    model: keras.Model,
    *,
    num_particles: int = 5,
    particle_weights: chosen_weights.WeightChoice = "all",
    **kwargs: Any,
  ):
    arguments.check_integer("num_particles", num_particles, least=1)
    if "num_samples" in kwargs:
      raise ValueError(
        "The samples of this learner are its particles: pass `num_particles`. "
        f"Received: num_samples={kwargs['num_samples']!r}"
      )
    super().__init__(model, num_samples=num_particles, **kwargs)
    self.num_particles = num_particles
    self.particle_weights = particle_weights
    self.specific = (
      [True] * len(model.trainable_variables)
      if particle_weights == "all"
      else chosen_weights.chosen_mask(
        model, "particle_weights", particle_weights
      )
    )
    self.further_particles = self._further_particles()

  def initial_particles(self) -> Weights:
    """Returns the initial weights of all particles, tensors `[M, ...]`."""
    further = iter(self.further_particles)
    count = self.num_particles
    particles = []
    for weight, specific in zip(
      functional.weights_of(self.model), self.specific, strict=True
    ):
      if specific and count > 1:
        others = tf.convert_to_tensor(next(further))
        first = tf.expand_dims(weight, axis=0)
        particles.append(tf.concat([first, others], axis=0))
      else:
        particles.append(tf.broadcast_to(weight, [count, *weight.shape]))
    return particles

  def get_config(self) -> dict[str, Any]:
    chosen = self.particle_weights
    if not isinstance(chosen, str):
      chosen = keras.saving.serialize_keras_object(chosen)
    config = super().get_config()
    config.pop("num_samples")
    config["num_particles"] = self.num_particles
    return {**config, "particle_weights": chosen}

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "ParticleLearner":
    chosen = keras.saving.deserialize_keras_object(config["particle_weights"])
    return super().from_config({**config, "particle_weights": chosen})

  def _further_particles(self) -> list[Any]:
    """Creates a variable `[M - 1, ...]` for each particle-specific weight."""
    if self.num_particles == 1:
      return []
    others = [self._fresh_weights() for _ in range(self.num_particles - 1)]
    self._check_apart(others)
    further = []
    for variable, specific, *values in zip(
      self.model.trainable_variables, self.specific, *others, strict=True
    ):
      if specific:
        value = tf.stack(values)
        further.append(
          self.add_weight(
            shape=value.shape,
            initializer=lambda *_, value=value, **__: value,
            dtype=variable.dtype,
            regularizer=_sum_over_particles(variable.regularizer),
            constraint=_for_each_particle(variable.constraint),
            name=f"further_{variable.path.replace('/', '_')}",
          )
        )
    return further

  def _check_apart(self, others: list[list[tf.Tensor]]) -> None:
    """Checks that two particles differ, because equal ones would stay equal."""
    own = functional.weights_of(self.model)
    pairs = zip(own, others[0], self.specific, strict=True)
    if all(np.array_equal(a, b) for a, b, specific in pairs if specific):
      raise ValueError(
        "Particles must start apart, but initializing the model again gives "
        "the weights that it already has: set no seed in its initializers, and "
        "choose `particle_weights` that do not start at zero. Received: "
        f"model={self.model.name!r}"
      )

  def _fresh_weights(self) -> list[tf.Tensor]:
    try:
      fresh = keras.models.clone_model(self.model)
      copying.match(fresh, self.model)
    except (NotImplementedError, TypeError, ValueError) as error:
      raise ValueError(
        "`model` must be one that keras.models.clone_model can initialize "
        "again, for particles to start apart. Received: "
        f"model={self.model.name!r} ({error})"
      ) from error
    return [tf.convert_to_tensor(v) for v in fresh.trainable_variables]


def _sum_over_particles(regularizer: Any) -> Any:
  """Returns a regularizer of `[M, ...]` weights for one of `[...]` weights."""
  if regularizer is None:
    return None
  return lambda particles: tf.add_n(
    [regularizer(one) for one in tf.unstack(particles)]
  )


def _for_each_particle(constraint: Any) -> Any:
  """Returns a constraint of `[M, ...]` weights for one of `[...]` weights."""
  if constraint is None:
    return None
  return lambda particles: tf.stack(
    [constraint(one) for one in tf.unstack(particles)]
  )
