"""What the models are put together from."""

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
  """Returns an input that keeps the precision of the variables of `dtype`."""
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
  """Normalises `x` by the layer called `kind`; `"none"` returns it as it is."""
  if kind == "none":
    return x
  options: dict[str, Any] = {"scale": scale, "dtype": dtype, "name": name}
  if kind == "batch":
    options["momentum"] = momentum
  if kind == "group":
    channels = x.shape[-1]
    options["groups"] = channels // 4 if channels % 4 == 0 else 1
  return NORMALIZATIONS[kind](**options)(x)


def pool(
  x: keras.KerasTensor, kind: str, *, dtype: str | None, name: str
) -> keras.KerasTensor:
  """Halves the map by the pooling called `kind`; others leave it as it is."""
  if kind not in POOLINGS:
    return x
  return POOLINGS[kind](2, dtype=dtype, name=name)(x)


def check_option(name: str, value: str, options: Sequence[str]) -> None:
  """Checks a named choice.

  Raises:
    ValueError: If `value` is none of `options`.
  """
  if value not in options:
    raise ValueError(
      f"`{name}` must be one of {', '.join(options)}. "
      f"Received: {name}={value!r}"
    )


def check_positive(name: str, value: int) -> None:
  """Checks a count.

  Raises:
    ValueError: If `value` is less than 1.
  """
  if value < 1:
    raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")


def check_image_shape(shape: Sequence[int], smallest: int) -> None:
  """Checks that images survive the reductions of a network.

  Raises:
    ValueError: If `shape` is not `(height, width, channels)`, all known, with
      height and width of at least `smallest`.
  """
  known = len(shape) == 3 and all(isinstance(size, int) for size in shape)
  if not known or min(shape[:2]) < smallest:
    raise ValueError(
      "`input_shape` must be (height, width, channels), height and width of "
      f"at least {smallest} with this pooling. Received: input_shape={shape}"
    )
