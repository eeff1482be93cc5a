"""Compares gradients with central differences, over several step sizes."""

from collections.abc import Callable
from collections.abc import Sequence
import itertools
import math
from typing import NamedTuple

import tensorflow as tf

# Step sizes, as shares of the norm of the point. Large steps keep rounding
# errors small; small steps cross no kink of ReLU or max pooling.
STEPS = (1e-5, 1e-6, 1e-7, 1e-8)
_TRIES = 4

Evaluate = Callable[
  [Sequence[tf.Tensor]], tuple[tf.Tensor, Sequence[tf.Tensor]]
]


class Agreement(NamedTuple):
  """The agreement of a gradient with central differences.

  Attributes:
    error: Relative error at the largest step size that agrees within the
      tolerance; if there is none, at the step size that agrees best.
    settled: Whether the differences agree with the gradient, or with each other
      much better than with the gradient. If not, nothing can be concluded.
  """

  error: float
  settled: bool


def compare(
  evaluate: Evaluate,
  point: Sequence[tf.Tensor],
  *,
  seed: int,
  tolerance: float,
) -> Agreement:
  """Compares a gradient with central differences along a random direction.

  The error is relative to the derivative that is expected along a random
  direction: the norm of the gradient over the square root of the number of its
  entries. If every interval contains a kink, the differences do not settle, and
  other directions are tried.

  Args:
    evaluate: Function from a point to a scalar and its gradient.
    point: List of float64 tensors.
    seed: Seed of the direction.
    tolerance: Largest relative error at which a gradient counts as right.

  Returns:
    The agreement along the first direction that settles; if none does, along
    the last one that was tried.
  """
  gradient = evaluate(point)[1]
  agreement = Agreement(float("inf"), False)
  for attempt in range(_TRIES):
    direction = random_like(point, seed + 1000 * attempt)
    agreement = _along(evaluate, point, gradient, direction, tolerance)
    if agreement.settled:
      break
  return agreement


def random_like(
  tensors: Sequence[tf.Tensor], seed: int, dtype: str = "float64"
) -> list[tf.Tensor]:
  """Returns standard normal tensors with the shapes of `tensors`.

  Args:
    tensors: List of tensors.
    seed: Integer; equal seeds give equal tensors.
    dtype: Floating-point dtype. Defaults to `"float64"`.
  """
  return [
    tf.random.stateless_normal(
      tensor.shape, [seed, index], dtype=dtype, alg="philox"
    )
    for index, tensor in enumerate(tensors)
  ]


def _along(evaluate, point, gradient, direction, tolerance):
  """Returns the `Agreement` along one direction."""
  unit = float(tf.linalg.global_norm(direction))
  size = float(tf.linalg.global_norm(point)) / unit
  slope = float(_dot(gradient, direction))
  entries = sum(tensor.shape.num_elements() for tensor in point)
  expected = float(tf.linalg.global_norm(gradient)) * unit / entries**0.5
  error, differences = float("inf"), []
  for step in STEPS:
    above, below = (
      float(evaluate(_move(point, direction, sign * step * size))[0])
      for sign in (1, -1)
    )
    difference = (above - below) / (2 * step * size)
    if not math.isfinite(slope + difference):
      return Agreement(float("inf"), True)
    # Where the gradient is zero, the scale is that of rounding errors.
    scale = max(abs(slope), expected, 1e-9 * abs(above) / size, 1e-30)
    error = min(error, abs(difference - slope) / max(scale, abs(difference)))
    if error <= tolerance:
      return Agreement(error, True)
    differences.append(difference)
  # Without agreement, the differences tell only if they agree with each other.
  spread = min(
    abs(a - b) / max(abs(slope), abs(a))
    for a, b in itertools.pairwise(differences)
  )
  return Agreement(error, spread < 0.1 * error)


def _dot(left, right):
  return sum(tf.reduce_sum(a * b) for a, b in zip(left, right, strict=True))


def _move(point, direction, step):
  return [p + step * d for p, d in zip(point, direction, strict=True)]
