"""Batch normalization of images by TensorFlow's fused kernels.

A fused kernel reads the images once for the statistics and once for the
outputs. Composed operations each read them again. This memory traffic limits
second-order training of small convolutional networks. TensorFlow composes the
second derivative of its kernels from many operations. This module instead
expresses it by the same kernels, so that derivatives of any order are fast and
exact.
"""

from collections.abc import Sequence
import math
from typing import Any

import tensorflow as tf

from tfmeta.core import custom_gradients
from tfmeta.core import exact_gradients
from tfmeta.core import keras_internals

# On GPUs, the kernels would replace a smaller epsilon by another value.
_LEAST_EPSILON = 1.001e-5


def can_serve(x: tf.Tensor, axes: Sequence[int], epsilon: float) -> bool:
  """Returns whether the fused kernels compute batch normalization of `x`.

  They take float32 images with the channels last. XLA is excluded, because it
  replaces the kernels by operations of its own. These compute the variance as a
  difference of squares, and lose all digits if the inputs are far from zero.
  Functions with exact gradients are excluded, as they have to be: see
  `exact_gradients.inside_exactly`.

  Args:
    x: Inputs of a layer.
    axes: Axes over which the statistics are computed.
    epsilon: Float that is added to the variance.
  """
  images = x.shape.rank == 4 and tuple(axes) == (0, 1, 2)
  served = images and x.dtype == tf.float32 and epsilon >= _LEAST_EPSILON
  elsewhere = keras_internals.in_xla_context()
  return served and not elsewhere and not exact_gradients.inside_exactly()


def fused_batch_normalization(
  x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Normalizes each channel of `x` by its mean and variance.

  Args:
    x: Float32 images `[n, height, width, channels]`.
    scale: `[channels]`.
    offset: `[channels]`.
    epsilon: Float that is added to the variance.

  Returns:
    Three tensors with exact derivatives of any order: `scale * (x - mean) /
    sqrt(variance + epsilon) + offset`; the mean `[channels]`; and the (biased)
    variance `[channels]`.
  """
  # The kernel sees only constants, because its own gradient is not used.
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

  @custom_gradients.custom_gradient
  def normalize(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Any:
    # The outputs are computed above. Their gradient takes `x` and `scale` as
    # arguments, because an outer tape must see how it depends on them.
    del offset
    return outputs, lambda upstream: batch.backward(upstream, x, scale)

  return normalize(x, scale, offset), *batch.moments(x)


class _Batch:
  """The derivatives of the normalization of one batch."""

  def __init__(self, x: tf.Tensor, epsilon: float, found: list[tf.Tensor]):
    # The gradient kernel reads `_saved`, which the forward kernel returned.
    mean, variance, *self._saved = found
    self._epsilon = epsilon
    sizes = x.shape[:3].as_list()
    self._count = (
      tf.cast(tf.maximum(tf.reduce_prod(tf.shape(x)[:3]), 1), x.dtype)
      if None in sizes
      else float(max(math.prod(sizes), 1))
    )
    # The kernel returns the unbiased variance; Keras uses the biased one.
    self._found = mean, variance * ((self._count - 1) / self._count)

  def moments(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and variance of the batch `x`, differentiable by `x`."""

    @custom_gradients.custom_gradient
    def differentiable(x: tf.Tensor) -> Any:
      def gradient(of_mean: tf.Tensor, of_variance: tf.Tensor) -> tf.Tensor:
        # The derivatives of mean and variance are `1 / count` and `2 * (x -
        # mean) / count`. `moments` returns the mean again, so that the gradient
        # is differentiable too.
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
    """Returns the gradients with respect to `x`, scale and offset.

    Let `z` be the normalized batch, and `deviation` the number that the batch
    was divided by. The gradients are `scale / deviation * (upstream -
    mean(upstream) - z * mean(upstream * z))`, `sum(upstream * z)` and
    `sum(upstream)`.

    Args:
      upstream: Gradient with respect to the outputs, shaped like `x`.
      x: The batch.
      scale: `[channels]`.
      found: The three gradients, if they are known already. This call then only
        makes them differentiable. Defaults to `None`: the kernel computes them.
    """

    @custom_gradients.custom_gradient
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
    # The stack keeps the number of operations that read the kernel small. If
    # there are more than eight, TensorFlow's oneDNN pass may fuse the gradient
    # of a bias with the gradient of the wrong filter, which makes a cycle in
    # the graph.
    return of_x, *tf.unstack(tf.stack(others[:2]))

  def _second(
    self,
    directions: tuple[tf.Tensor, ...],
    upstream: tf.Tensor,
    x: tf.Tensor,
    scale: tf.Tensor,
    found: tuple[tf.Tensor, ...],
  ) -> tuple[tf.Tensor, ...]:
    """Returns the gradients of `backward` with respect to its arguments.

    The gradient with respect to `x` is a symmetric linear map of the upstream
    gradient. Its own gradient is therefore `backward` again, applied to `by_x`
    in place of the upstream gradient. This takes one more call of the kernel.

    Args:
      directions: Gradients of a scalar with respect to the three results of
        `backward`.
      upstream: Argument of `backward`.
      x: Argument of `backward`.
      scale: Argument of `backward`.
      found: The results of `backward`, differentiable.

    Returns:
      Gradients of that scalar with respect to `upstream`, `x` and `scale`.
    """
    # Names with `by_` are the given directions. Names with `of_` are gradients
    # that this class computes.
    by_x, by_scale, by_offset = directions
    _, of_scale, of_offset = found
    mean, variance = self.moments(x)
    rate = tf.math.rsqrt(variance + self._epsilon)
    along, along_z, along_one = self.backward(by_x, x, scale)
    products = tf.reduce_sum(by_x * upstream, [0, 1, 2])
    crossed = along_one * of_offset + along_z * of_scale
    projected = products - crossed / self._count
    # The gradient with respect to `x` is a sum of `along`, `upstream`, `z` and
    # a constant for each channel. These are the factors of the first three.
    first = -rate * of_scale / self._count
    second = rate * (by_scale - scale * rate * along_z / self._count)
    third = -(second * of_scale + scale * projected * rate**2) / self._count
    # `z` is `(x - mean) * rate`, so `third * z` is linear in `x`. It needs only
    # one product over all images.
    slope = third * rate
    rest = -second * of_offset / self._count - slope * mean
    of_x = first * along + second * upstream + (slope * x + rest)
    # This is `along + by_scale * z + by_offset`, with `z` written out too.
    tilt = by_scale * rate
    of_upstream = along + (tilt * x + (by_offset - tilt * mean))
    return of_upstream, of_x, rate * projected
