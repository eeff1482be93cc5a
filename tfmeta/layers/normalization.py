"""Normalisation layers whose second derivatives are exact.

`tf.nn.moments` takes the variance around `stop_gradient(mean)`. The first
derivative is right, because that of the variance with respect to the centre is
zero at the mean, but the term of the second derivative that runs through the
mean is lost. Keras's normalisation layers use it, so a gradient through an
inner gradient step, as in MAML, is silently wrong with them. The layers here
compute the same values, bit for bit, and all derivatives; those of batch
normalisation of float32 images come from kernels that round otherwise.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfmeta.layers import fused_normalization

PACKAGE = "tfmeta"


def exact_moments(
  x: tf.Tensor, axes: Sequence[int], keepdims: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
  """Mean and variance over `axes`, differentiable any number of times.

  For any constant c the variance is `E[(x - c)**2] - (E[x] - c)**2`. With c the
  value of the mean, the second term is 0 and only carries the derivatives that
  the first one lacks. It costs nothing, being of the size of the mean, whereas
  differentiating through `x - mean` adds a sum over `x` that is always 0.

  The gradient of both means is written out as one line in `x`: those of
  TensorFlow are copied to the size of `x`, each for itself, and added up.

  Args:
    x: Float tensor of any rank.
    axes: Axes to reduce.
    keepdims: Whether the reduced axes stay, with length 1. Default `False`.

  Returns:
    Mean and (biased) variance, of the dtype of `x`.
  """

  @tf.custom_gradient
  def means(x):
    mean = tf.reduce_mean(x, axes, keepdims=True)
    centre = tf.stop_gradient(mean)
    squares = tf.math.squared_difference(x, centre)

    def gradient(of_mean, of_square):
      count = _count(x, axes)
      slope = 2.0 * of_square / count
      return x * slope + (of_mean / count - centre * slope)

    mean_square = tf.reduce_mean(squares, axes, keepdims=True)
    return (mean, mean_square), gradient

  mean, mean_square = means(x)
  variance = mean_square - tf.square(mean - tf.stop_gradient(mean))
  if keepdims:
    return mean, variance
  return tf.squeeze(mean, axes), tf.squeeze(variance, axes)


def _count(x, axes):
  """Entries of `x` behind each of its means over `axes`."""
  sizes = tf.gather(tf.shape(x), [axis % x.shape.rank for axis in axes])
  return tf.cast(tf.reduce_prod(sizes), x.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNormalization(keras.layers.BatchNormalization):
  """Batch normalisation with exact second derivatives.

  Constructor, outputs, moving statistics and configuration are those of
  `keras.layers.BatchNormalization`; see there for the arguments. Statistics are
  computed in float32 when the inputs are narrower.

  Raises:
    ValueError: If `renorm=True` (batch renormalisation stops gradients by
      design) or `synchronized=True` (replicas work on different tasks, whose
      statistics must not be mixed).
  """

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    for option in ("renorm", "synchronized"):
      if getattr(self, option, False):  # Keras has `renorm` from 3.14 on.
        raise ValueError(
          f"`{option}` must be False: the statistics of a batch are those of "
          f"one task and are differentiated exactly. Received: {option}=True"
        )

  def call(self, inputs, training=None, mask=None) -> tf.Tensor:
    if mask is not None or not (training and self.trainable):
      return super().call(inputs, training=training, mask=mask)
    x = _at_least_float32(inputs)
    kept = self.axis % len(x.shape)
    axes = [axis for axis in range(len(x.shape)) if axis != kept]
    outputs, mean, variance = self._normalized(x, axes)
    self._update(self.moving_mean, mean)
    self._update(self.moving_variance, variance)
    return keras.ops.cast(outputs, self.compute_dtype)

  def _normalized(self, x, axes):
    """Outputs, mean and variance."""
    scale, offset = _cast(self.gamma, x.dtype), _cast(self.beta, x.dtype)
    if fused_normalization.can_serve(x, axes, self.epsilon):
      channels = x.shape[-1]
      scale = tf.ones([channels]) if scale is None else scale
      offset = tf.zeros([channels]) if offset is None else offset
      return fused_normalization.fused_batch_normalization(
        x,
        tf.convert_to_tensor(scale),
        tf.convert_to_tensor(offset),
        self.epsilon,
      )
    mean, variance = exact_moments(x, axes)
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

  def _update(self, moving, value):
    moving.assign(
      keras.ops.cast(moving, value.dtype) * self.momentum
      + value * (1.0 - self.momentum)
    )


@keras.saving.register_keras_serializable(PACKAGE)
class TransductiveBatchNormalization(BatchNormalization):
  """Batch normalisation by the batch at hand, in inference as in training.

  An adapted model needs it when its learner is transductive: Keras's own layer
  uses its moving statistics in `predict`, which no training has touched. The
  arguments are those of `BatchNormalization`; a frozen layer still uses its
  moving statistics.
  """

  def call(self, inputs, training=None, mask=None) -> tf.Tensor:
    del training
    return super().call(inputs, training=True, mask=mask)


@keras.saving.register_keras_serializable(PACKAGE)
class LayerNormalization(keras.layers.LayerNormalization):
  """Layer normalisation with exact second derivatives.

  Constructor, outputs and configuration are those of
  `keras.layers.LayerNormalization`; see there for the arguments. Moments are
  computed in float32 when the inputs are narrower.
  """

  def call(self, inputs) -> tf.Tensor:
    if self.rms_scaling:  # Uses no moments: exact as it is.
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
  """Group normalisation with exact second derivatives.

  Constructor, outputs and configuration are those of
  `keras.layers.GroupNormalization`; see there for the arguments. Moments are
  computed in float32 when the inputs are narrower.
  """

  def call(self, inputs) -> tf.Tensor:
    axis = self.axis % len(inputs.shape)
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
    outputs = keras.ops.cast(tf.reshape(outputs, sizes), inputs.dtype)
    return keras.ops.cast(
      tf.ensure_shape(outputs, inputs.shape), self.compute_dtype
    )


def _at_least_float32(x):
  return keras.ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def _cast(weight, dtype):
  return None if weight is None else keras.ops.cast(weight, dtype)


def _normalize(x, mean, variance, gamma, beta, shape, epsilon):
  """Returns `gamma * (x - mean) / sqrt(variance + epsilon) + beta`."""
  scale = tf.math.rsqrt(variance + epsilon)
  if gamma is not None:
    scale = scale * tf.reshape(_cast(gamma, x.dtype), shape)
  offset = -mean * scale
  if beta is not None:
    offset = offset + tf.reshape(_cast(beta, x.dtype), shape)
  return x * scale + offset
