"""Parts that the models share: input, normalization, pooling."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from tfmeta import layers

NORMALIZATIONS: dict[str, Callable[..., keras.Layer]] = {
  "batch": layers.BatchNormalization,
  "layer": layers.LayerNormalization,
  "group": layers.GroupNormalization,
}
HEAD_INPUTS: dict[str, Callable[..., keras.Layer]] = {
  "flatten": keras.layers.Flatten,
  "mean": keras.layers.GlobalAveragePooling2D,
}
POOLINGS: dict[str, Callable[..., keras.Layer]] = {
  "max": layers.MaxPooling2D,
  "average": keras.layers.AveragePooling2D,
}


def model_input(shape: Sequence[int], dtype: str | None) -> keras.KerasTensor:
  """Returns a model input in the precision of the variables of `dtype`.

  A model in float64 then computes on float64 inputs, and a model in mixed
  precision still takes float32 inputs.

  Args:
    shape: Shape of one example.
    dtype: Dtype or policy of the layers, or `None` for Keras's global policy.
  """
  policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
  return keras.Input(tuple(shape), dtype=policy.variable_dtype)


def normalize(
  x: keras.KerasTensor,
  kind: str,
  *,
  scale: bool = True,
  momentum: float = 0.99,
  dtype: str | None,
  name: str,
) -> keras.KerasTensor:
  """Adds a normalization layer after `x`.

  Args:
    x: `[n, ..., channels]`.
    kind: Key of `NORMALIZATIONS`, or `"none"`, which returns `x` itself.
    scale: Whether the layer learns a scale in addition to its shift. Defaults
      to `True`.
    momentum: Momentum of the moving statistics of batch normalization. Defaults
      to 0.99.
    dtype: Dtype or policy of the layer, or `None` for Keras's global policy.
    name: Name of the layer.

  Returns:
    The normalized tensor, of the shape of `x`.
  """
  if kind == "none":
    return x
  options: dict[str, Any] = {"scale": scale, "dtype": dtype, "name": name}
  if kind == "batch":
    options["momentum"] = momentum
  if kind == "group":
    # A group holds 4 channels. If 4 does not divide their number, one group
    # holds all channels.
    channels = x.shape[-1]
    options["groups"] = channels // 4 if channels % 4 == 0 else 1
  return NORMALIZATIONS[kind](**options)(x)


def pool(
  x: keras.KerasTensor, kind: str, *, dtype: str | None, name: str
) -> keras.KerasTensor:
  """Halves height and width of `x` by pooling.

  Args:
    x: `[n, height, width, channels]`.
    kind: Key of `POOLINGS`. For any other string, `x` itself is returned.
    dtype: Dtype or policy of the layer, or `None` for Keras's global policy.
    name: Name of the layer.
  """
  if kind not in POOLINGS:
    return x
  return POOLINGS[kind](2, dtype=dtype, name=name)(x)


def check_image_shape(shape: Sequence[int], smallest: int) -> None:
  """Checks that images are large enough for the poolings of a network.

  Args:
    shape: Shape of one image.
    smallest: Smallest height and width, in pixels.

  Raises:
    ValueError: If `shape` is not `(height, width, channels)`, if one of them is
      unknown, or if the height or the width is less than `smallest`.
  """
  known = len(shape) == 3 and all(isinstance(size, int) for size in shape)
  if not known or min(shape[:2]) < smallest:
    raise ValueError(
      "`input_shape` must be (height, width, channels), height and width of "
      f"at least {smallest} with this pooling. Received: input_shape={shape}"
    )
