"""Selective accuracy: accuracy on the most confident predictions."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

COVERAGES = tuple(tenths / 10 for tenths in range(1, 11))


def selective_accuracy(
  confidence: npt.ArrayLike,
  right: npt.ArrayLike,
  *,
  coverages: Sequence[float] = COVERAGES,
) -> np.ndarray:
  """Computes the accuracy on the most confident shares of predictions [1].

  Args:
    confidence: `[n]` numbers, larger for more confident predictions.
    right: `[n]`, whether each prediction is right.
    coverages: Shares in (0, 1] of the predictions to keep, the most confident
      ones first. At least one prediction is always kept. Defaults to 0.1, 0.2,
      ..., 1.

  Returns:
    Float64, one accuracy for each of `coverages`. If only some of several
    equally confident predictions are kept, their mean accuracy stands for them.

  Raises:
    ValueError: If there are no predictions, if `confidence` and `right` differ
      in length, or if a coverage is not in (0, 1].

  References:
    [1] Y. Geifman, R. El-Yaniv. Selective Classification for Deep Neural
        Networks. NeurIPS 2017. https://arxiv.org/abs/1705.08500
  """
  confidence = np.ravel(np.asarray(confidence))
  right = np.ravel(np.asarray(right, dtype="float64"))
  if not len(right) or len(right) != len(confidence):
    raise ValueError(
      "`confidence` and `right` must hold one number for each prediction. "
      f"Received: {len(confidence)} and {len(right)}"
    )
  shares = np.asarray(coverages)
  if not ((shares > 0) & (shares <= 1)).all():
    raise ValueError(
      "`coverages` must be above 0 and at most 1. "
      f"Received: coverages={shares.tolist()}"
    )
  # Each prediction counts with the mean of its group of equal confidence, so
  # that the order within a group does not matter. Groups are sorted from the
  # most confident on.
  _, group = np.unique(-confidence, return_inverse=True)
  sizes = np.bincount(group)
  mean = np.bincount(group, weights=right) / sizes
  ordered = np.repeat(mean, sizes)
  kept = np.maximum(1, np.round(shares * len(right)))
  return np.cumsum(ordered)[kept.astype(int) - 1] / kept
