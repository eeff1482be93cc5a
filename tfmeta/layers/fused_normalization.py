"""Batch normalisation of images by TensorFlow's own kernels, of any order.

The kernels go over the images once for the statistics and once for the outputs,
where each of the operations put together goes over them for itself, and second
order training of small convolutional networks is bound by that. Their second
derivative, which TensorFlow puts together from many operations, is written out
here.
"""

from collections.abc import Sequence
import math
from typing import Any

import tensorflow as tf

from tfmeta.core import keras_internals

# Below it, kernels on GPUs would take another one.
_LEAST_EPSILON = 1.001e-5


def can_serve(x: tf.Tensor, axes: Sequence[int], epsilon: float) -> bool:
  """Whether `x` are images with channels last that the kernels are for.

  XLA puts such a kernel together itself, and takes the variance for a
  difference of squares, which far from zero has no digits.
  """
  images = x.shape.rank == 4 and tuple(axes) == (0, 1, 2)
  served = images and x.dtype == tf.float32 and epsilon >= _LEAST_EPSILON
  return served and not keras_internals.in_xla_context()


def fused_batch_normalization(
  x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Normalises each channel of `x` by its mean and variance.

  Args:
    x: Float32 images `[n, height, width, channels]`.
    scale: `[channels]`.
    offset: `[channels]`.
    epsilon: Float, added to the variance.

  Returns:
    `scale * (x - mean) / sqrt(variance + epsilon) + offset`, and the mean and
    the (biased) variance `[channels]`, all with exact derivatives of any order.
  """
  outputs, *found = tf.raw_ops.FusedBatchNormV3(
    x=tf.stop_gradient(x),
    scale=tf.stop_gradient(scale),
    offset=tf.stop_gradient(offset),
    mean=tf.zeros([0]),
    variance=tf.zeros([0]),
    epsilon=epsilon,
    is_training=True,
  )
  batch = _Batch(x, epsilon, found)

  @tf.custom_gradient
  def normalize(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Any:
    del offset
    return outputs, lambda upstream: batch.backward(upstream, x, scale)

  return normalize(x, scale, offset), *batch.moments(x)


class _Batch:
  """Derivatives of the normalisation of one batch, from its statistics."""

  def __init__(self, x: tf.Tensor, epsilon: float, found: list[tf.Tensor]):
    mean, variance, *self._saved = found
    self._epsilon = epsilon
    sizes = x.shape[:3].as_list()
    self._count = (
      tf.cast(tf.maximum(tf.reduce_prod(tf.shape(x)[:3]), 1), x.dtype)
      if None in sizes
      else float(max(math.prod(sizes), 1))
    )
    # The kernel's variance is the unbiased one.
    self._found = mean, variance * ((self._count - 1) / self._count)

  def moments(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of `x`, the batch, differentiable by it."""

    @tf.custom_gradient
    def differentiable(x: tf.Tensor) -> Any:
      def gradient(of_mean: tf.Tensor, of_variance: tf.Tensor) -> tf.Tensor:
        mean, _ = self.moments(x)
        slope = 2.0 * of_variance / self._count
        return x * slope + (of_mean / self._count - mean * slope)

      return self._found, gradient

    return differentiable(x)

  def backward(
    self,
    upstream: tf.Tensor,
    x: tf.Tensor,
    scale: tf.Tensor,
    found: tuple[tf.Tensor, ...] | None = None,
  ) -> tuple[tf.Tensor, ...]:
    """Gradients by `x`, scale and offset, or those `found` before.

    With `z` the normalised batch and `deviation` what it was divided by, these
    are `scale / deviation * (upstream - mean(upstream) - z * mean(upstream *
    z))`, `sum(upstream * z)` and `sum(upstream)`.
    """

    @tf.custom_gradient
    def differentiable(
      upstream: tf.Tensor, x: tf.Tensor, scale: tf.Tensor
    ) -> Any:
      values = found or self._kernel(upstream, x, scale)

      def gradient(*directions: tf.Tensor) -> tuple[tf.Tensor, ...]:
        again = self.backward(upstream, x, scale, values)
        return self._second(directions, upstream, x, scale, again)

      return values, gradient

    return differentiable(upstream, x, scale)

  def _kernel(
    self, upstream: tf.Tensor, x: tf.Tensor, scale: tf.Tensor
  ) -> tuple[tf.Tensor, ...]:
    of_x, *others = tf.raw_ops.FusedBatchNormGradV3(
      y_backprop=upstream,
      x=x,
      scale=scale,
      reserve_space_1=self._saved[0],
      reserve_space_2=self._saved[1],
      reserve_space_3=self._saved[2],
      epsilon=self._epsilon,
      is_training=True,
    )
    # Used through a stack, so that the kernel itself has few consumers: among
    # more than eight TensorFlow's pass for oneDNN may merge the gradient of a
    # bias with the wrong one of a filter, to a graph with a cycle.
    return of_x, *tf.unstack(tf.stack(others[:2]))

  def _second(
    self,
    directions: tuple[tf.Tensor, ...],
    upstream: tf.Tensor,
    x: tf.Tensor,
    scale: tf.Tensor,
    found: tuple[tf.Tensor, ...],
  ) -> tuple[tf.Tensor, ...]:
    """Gradients of what `backward` found, along `directions` of it."""
    by_x, by_scale, by_offset = directions
    _, of_scale, of_offset = found
    mean, variance = self.moments(x)
    rate = tf.math.rsqrt(variance + self._epsilon)
    along, along_z, along_one = self.backward(by_x, x, scale)
    products = tf.reduce_sum(by_x * upstream, [0, 1, 2])
    crossed = along_one * of_offset + along_z * of_scale
    projected = products - crossed / self._count
    # What `along`, the upstream, and `z` are multiplied by in that by `x`.
    first = -rate * of_scale / self._count
    second = rate * (by_scale - scale * rate * along_z / self._count)
    third = -(second * of_scale + scale * projected * rate**2) / self._count
    slope = third * rate
    rest = -second * of_offset / self._count - slope * mean
    of_x = first * along + second * upstream + (slope * x + rest)
    tilt = by_scale * rate
    of_upstream = along + (tilt * x + (by_offset - tilt * mean))
    return of_upstream, of_x, rate * projected
