"""What the draws of a learner predict, for many tasks at once."""

from collections.abc import Callable
import math
from typing import Any

import numpy as np
import tensorflow as tf

import tfmeta

# Shares of a scale, such as the root mean squared error of the mean prediction.
NOISES = np.geomspace(0.1, 1.0, 11)


def samples_of(
  learner: tfmeta.MetaLearner, weights: Any, x: tf.Tensor
) -> tf.Tensor:
  """Outputs `[M, n, ...]` of all draws; a single prediction is the draw."""
  if isinstance(learner, tfmeta.ProbabilisticLearner):
    return learner.predict_samples(weights, x)
  return learner.predict_with(weights, x)[tf.newaxis]


def outputs_of(
  learner: tfmeta.MetaLearner, *arrays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Outputs of all draws after adapting, in regression.

  Args:
    learner: Of M draws, or of a single prediction, which is then the draw.
    *arrays: `support_x`, `support_y` and `x`, `[T, n, 1]` each.

  Returns:
    Outputs at `x`, `[T, M, n]`, and the standard deviations of the noise that
    the learner takes for its own, `[T, M]`: NaN if it has none.
  """

  def one_task(support_x, support_y, x):
    weights = learner.adapt(support_x, support_y)
    outputs = samples_of(learner, weights, x)[..., 0]
    if isinstance(learner, tfmeta.ProbabilisticLearner):
      return outputs, learner.noise_stddevs(weights)
    return outputs, tf.constant([np.nan], tf.float32)

  return tuple(t.numpy() for t in of_tasks(learner, one_task, *arrays))


def of_tasks(
  learner: tfmeta.MetaLearner, one_task: Callable[..., Any], *arrays: Any
) -> Any:
  """What `one_task` makes of the slices of `arrays`, stacked, in one graph."""

  @tf.function(autograph=False)
  def all_tasks(*tensors):
    return learner.for_each_task(one_task, tensors)

  return all_tasks(*(tf.convert_to_tensor(array) for array in arrays))


def mixture_losses(
  targets: np.ndarray, outputs: np.ndarray, stddevs: float | np.ndarray
) -> np.ndarray:
  """Negative log-likelihood per target `[T]` under the mixture of all draws.

  Args:
    targets: `[T, n]`.
    outputs: `[T, M, n]`.
    stddevs: Of the noise around each draw, a number or `[T, M]`.
  """
  stddevs = np.broadcast_to(stddevs, outputs.shape[:2])
  tasks = (tf.cast(part, tf.float32) for part in (targets, outputs, stddevs))
  losses = tf.vectorized_map(
    lambda task: tfmeta.metrics.mixture_negative_log_likelihood(*task),
    tuple(tasks),
  )
  return losses.numpy()


def mixture_loss(
  targets: np.ndarray, outputs: np.ndarray, stddevs: float | np.ndarray
) -> float:
  """Mean of `mixture_losses` over tasks."""
  return float(np.mean(mixture_losses(targets, outputs, stddevs)))


def chosen_noise(
  targets: np.ndarray, outputs: np.ndarray, scale: float | None = None
) -> float:
  """Noise around draws, of those tried, under which targets are likeliest.

  Args:
    targets: `[T, n]`.
    outputs: `[T, M, n]`.
    scale: The largest to try, by default the root mean squared error, which a
      single task that diverged would make useless.
  """
  if scale is None:
    scale = math.sqrt(squared_error(targets, outputs))
  candidates = NOISES * scale
  return float(min(candidates, key=lambda s: mixture_loss(targets, outputs, s)))


def squared_error(targets: np.ndarray, outputs: np.ndarray) -> float:
  """Of the mean prediction."""
  return float(np.mean((targets - outputs.mean(axis=1)) ** 2))
