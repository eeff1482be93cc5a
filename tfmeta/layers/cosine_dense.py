"""A classifier of cosine similarities."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments

# Added below the square root of a squared norm, whose derivative at zero is
# infinite without it.
_EPSILON = 1e-12


@keras.saving.register_keras_serializable("tfmeta")
class CosineDense(keras.layers.Layer):
  """Dense layer whose outputs are scaled cosine similarities.

  Output c is `scale * gain[c] * cosine(inputs, kernel[:, c])`, so the lengths
  of the inputs and of the columns of the kernel do not matter. As the last
  layer of a classifier, the outputs are logits [1].

  In the released code, the gains start at the lengths of columns that are
  sampled like those of a linear layer, which are about 0.6.

  Args:
    units: Integer >= 1. Number of outputs.
    scale: Float > 0. Factor of all outputs. The released code uses 2 for up to
      200 classes, and 10 for more. Defaults to 2.0.
    use_gain: Whether each output has a learned factor, which starts at 1.
      Defaults to `True`.
    kernel_initializer: Initializer of the kernel. Defaults to
      `"glorot_uniform"`.
    **kwargs: Forwarded to `keras.layers.Layer`.

  Raises:
    ValueError: If `units` or `scale` is out of range.

  References:
    [1] W. Chen, Y. Liu, Z. Kira, Y. Wang, J. Huang. A Closer Look at Few-shot
        Classification. ICLR 2019. https://arxiv.org/abs/1904.04232
  """

  # `tf.vectorized_map` batches the multiplication by these weights.
  vectorizes = True

  def __init__(
    self,
    units: int,
    *,
    scale: float = 2.0,
    use_gain: bool = True,
    kernel_initializer: Any = "glorot_uniform",
    **kwargs: Any,
  ):
    arguments.check_integer("units", units, least=1)
    arguments.check_number("scale", scale, above=0)
    super().__init__(**kwargs)
    self.units = units
    self.scale = scale
    self.use_gain = use_gain
    self.kernel_initializer = keras.initializers.get(kernel_initializer)

  def build(self, input_shape: Any) -> None:
    self.kernel = self.add_weight(
      shape=(input_shape[-1], self.units),
      initializer=self.kernel_initializer,
      name="kernel",
    )
    self.gain = None
    if self.use_gain:
      self.gain = self.add_weight(
        shape=(self.units,), initializer="ones", name="gain"
      )

  def call(self, inputs: Any) -> Any:
    kernel = tf.convert_to_tensor(self.kernel)
    cosines = tf.matmul(
      tf.math.l2_normalize(inputs, axis=-1, epsilon=_EPSILON),
      tf.math.l2_normalize(kernel, axis=0, epsilon=_EPSILON),
    )
    if self.gain is not None:
      cosines *= self.gain
    return self.scale * cosines

  def compute_output_shape(self, input_shape: Any) -> Any:
    return (*input_shape[:-1], self.units)

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "units": self.units,
      "scale": self.scale,
      "use_gain": self.use_gain,
      "kernel_initializer": keras.initializers.serialize(
        self.kernel_initializer
      ),
    }
