"""Learned deviations of the actions of a Gaussian policy."""

import math
from typing import Any

import keras

from tfmeta import arguments


@keras.saving.register_keras_serializable("tfmeta")
class LogDeviation(keras.layers.Layer):
  """Layer that appends learned logarithms of standard deviations to means.

  The deviations are the same for all inputs: `[n, a] -> [n, 2 * a]`.

  Args:
    initial_stddev: Float > 0. Standard deviations before training. Defaults to
      1.0.
    **kwargs: Forwarded to `keras.layers.Layer`.
  """

  # `tf.vectorized_map` batches the addition of these weights.
  vectorizes = True

  def __init__(self, *, initial_stddev: float = 1.0, **kwargs: Any):
    arguments.check_number("initial_stddev", initial_stddev, above=0)
    super().__init__(**kwargs)
    self.initial_stddev = initial_stddev

  def build(self, input_shape: Any) -> None:
    self.log_stddev = self.add_weight(
      shape=(input_shape[-1],),
      initializer=keras.initializers.Constant(math.log(self.initial_stddev)),
      name="log_stddev",
    )

  def call(self, inputs: Any) -> Any:
    repeated = keras.ops.zeros_like(inputs) + self.log_stddev
    return keras.ops.concatenate([inputs, repeated], axis=-1)

  def compute_output_shape(self, input_shape: Any) -> Any:
    return (*input_shape[:-1], 2 * input_shape[-1])

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "initial_stddev": self.initial_stddev}
