"""Means over tasks, and how sure they are."""

import numpy as np
import numpy.typing as npt


def mean_and_interval(
  values: npt.ArrayLike, *, axis: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Mean over tasks and the half-width of its 95 % confidence interval.

  The half-width is `1.96 * s / sqrt(n)`, with the sample standard deviation s
  (ddof = 1) of the n per-task values: how far another draw of tasks might move
  the mean, and nothing of how far another training run would.

  Args:
    values: One number per task, `[..., n, ...]`.
    axis: The axis of the tasks. Default 0.

  Returns:
    Mean and half-width, float64, of the shape of `values` without `axis`. The
    half-width of a single task is NaN; no task at all is a `ValueError`.
  """
  values = np.asarray(values, dtype="float64")
  tasks = values.shape[axis] if values.ndim else 0
  if not tasks:
    raise ValueError(
      "A mean over tasks needs at least one task. "
      f"Received: values of shape {values.shape}"
    )
  mean = values.mean(axis=axis)
  if tasks == 1:
    return mean, np.full_like(mean, np.nan)
  deviation = values.std(axis=axis, ddof=1)
  return mean, 1.96 * deviation / np.sqrt(tasks)
