"""Max pooling that is right at second order under XLA as well."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import keras_internals

METHODS = ("auto", "stock", "slices")


@keras.saving.register_keras_serializable("tfmeta")
class MaxPooling2D(keras.layers.MaxPooling2D):
  """Max pooling over two axes, exact at second order also when compiled.

  XLA's second derivative of max pooling compares the values of a window in
  bfloat16: where two are nearly equal it takes the wrong one, without a
  message, and for other dtypes than float32 it does not compile. This layer
  therefore writes the pooling as the maximum of strided slices when it is
  traced for XLA (`jit_compile=True`), and uses the stock operation, which is
  right there, elsewhere. Both give the same values, bit for
  bit, and both send the gradient of a tie to the first of the equal values.

  Args:
    method: `"auto"` as described, or always `"stock"` or `"slices"`.
      Default `"auto"`.
    **kwargs: Arguments of `keras.layers.MaxPooling2D`: `pool_size`, `strides`,
      `padding`, `data_format`, `name`, `dtype`.

  Raises:
    ValueError: If `method` is none of the three.
  """

  def __init__(self, pool_size=(2, 2), *, method="auto", **kwargs):
    if method not in METHODS:
      raise ValueError(
        f"`method` must be one of {METHODS}. Received: method={method!r}"
      )
    super().__init__(pool_size, **kwargs)
    self.method = method

  def call(self, inputs) -> tf.Tensor:
    slices = self.method == "slices"
    if not slices and not (
      self.method == "auto" and keras_internals.in_xla_context()
    ):
      return super().call(inputs)
    if self.data_format == "channels_last":
      return self._max_of_slices(inputs)
    outputs = self._max_of_slices(tf.transpose(inputs, [0, 2, 3, 1]))
    return tf.transpose(outputs, [0, 3, 1, 2])

  def _max_of_slices(self, x):
    (rows, columns), (step_y, step_x) = self.pool_size, self.strides
    if self.padding == "same":
      x = _pad_same(x, self.pool_size, self.strides)
    height = _size(x, 1) - rows + 1
    width = _size(x, 2) - columns + 1
    slices = [
      x[:, i : i + height : step_y, j : j + width : step_x]
      for i in range(rows)
      for j in range(columns)
    ]
    outputs = slices[0]
    for other in slices[1:]:
      outputs = tf.maximum(outputs, other)
    return outputs

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "method": self.method}


def _size(x, axis):
  static = x.shape[axis]
  return tf.shape(x)[axis] if static is None else static


def _pad_same(x, pool_size, strides):
  """Pads the two spatial axes with the lowest value, as padding="same"."""
  paddings = [[0, 0]]
  for axis, pool, stride in zip((1, 2), pool_size, strides, strict=True):
    size = _size(x, axis)
    biggest = max if isinstance(size, int) else tf.maximum
    total = biggest((-(-size // stride) - 1) * stride + pool - size, 0)
    paddings.append([total // 2, total - total // 2])
  return tf.pad(x, [*paddings, [0, 0]], constant_values=x.dtype.min)
