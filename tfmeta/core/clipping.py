"""Bounds of outer gradients, over all replicas of a strategy."""

import tensorflow as tf

from tfmeta.core import replicas


def clipped(gradients: list[tf.Tensor], limit: tf.Tensor) -> list[tf.Tensor]:
  """Holds the sum over replicas to `limit`: each element, then each norm.

  That is the order of LEO's released code, in which an element far out bends
  the direction of a gradient. Keras's optimizers have one of the two, and clip
  the part of each replica, before they take the sum.

  Args:
    gradients: Parts of this replica, of any shapes.
    limit: Scalar > 0, of the absolute value of an element of the sum, and of
      the norm of a tensor.

  Returns:
    Tensors of the same shapes, whose sum over replicas is the clipped sum.
  """
  count = tf.distribute.get_strategy().num_replicas_in_sync
  total = replicas.sum_over_replicas(gradients)
  return [_by_value_then_norm(tensor, limit) / count for tensor in total]


def _by_value_then_norm(tensor: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
  limit = tf.cast(limit, tensor.dtype)
  return tf.clip_by_norm(tf.clip_by_value(tensor, -limit, limit), limit)
