"""Normalization layers whose second derivatives are exact.

`tf.nn.moments`, which Keras's normalization layers use, computes the variance
around `stop_gradient(mean)`. Its first derivative is right, because at the mean
the variance does not change with the center. Its second derivative lacks the
term that runs through the mean. A gradient through an inner gradient step, as
in MAML, is therefore silently wrong with Keras's layers.

The layers here compute the same values, bit for bit, with exact derivatives of
any order. Batch normalization of float32 images is the exception: it uses
kernels that round differently.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import custom_gradients
from tfmeta.core import example_weights
from tfmeta.layers import fused_normalization

PACKAGE = "tfmeta"


def exact_moments(
  x: tf.Tensor, axes: Sequence[int], keepdims: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns mean and variance over `axes`, differentiable any number of times.

  For any constant c, the variance is `E[(x - c)**2] - (E[x] - c)**2`. If c is
  the value of the mean, the second term is 0 and only carries the derivatives
  that the first term lacks. It costs almost nothing, because it has the size of
  the mean. Differentiating through `x - mean` instead would add a sum over `x`
  that is always 0.

  Args:
    x: Float tensor of any rank.
    axes: Axes to reduce.
    keepdims: Whether the reduced axes are kept, with length 1. Defaults to
      `False`.

  Returns:
    Mean and (biased) variance, of the dtype of `x`.
  """

  # TensorFlow would copy the gradient of each of the two means to the size of
  # `x` and then add the copies. One linear function of `x` replaces both.
  @custom_gradients.custom_gradient
  def means(x):
    mean = tf.reduce_mean(x, axes, keepdims=True)
    center = tf.stop_gradient(mean)
    squares = tf.math.squared_difference(x, center)

    def gradient(of_mean, of_square):
      count = _count(x, axes)
      slope = 2.0 * of_square / count
      # The derivative of `mean_square` is `2 * (x - center) / count`. The
      # center is a constant here. `variance` below adds the terms that run
      # through it.
      return x * slope + (of_mean / count - center * slope)

    mean_square = tf.reduce_mean(squares, axes, keepdims=True)
    return (mean, mean_square), gradient

  mean, mean_square = means(x)
  # The subtracted square is 0, but its second derivative is not.
  variance = mean_square - tf.square(mean - tf.stop_gradient(mean))
  if keepdims:
    return mean, variance
  return tf.squeeze(mean, axes), tf.squeeze(variance, axes)


