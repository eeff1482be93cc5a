"""Compares gradients with central differences, over several step sizes."""

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import NamedTuple

import tensorflow as tf

from tfmeta.core import keras_internals

# Step sizes, as shares of the norm of the point. Large steps keep rounding
# errors small; small steps cross no kink of ReLU or max pooling.
STEPS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
_TRIES = 4

# In float32, rounding errors leave only large steps and a larger tolerance.
FLOAT32_STEPS = (3e-2, 2e-2, 1e-2, 5e-3, 2e-3, 1e-3)
FLOAT32_TOLERANCE = 3e-4

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
    tolerance: Largest relative error at which the gradient counts as right.
  """

  error: float
  settled: bool
  tolerance: float

  @property
  def passed(self) -> bool | None:
    """Whether the gradient is right, `None` if this could not be decided."""
    return self.error <= self.tolerance if self.settled else None


def compare(
  evaluate: tf.types.experimental.ConcreteFunction,
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
    evaluate: Traced function from a point to a scalar and its gradient.
    point: List of float64 or float32 tensors.
    seed: Seed of the direction.
    tolerance: Largest relative error at which a gradient counts as right. If
      any part is computed in float32, it is at least `FLOAT32_TOLERANCE`.

  Returns:
    The agreement along the first direction that settles; if none does, along
    the last one that was tried.
  """
  if point[0].dtype == tf.float64:
    agreement = _compare(evaluate, point, seed, tolerance, STEPS)
    if agreement.passed or not _is_in_part_float32(evaluate.graph):
      return agreement
  tolerance = max(tolerance, FLOAT32_TOLERANCE)
  return _compare(evaluate, point, seed, tolerance, FLOAT32_STEPS)


def _compare(
  evaluate: Evaluate,
  point: Sequence[tf.Tensor],
  seed: int,
  tolerance: float,
  steps: Sequence[float],
) -> Agreement:
  (value, gradient), (again, _) = evaluate(point), evaluate(point)
  agreement = Agreement(float("inf"), False, tolerance)
  # With new random numbers in each call, all differences are meaningless.
  if abs(float(value) - float(again)) > 1e-3 * tolerance * abs(float(value)):
    return agreement
  # Along one direction, an error below the tolerance of float32 may be luck.
  passes, needed = 0, 1 if steps is STEPS else 2
  for attempt in range(_TRIES):
    direction = random_like(point, seed + 1000 * attempt, point[0].dtype)
    agreement = _along(evaluate, point, gradient, direction, tolerance, steps)
    if agreement.settled:
      passes += 1
      if passes == needed or not agreement.passed:
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


def _along(evaluate, point, gradient, direction, tolerance, steps):
  """Returns the `Agreement` along one direction."""
  unit = float(tf.linalg.global_norm(direction))
  size = float(tf.linalg.global_norm(point)) / unit
  slope = float(_dot(gradient, direction))
  entries = sum(tensor.shape.num_elements() for tensor in point)
  expected = float(tf.linalg.global_norm(gradient)) * unit / entries**0.5
  error, differences, agreeing = float("inf"), [], 0
  # Steps of float32 are large, so that one alone may agree by chance.
  needed = 1 if steps is STEPS else 2
  for step in steps:
    above, below, *further = (
      float(evaluate(_move(point, direction, share * step * size))[0])
      for share in ((1, -1) if steps is STEPS else (1, -1, 2, -2))
    )
    difference = above - below
    if further:
      # A difference of fourth order allows for larger steps.
      difference = (8 * difference - further[0] + further[1]) / 6
    difference /= 2 * step * size
    if not math.isfinite(slope + difference):
      return Agreement(float("inf"), True, tolerance)
    # Where the gradient is zero, the scale is that of rounding errors.
    scale = max(abs(slope), expected, 1e-9 * abs(above) / size, 1e-30)
    found = abs(difference - slope) / max(scale, abs(difference))
    error = min(error, found)
    agreeing = agreeing + 1 if found <= tolerance else 0
    if agreeing == needed:
      return Agreement(error, True, tolerance)
    differences.append(difference)
  # Without agreement, the differences tell only if they agree with each other.
  # Where steps cross kinks, two of them may agree by chance.
  spread = min(
    max(abs(a - b), abs(b - c)) / max(abs(slope), abs(b))
    for a, b, c in zip(
      differences, differences[1:], differences[2:], strict=False
    )
  )
  return Agreement(error, spread < 0.1 * error, tolerance)


def _is_in_part_float32(graph: tf.Graph) -> bool:
  """Returns whether an operation rounds float64 numbers to a narrower type."""
  narrow = (tf.float32, tf.bfloat16, tf.float16)
  return any(
    out.dtype in narrow and out.shape.rank != 0
    for op in keras_internals.operations_in(graph)
    if any(tensor.dtype == tf.float64 for tensor in op.inputs)
    for out in op.outputs
  )


def _dot(left, right):
  return sum(tf.reduce_sum(a * b) for a, b in zip(left, right, strict=True))


def _move(point, direction, step):
  return [p + step * d for p, d in zip(point, direction, strict=True)]
