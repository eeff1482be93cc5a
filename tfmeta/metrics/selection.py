"""Accuracy on the predictions that a learner is most confident of."""

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
  """Accuracy on the most confident share of predictions [1].

  Args:
    confidence: `[n]` numbers, larger where more confident.
    right: `[n]`, whether each prediction is right.
    coverages: Shares in (0, 1] of predictions that are kept; at least one is.

  Returns:
    Float64, one for each of `coverages`. Where equals stand on both sides of a
    limit, each counts by the share of them that is kept.

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
  _, group = np.unique(-confidence, return_inverse=True)
  sizes = np.bincount(group)
  mean = np.bincount(group, weights=right) / sizes
  ordered = np.repeat(mean, sizes)
  kept = np.maximum(1, np.round(shares * len(right)))
  return np.cumsum(ordered)[kept.astype(int) - 1] / kept
