"""What learners share that learn several initial weights at once."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta.algorithms import probabilistic
from tfmeta.algorithms import settings
from tfmeta.core import functional
from tfmeta.layers import chosen_weights
from tfmeta.typing import Weights


class ParticleLearner(probabilistic.ProbabilisticLearner):
  """A learner of M initial weights, which adapt side by side.

  The weights of the model are the first particle; the others begin where
  initialising the model again begins. Weights that are not particle-specific
  are the model's alone, and begin alike in all particles.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`, that can be made again
      from its configuration.
    num_particles: Integer >= 1, M.
    particle_weights: Which weights each particle has of its own: `"all"`;
      `"head"`, the last layer with trainable weights; a list of names of
      layers; or a function from a variable to a boolean.
    **kwargs: Those of `ProbabilisticLearner`, but for `num_samples`, which is
      `num_particles`.
  """

  def __init__(
    self,
    model: keras.Model,
    *,
    num_particles: int = 5,
    particle_weights: chosen_weights.WeightChoice = "all",
    **kwargs: Any,
  ):
    settings.check_positive("num_particles", num_particles)
    if "num_samples" in kwargs:
      raise ValueError(
        "Draws are particles here: give `num_particles`. "
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
    """The initial weights of all particles: one tensor `[M, ...]` for each."""
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
    """Variables `[M - 1, ...]`, for each particle-specific weight."""
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
            name=f"further_{variable.path.replace('/', '_')}",
          )
        )
    return further

  def _check_apart(self, others: list[list[tf.Tensor]]) -> None:
    """Particles that begin as one stay one, whatever they learn."""
    own = functional.weights_of(self.model)
    pairs = zip(own, others[0], self.specific, strict=True)
    if all(np.array_equal(a, b) for a, b, specific in pairs if specific):
      raise ValueError(
        "Particles must begin apart, but initialising the model again gives "
        "the weights that it has: give no seed to its initializers, and do not "
        "begin with zeros what `particle_weights` chooses. Received: "
        f"model={self.model.name!r}"
      )

  def _fresh_weights(self) -> list[tf.Tensor]:
    try:
      fresh = keras.models.clone_model(self.model)
    except (NotImplementedError, TypeError, ValueError) as error:
      raise ValueError(
        "`model` must be one that keras.models.clone_model can initialise "
        "again, for particles to begin apart. Received: "
        f"model={self.model.name!r} ({error})"
      ) from error
    return [tf.convert_to_tensor(v) for v in fresh.trainable_variables]