def counted_moments(
  x: tf.Tensor, axes: Sequence[int], counted: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns mean and variance over `axes` of the examples that count.

  Both are differentiable any number of times, because the variance is computed
  around a mean that carries its own derivatives.

  Args:
    x: Float tensor `[n, ...]`.
    axes: Axes to reduce, among them the first.
    counted: Booleans `[n]`.

  Returns:
    Mean and (biased) variance, of the dtype of `x`; 0 if no example counts.
  """
  weight = tf.cast(_column(counted, x.shape.rank - 1), x.dtype)
  entries = tf.reduce_sum(weight * tf.ones_like(x), axes, keepdims=True)

  def mean_of(values: tf.Tensor) -> tf.Tensor:
    total = tf.reduce_sum(weight * values, axes, keepdims=True)
    return tf.math.divide_no_nan(total, entries)

  mean = mean_of(x)
  variance = mean_of(tf.math.squared_difference(x, mean))
  return tf.squeeze(mean, axes), tf.squeeze(variance, axes)


def _column(values: tf.Tensor, rank: int) -> tf.Tensor:
  """Returns values `[n]` with `rank` further axes of length 1."""
  return tf.reshape(values, [-1, *[1] * rank])


def _count(x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
  """Returns the number of entries of `x` in each mean over `axes`."""
  sizes = tf.gather(tf.shape(x), [axis % x.shape.rank for axis in axes])
  return tf.cast(tf.reduce_prod(sizes), x.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNormalization(keras.layers.BatchNormalization):
  """Batch normalization with exact second derivatives.

  It has the constructor, outputs, moving statistics and configuration of
  `keras.layers.BatchNormalization`. Statistics of inputs narrower than float32
  are computed in float32.

  Args:
    *args: Arguments of `keras.layers.BatchNormalization`, such as `axis`,
      `momentum` and `epsilon`.
    **kwargs: Keyword arguments of `keras.layers.BatchNormalization`.

  Raises:
    ValueError: If `renorm=True`, because batch renormalization stops gradients
      by design; or if `synchronized=True`, because replicas work on different
      tasks, whose statistics must not be mixed.
  """

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    for option in ("renorm", "synchronized"):
      # Keras 3.13 and earlier have no batch renormalization.
      if getattr(self, option, False):
        raise ValueError(
          f"`{option}` must be False: the statistics of a batch are those of "
          f"one task and are differentiated exactly. Received: {option}=True"
        )

  # Whether batch statistics leave out the examples of weight 0.
  leaves_out_examples = True

  def call(self, inputs, training=None, mask=None) -> tf.Tensor:
    counted = example_weights.counted()
    if mask is not None and counted is not None:
      rank = len(mask.shape) - 1
      mask = keras.ops.cast(mask, "bool") & _column(counted, rank)
    # Keras's own code is exact for masked statistics, which do not use
    # `tf.nn.moments`, and for moving statistics, which are constants.
    if mask is not None or not (training and self.trainable):
      return super().call(inputs, training=training, mask=mask)
    outputs, mean, variance = self._normalized(inputs, counted)
    self._update(self.moving_mean, mean)
    self._update(self.moving_variance, variance)
    return outputs

  def _normalized(
    self, inputs: tf.Tensor, counted: tf.Tensor | None
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the normalized inputs, and their mean and variance.

    Args:
      inputs: Inputs, `[n, ...]`.
      counted: Booleans `[n]`, the examples that enter the statistics; `None`
        for all.
    """
    x = _at_least_float32(inputs)
    kept = self.axis % len(x.shape)
    axes = [axis for axis in range(len(x.shape)) if axis != kept]
    outputs, mean, variance = self._with_statistics(x, axes, counted)
    return keras.ops.cast(outputs, self.compute_dtype), mean, variance

  def _with_statistics(
    self, x: tf.Tensor, axes: Sequence[int], counted: tf.Tensor | None
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    scale, offset = _cast(self.gamma, x.dtype), _cast(self.beta, x.dtype)
    all_count = counted is None
    if all_count and fused_normalization.can_serve(x, axes, self.epsilon):
      channels = x.shape[-1]
      scale = tf.ones([channels]) if scale is None else scale
      offset = tf.zeros([channels]) if offset is None else offset
      return fused_normalization.fused_batch_normalization(
        x,
        tf.convert_to_tensor(scale),
        tf.convert_to_tensor(offset),
        self.epsilon,
      )
    if counted is None:
      mean, variance = exact_moments(x, axes)
    else:
      self._check_counted(x, counted)
      mean, variance = counted_moments(x, axes, counted)
    outputs = keras.ops.batch_normalization(
      x,
      mean,
      variance,
      axis=self.axis,
      offset=offset,
      scale=scale,
      epsilon=self.epsilon,
    )
    return outputs, mean, variance

  def _check_counted(self, x: tf.Tensor, counted: tf.Tensor) -> None:
    if not counted.shape.is_compatible_with(x.shape[:1]):
      raise ValueError(
        f"The inputs of {self.path} must have one row for each example, so "
        "that its statistics can leave out those of weight 0. Received: "
        f"inputs of shape {x.shape} and weights of shape {counted.shape}"
      )

  def _update(self, moving: Any, value: tf.Tensor) -> None:
    # The operations have the same order as in Keras, to give the same bits.
    moving.assign(
      keras.ops.cast(moving, value.dtype) * self.momentum
      + value * (1.0 - self.momentum)
    )


@keras.saving.register_keras_serializable(PACKAGE)
class TransductiveBatchNormalization(BatchNormalization):
  """Batch normalization with batch statistics, in training and in inference.

  A transductive learner never updates moving statistics, so the models that it
  returns must not use them. Keras's own layer would use them in `predict`. A
  frozen layer still uses its moving statistics. Inference assigns no variable,
  which exports of other formats could not do.

  Args:
    *args: Arguments of `keras.layers.BatchNormalization`.
    **kwargs: Keyword arguments of `keras.layers.BatchNormalization`.
  """

  def call(self, inputs, training=None, mask=None) -> tf.Tensor:
    if training or mask is not None or not self.trainable:
      return super().call(inputs, training=True, mask=mask)
    return self._normalized(inputs, example_weights.counted())[0]


@keras.saving.register_keras_serializable(PACKAGE)
class LayerNormalization(keras.layers.LayerNormalization):
  """Layer normalization with exact second derivatives.

  It has the constructor, outputs and configuration of
  `keras.layers.LayerNormalization`. Moments of inputs narrower than float32 are
  computed in float32.
  """

  def call(self, inputs) -> tf.Tensor:
    # Scaling by the root mean square uses no moments, so Keras's own code is
    # exact.
    if self.rms_scaling:
      return super().call(inputs)
    x = _at_least_float32(inputs)
    axes = sorted(axis % len(x.shape) for axis in self.axis)
    shape = [x.shape[i] if i in axes else 1 for i in range(len(x.shape))]
    mean, variance = exact_moments(x, axes, keepdims=True)
    outputs = _normalize(
      x, mean, variance, self.gamma, self.beta, shape, self.epsilon
    )
    outputs = keras.ops.cast(outputs, inputs.dtype)
    return keras.ops.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class GroupNormalization(keras.layers.GroupNormalization):
  """Group normalization with exact second derivatives.

  It has the constructor, outputs and configuration of
  `keras.layers.GroupNormalization`. Moments of inputs narrower than float32 are
  computed in float32.
  """

  def call(self, inputs) -> tf.Tensor:
    axis = self.axis % len(inputs.shape)
    # The axis of channels becomes two axes: groups, and channels within a
    # group. Moments are taken over all axes except examples and groups.
    split = [self.groups, inputs.shape[axis] // self.groups]
    sizes = tf.shape(inputs)
    x = tf.reshape(
      _at_least_float32(inputs),
      tf.concat([sizes[:axis], split, sizes[axis + 1 :]], 0),
    )
    axes = [i for i in range(1, len(x.shape)) if i != axis]
    shape = [1] * axis + split + [1] * (len(x.shape) - axis - 2)
    mean, variance = exact_moments(x, axes, keepdims=True)
    outputs = _normalize(
      x, mean, variance, self.gamma, self.beta, shape, self.epsilon
    )
    # The cast to the inputs' dtype may round. It comes first, as in Keras.
    outputs = keras.ops.cast(tf.reshape(outputs, sizes), inputs.dtype)
    return keras.ops.cast(
      tf.ensure_shape(outputs, inputs.shape), self.compute_dtype
    )


def _at_least_float32(x: Any) -> Any:
  return keras.ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def _cast(weight: Any, dtype: Any) -> Any:
  return None if weight is None else keras.ops.cast(weight, dtype)


def _normalize(x, mean, variance, gamma, beta, shape, epsilon):
  """Returns `gamma * (x - mean) / sqrt(variance + epsilon) + beta`.

  It is computed as `x * scale + offset`, in the order of Keras's operations, so
  that the outputs equal Keras's outputs bit for bit.
  """
  scale = tf.math.rsqrt(variance + epsilon)
  if gamma is not None:
    scale = scale * tf.reshape(_cast(gamma, x.dtype), shape)
  offset = -mean * scale
  if beta is not None:
    offset = offset + tf.reshape(_cast(beta, x.dtype), shape)
  return x * scale + offset
