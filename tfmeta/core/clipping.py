"""Bounds of outer gradients, over all replicas of a strategy."""

from typing import Any

import tensorflow as tf

from tfmeta.core import replicas


def clipped(
  gradients: list[tf.Tensor],
  *,
  clipvalue: float | None,
  clipnorm: float | None,
  scale: Any = 1.0,
) -> list[tf.Tensor]:
  """Holds the sum over replicas to bounds: each element, then each norm.

  An optimizer of Keras takes one of the two, and applies it to the part of each
  replica, before it takes the sum: two parts 5 and -4 held to 0.1 are then
  nothing together.

  Args:
    gradients: Parts of this replica, of any shapes.
    clipvalue: Of the absolute value of an element of the sum, or `None`.
    clipnorm: Of the norm of a tensor of the sum, or `None`.
    scale: Scalar that gradients were multiplied by, as of a scaled loss.

  Returns:
    Tensors of the same shapes, whose sum over replicas is the clipped sum. What
    is not finite becomes NaN, by which an optimizer that scales losses knows
    that its scale is too large.
  """
  if clipvalue is None and clipnorm is None:
    return gradients
  count = tf.distribute.get_strategy().num_replicas_in_sync
  held = []
  for total in replicas.sum_over_replicas(gradients):
    nothing_or_nan = total - total
    if clipvalue is not None:
      limit = tf.cast(clipvalue * scale, total.dtype)
      total = tf.clip_by_value(total, -limit, limit)
    if clipnorm is not None:
      total = tf.clip_by_norm(total, tf.cast(clipnorm * scale, total.dtype))
    held.append((total + nothing_or_nan) / count)
  return held
