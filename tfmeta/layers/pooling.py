"""Max pooling whose second derivative is right in every mode."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import custom_gradients
from tfmeta.core import exact_gradients
from tfmeta.core import keras_internals

METHODS = ("auto", "stock", "slices")


@keras.saving.register_keras_serializable("tfmeta")
class MaxPooling2D(keras.layers.MaxPooling2D):
  """Max pooling over two axes, with exact second derivatives in every mode.

  The second derivative of XLA's max pooling compares the values of a window in
  bfloat16. If two of them are nearly equal, it may take the wrong one, without
  a message. For dtypes other than float32, it does not compile. In graphs
  without XLA, the second derivative overwrites values that it has yet to read,
  if inputs and outputs have the same size. If this layer is traced for XLA
  (`jit_compile=True`), or keeps the size, it therefore takes the maximum of
  strided slices. Otherwise, it uses the stock operation, which is then right.
  Both give the same values, bit for bit, and both send the gradient of a tie to
  the first of the equal values.

  Args:
    pool_size: Integer, or a pair of integers: the height and width of a window.
      Defaults to `(2, 2)`.
    method: `"auto"` (default) chooses as described. `"stock"` always uses the
      stock operation, and `"slices"` always uses slices.
    **kwargs: The other arguments of `keras.layers.MaxPooling2D`: `strides`,
      `padding`, `data_format`, `name` and `dtype`.

  Raises:
    ValueError: If `method` is none of the three.
  """

  # Gradients in other functions repeat the pooling: see `inner_rule`.
  repeats = True

  def __init__(self, pool_size=(2, 2), *, method="auto", **kwargs):
    super().__init__(pool_size, **kwargs)
    self.method = arguments.check_choice("method", method, METHODS)

  def call(self, inputs) -> tf.Tensor:
    if not self._uses_slices():
      last = self.data_format == "channels_last"
      if not last or exact_gradients.inside_exactly():
        return super().call(inputs)
      return _max_pool(inputs, **self._attributes())
    if self.data_format == "channels_last":
      return self._max_of_slices(inputs)
    outputs = self._max_of_slices(tf.transpose(inputs, [0, 2, 3, 1]))
    return tf.transpose(outputs, [0, 3, 1, 2])

  def _uses_slices(self) -> bool:
    if self.method == "auto":
      return keras_internals.in_xla_context() or keeps_size(self)
    return self.method == "slices"

  def _attributes(self) -> dict[str, Any]:
    """Returns the attributes of the stock operation."""
    return {
      "ksize": [1, *self.pool_size, 1],
      "strides": [1, *self.strides, 1],
      "padding": self.padding.upper(),
    }

  def _max_of_slices(self, x: tf.Tensor) -> tf.Tensor:
    (rows, columns), (step_y, step_x) = self.pool_size, self.strides
    if self.padding == "same":
      x = _pad_same(x, self.pool_size, self.strides)
    height = _size(x, 1) - rows + 1
    width = _size(x, 2) - columns + 1
    # Each slice belongs to one place in a window, in row order, and holds the
    # values at that place of all windows.
    slices = [
      x[:, i : i + height : step_y, j : j + width : step_x]
      for i in range(rows)
      for j in range(columns)
    ]
    # The gradient of `tf.maximum` sends a tie to its first argument, so this
    # order sends it to the first place in the window, as the stock kernel does.
    outputs = slices[0]
    for other in slices[1:]:
      outputs = tf.maximum(outputs, other)
    return outputs

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "method": self.method}


def keeps_size(layer: keras.Layer) -> bool:
  """Returns whether the outputs of a pooling layer are as large as its inputs.

  Args:
    layer: A layer of Keras for max pooling.
  """
  return layer.padding == "same" and all(step == 1 for step in layer.strides)


# oneDNN has fast gradients of max pooling for graphs that hold the pooling too.
# A gradient may be in another function, so the gradients here repeat the
# pooling, which is cheap. In one graph, TensorFlow computes it only once.


def _max_pool(x: tf.Tensor, **attributes: Any) -> tf.Tensor:
  @custom_gradients.custom_gradient
  def pool(x: tf.Tensor) -> Any:
    outputs = tf.raw_ops.MaxPool(input=x, **attributes)
    # Where the maxima are has no derivative.
    constant = tf.stop_gradient(x)
    return outputs, lambda upstream: _moved(
      upstream, constant, attributes, to_maxima=True
    )

  return pool(x)


def _moved(
  values: tf.Tensor,
  x: tf.Tensor,
  attributes: dict[str, Any],
  *,
  to_maxima: bool,
) -> tf.Tensor:
  """Moves values between windows of `x` and the places of their maxima.

  Args:
    values: One value for each window; or, if `to_maxima` is `False`, for each
      place of `x`.
    x: The inputs of the pooling.
    attributes: The attributes of the pooling.
    to_maxima: Whether each value moves to the maximum of its window, and the
      other places get zeros. If `False`, each window gets the value at its
      maximum. Each is the gradient of the other.
  """
  gradients = tf.raw_ops.MaxPoolGrad, tf.raw_ops.MaxPoolGradGrad

  @custom_gradients.custom_gradient
  def linear(values: tf.Tensor) -> Any:
    found = gradients[0 if to_maxima else 1](
      orig_input=x,
      orig_output=tf.raw_ops.MaxPool(input=x, **attributes),
      grad=values,
      **attributes,
    )
    return found, lambda upstream: _moved(
      upstream, x, attributes, to_maxima=not to_maxima
    )

  # The gradient of `tf.gather` is sparse.
  return linear(tf.convert_to_tensor(values))


def _size(x: tf.Tensor, axis: int) -> int | tf.Tensor:
  """Returns the length of an axis, as a tensor only if a graph lacks it."""
  static = x.shape[axis]
  return tf.shape(x)[axis] if static is None else static


def _pad_same(x: tf.Tensor, pool_size: Any, strides: Any) -> tf.Tensor:
  """Pads height and width as `padding="same"` does, with the lowest value.

  Each window holds at least one of the given values, so the lowest value does
  not change its maximum.
  """
  paddings = [[0, 0]]
  for axis, pool, stride in zip((1, 2), pool_size, strides, strict=True):
    size = _size(x, axis)
    biggest = max if isinstance(size, int) else tf.maximum
    # There are `ceil(size / stride)` windows. If the padding is odd, the end
    # gets one more than the start.
    total = biggest((-(-size // stride) - 1) * stride + pool - size, 0)
    paddings.append([total // 2, total - total // 2])
  return tf.pad(x, [*paddings, [0, 0]], constant_values=x.dtype.min)
