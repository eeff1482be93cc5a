"""Learned numbers beside the inputs of a network."""

from typing import Any

import keras

from tfmeta import arguments


@keras.saving.register_keras_serializable("tfmeta")
class LearnedInputs(keras.layers.Layer):
  """Layer that appends learned numbers to its inputs.

  The numbers are the same for all examples and start at 0: `[n, d] -> [n, d +
  units]`. An inner loop adapts them like other weights.

  Args:
    units: Integer >= 1. How many numbers are appended.
    **kwargs: Forwarded to `keras.layers.Layer`.

  Raises:
    ValueError: If `units` is out of range.
  """

  # `tf.vectorized_map` batches the addition of these weights.
  vectorizes = True

  def __init__(self, units: int, **kwargs: Any):
    arguments.check_integer("units", units, least=1)
    super().__init__(**kwargs)
    self.units = units

  def build(self, input_shape: Any) -> None:
    del input_shape
    self.values = self.add_weight(
      shape=(self.units,), initializer="zeros", name="values"
    )

  def call(self, inputs: Any) -> Any:
    zeros = keras.ops.zeros_like(inputs[..., :1])
    return keras.ops.concatenate([inputs, zeros + self.values], axis=-1)

  def compute_output_shape(self, input_shape: Any) -> Any:
    return (*input_shape[:-1], input_shape[-1] + self.units)

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "units": self.units}
