"""Means over tasks and their confidence intervals."""

import sys

import numpy as np
import numpy.typing as npt


def mean_and_interval(
  values: npt.ArrayLike, *, axis: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the mean over tasks and its 95% confidence interval.

  The half-width of the interval is `1.96 * s / sqrt(n)`, where s is the sample
  standard deviation (ddof = 1) of the n values. It shows how much the mean may
  change with another sample of tasks. It does not show how much the mean may
  change with another training run.

  Args:
    values: `[..., n, ...]`, one number for each task.
    axis: Axis of the tasks. Defaults to 0.

  Returns:
    Mean and half-width, float64, of the shape of `values` without `axis`. The
    half-width is NaN if there is only one task.

  Raises:
    ValueError: If there is no task.
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


def plus_minus() -> str:
  """Returns "±", or "+-" where standard output cannot show it."""
  encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
  try:
    "±".encode(encoding)
  except (UnicodeEncodeError, LookupError):
    return "+-"
  return "±"
