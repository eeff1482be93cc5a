"""Conjugate gradients on lists of tensors."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfmeta.typing import Weights


def dot(a: Weights, b: Weights) -> tf.Tensor:
  """Returns the inner product of two lists of tensors, a scalar."""
  return tf.add_n([tf.reduce_sum(u * v) for u, v in zip(a, b, strict=True)])


def along(start: Weights, scale: Any, direction: Weights) -> Weights:
  """Returns `start + scale * direction`."""
  return [u + scale * v for u, v in zip(start, direction, strict=True)]


def conjugate_gradient(
  product: Callable[[Weights], Weights],
  b: Weights,
  *,
  iterations: int = 10,
  tolerance: float = 1e-10,
  unroll: bool = False,
) -> tuple[Weights, Weights]:
  """Solves `A x = b` for a symmetric positive definite A.

  Args:
    product: Maps x, a list of tensors like `b`, to `A x`.
    b: List of tensors.
    iterations: Integer >= 1, the largest number of products. Defaults to 10.
    tolerance: Float >= 0. The iteration stops once the squared norm of the
      residual is at most this number. Defaults to 1e-10.
    unroll: Whether the graph holds all iterations. A product that synchronizes
      replicas needs this, because loops on different replicas may end at
      different times. Defaults to `False`.

  Returns:
    The solution x, and its residual `b - A x`.
  """

  def continues(step: Any, state: Any) -> tf.Tensor:
    _, residual, _ = state
    return (step < iterations) & (dot(residual, residual) > tolerance)

  state = ([tf.zeros_like(v) for v in b], list(b), list(b))
  if unroll:
    for step in range(iterations):
      # A step after convergence is computed on all replicas, but not used.
      following = _iterate(product, state)
      state = _where(continues(step, state), following, state)
  else:
    _, state = tf.while_loop(
      continues,
      lambda step, state: (step + 1, _iterate(product, state)),
      (tf.constant(0), state),
      maximum_iterations=iterations,
    )
  solution, residual, _ = state
  return solution, residual


def _iterate(product: Callable[[Weights], Weights], state: Any) -> Any:
  """Returns solution, residual and direction after one more step."""
  solution, residual, direction = state
  squared = dot(residual, residual)
  curved = product(direction)
  # This length minimizes the quadratic function along the direction. If the
  # residual is zero already, the division gives 0 rather than NaN.
  length = tf.math.divide_no_nan(squared, dot(direction, curved))
  following = along(residual, -length, curved)
  # This share makes the new direction conjugate to all earlier ones.
  share = tf.math.divide_no_nan(dot(following, following), squared)
  return (
    along(solution, length, direction),
    following,
    along(following, share, direction),
  )


def _where(condition: tf.Tensor, then: Any, otherwise: Any) -> Any:
  return tf.nest.map_structure(
    lambda a, b: tf.where(condition, a, b), then, otherwise
  )
