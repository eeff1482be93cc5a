"""Distributions of actions, from the outputs of a policy."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfmeta import packages
from tfmeta.core import random
from tfmeta.core import task_map

# The logarithm of the least standard deviation of an action.
_LEAST_LOG_STDDEV = -13.815510557964274  # log(1e-6)

DISTRIBUTIONS = ("gaussian", "categorical")


class ActionDistribution:
  """A family of distributions of actions, whose parameters a policy returns.

  Args:
    kind: `"gaussian"`: the parameters are the mean and the logarithm of the
      standard deviation of each number of the action. `"categorical"`: the
      parameters are logits of the choices. Or a function from parameters `[...,
      k]` to a TensorFlow Probability distribution with batch shape `[...]`
      that has `log_prob`, `sample` and a registered `kl_divergence`.
    actions: Integer, the numbers of an action, or the number of choices.
  """

  def __init__(self, kind: str | Callable[..., Any], actions: int):
    self.kind = kind
    self.actions = actions
    self._distributions = packages.probability().distributions

  @property
  def parameters(self) -> int | None:
    """The number of parameters; `None` if a function decides it."""
    sizes = {"gaussian": 2 * self.actions, "categorical": self.actions}
    return sizes[self.kind] if isinstance(self.kind, str) else None

  def at(self, parameters: tf.Tensor) -> Any:
    """Returns the distribution with parameters `[..., k]`."""
    if callable(self.kind):
      return self.kind(parameters)
    if self.kind == "categorical":
      return self._distributions.Categorical(logits=parameters)
    mean, stddev = _mean_and_stddev(parameters)
    # The log-probability of an action is the sum over its numbers.
    normal = self._distributions.Normal(mean, stddev)
    return self._distributions.Independent(normal, 1)

  def log_prob(self, parameters: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Returns the log-probabilities `[...]` of `actions`."""
    return self.at(parameters).log_prob(actions)

  def divergence(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Returns `KL(old || new)`, `[...]`, of parameters `[..., k]`."""
    return self.at(old).kl_divergence(self.at(new))

  def curvature(self, parameters: tf.Tensor, tangent: tf.Tensor) -> tf.Tensor:
    """Returns the Hessian of the divergence, applied to a tangent.

    The Hessian is that of `KL(parameters || z)` in z, at z = parameters, where
    it is the Fisher information.

    Args:
      parameters: `[..., k]`.
      tangent: `[..., k]`.
    """
    parameters = tf.stop_gradient(parameters)
    with tf.GradientTape() as outer:
      outer.watch(parameters)
      with tf.GradientTape() as inner:
        inner.watch(parameters)
        divergence = self.divergence(tf.stop_gradient(parameters), parameters)
      slope = inner.gradient(divergence, parameters)
    return outer.gradient(slope, parameters, output_gradients=tangent)

  def mode(self, parameters: tf.Tensor) -> tf.Tensor:
    """Returns the most likely actions."""
    return self.at(parameters).mode()

  def noise(self, seed: tf.Tensor, horizon: int, episodes: int) -> tf.Tensor:
    """Returns what `sample` needs to act one task, a function of the seed.

    Args:
      seed: Integers `[2]`.
      horizon: Integer, the number H of steps.
      episodes: Integer, the number B of episodes.

    Returns:
      Random numbers `[H, B, actions]`, or seeds `[H, 2]` if the distribution is
      a function of the user.
    """
    shape = [horizon, episodes, self.actions]
    if self.kind == "gaussian":
      return random.normal(shape, seed, tf.float32)
    if self.kind == "categorical":
      uniform = random.uniform(shape, seed, tf.float32)
      return -tf.math.log(-tf.math.log(uniform))
    steps = tf.range(horizon)
    return tf.vectorized_map(lambda step: random.fold_in(seed, step), steps)

  def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Samples the actions of one step, for a batch of tasks.

    Args:
      parameters: `[T, B, k]`.
      noise: `[T, ...]`, one step of the `noise` of each task.

    Returns:
      `[T, B, a]`, or integers `[T, B]`.
    """
    if self.kind == "gaussian":
      mean, stddev = _mean_and_stddev(parameters)
      return mean + stddev * tf.cast(noise, mean.dtype)
    if self.kind == "categorical":
      # The largest of the logits with Gumbel noise is a sample.
      noisy = parameters + tf.cast(noise, parameters.dtype)
      return tf.argmax(noisy, axis=-1, output_type=tf.int32)
    return task_map.map_tasks(self._sample_task, (parameters, noise), "map")

  def _sample_task(self, parameters: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return self.at(parameters).sample(seed=seed)


def _mean_and_stddev(parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  mean, log_stddev = tf.split(parameters, 2, axis=-1)
  return mean, tf.exp(tf.maximum(log_stddev, _LEAST_LOG_STDDEV))
