"""Predictions of all samples of a learner, and how good they are.

Shapes use T for tasks, M for samples (or particles) and n for points. A learner
that makes a single prediction, such as MAML, counts as one with M = 1.
"""

from collections.abc import Callable
import math
from typing import Any

import numpy as np
import tensorflow as tf

import tfmeta

# Noise levels that `choose_noise` tries, as fractions of its scale.
NOISE_LEVELS = np.geomspace(0.1, 1.0, 11)

# Distances from the nearest support point that count as near to it and as far
# from it. Functions are defined on [-5, 5].
NEAR, FAR = 0.5, 2.0


def predict_samples(
  learner: tfmeta.MetaLearner, weights: Any, x: tf.Tensor
) -> tf.Tensor:
  """Returns the outputs `[M, n, ...]` of all samples for one adapted task."""
  if isinstance(learner, tfmeta.ProbabilisticLearner):
    return learner.predict_samples(weights, x)
  return learner.predict_with(weights, x)[tf.newaxis]


def predict_functions(
  learner: tfmeta.MetaLearner,
  support_x: np.ndarray,
  support_y: np.ndarray,
  x: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Adapts a regression learner to each task and returns all its samples.

  Args:
    learner: A learner of functions of one variable.
    support_x: Support inputs, `[T, S, 1]`.
    support_y: Support targets, `[T, S, 1]`.
    x: Inputs to predict at, `[T, n, 1]`.

  Returns:
    Outputs `[T, M, n]`, and the standard deviations `[T, M]` of the observation
    noise that the learner itself assumes. These are NaN for a learner that
    assumes none.
  """

  def one_task(support_x, support_y, x):
    weights = learner.adapt(support_x, support_y)
    outputs = predict_samples(learner, weights, x)[..., 0]
    if isinstance(learner, tfmeta.ProbabilisticLearner):
      return outputs, learner.noise_stddevs(weights)
    return outputs, tf.constant([np.nan], tf.float32)

  found = map_tasks(learner, one_task, support_x, support_y, x)
  return tuple(tensor.numpy() for tensor in found)


def map_tasks(
  learner: tfmeta.MetaLearner, one_task: Callable[..., Any], *arrays: Any
) -> Any:
  """Applies `one_task` to each slice of `arrays` and stacks the results.

  The learner's own task map does this in a single graph.
  """

  @tf.function(autograph=False)
  def all_tasks(*tensors):
    return learner.for_each_task(one_task, tensors)

  return all_tasks(*(tf.convert_to_tensor(array) for array in arrays))


def squared_error(targets: np.ndarray, outputs: np.ndarray) -> float:
  """Returns the mean squared error of the mean over samples.

  Args:
    targets: `[T, n]`.
    outputs: `[T, M, n]`.
  """
  return float(np.mean((targets - outputs.mean(axis=1)) ** 2))


def mixture_losses(
  targets: np.ndarray, outputs: np.ndarray, stddevs: float | np.ndarray
) -> np.ndarray:
  """Returns the negative log-likelihood per target, for each task, `[T]`.

  The predictive distribution is an equal mixture of Gaussians, one around the
  output of each sample.

  Args:
    targets: `[T, n]`.
    outputs: `[T, M, n]`.
    stddevs: Standard deviation of the noise around each sample, a number or
      `[T, M]`.
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
  """Returns the mean of `mixture_losses` over tasks.

  Args:
    targets: `[T, n]`.
    outputs: `[T, M, n]`.
    stddevs: Standard deviation of the noise around each sample, a number or
      `[T, M]`.
  """
  return float(np.mean(mixture_losses(targets, outputs, stddevs)))


def choose_noise(
  targets: np.ndarray, outputs: np.ndarray, scale: float | None = None
) -> float:
  """Returns the noise around samples under which the targets are likeliest.

  Call this on validation tasks and pass the result to `mixture_loss` on test
  tasks.

  Args:
    targets: `[T, n]`.
    outputs: `[T, M, n]`.
    scale: Largest standard deviation to try. Defaults to the root mean squared
      error, which is useless if a single task diverged.
  """
  if scale is None:
    scale = math.sqrt(squared_error(targets, outputs))
  candidates = NOISE_LEVELS * scale
  return float(min(candidates, key=lambda s: mixture_loss(targets, outputs, s)))


def spread_by_distance(
  outputs: np.ndarray, x: np.ndarray, support_x: np.ndarray
) -> dict[str, float | None]:
  """Returns the mean standard deviation over samples, near data and far.

  Samples should agree near the support points and differ far from them.

  Args:
    outputs: Outputs at the points of a grid, `[T, M, n]`.
    x: The grid, the same for all tasks, `[n, 1]`.
    support_x: Support inputs, `[T, S, 1]`.

  Returns:
    The mean standard deviation `near` to a support point (within 0.5), `far`
    from all of them (2 or more; `None` if the grid has no such point) and
    `everywhere`.
  """
  deviation = outputs.std(axis=1)
  distance = np.abs(x[:, 0] - support_x).min(axis=1)  # [T, n]
  far = deviation[distance >= FAR]
  return {
    "near": float(deviation[distance <= NEAR].mean()),
    "far": float(far.mean()) if len(far) else None,
    "everywhere": float(deviation.mean()),
  }
