"""A model in another precision."""

import keras

from tfmeta.layers import copying

_FLOATS = ("bfloat16", "float16", "float32", "float64")


def in_dtype(model: keras.Model, dtype: str) -> keras.Model:
  """Copies a model, with all layers and floating inputs in `dtype`.

  Args:
    model: A built model that can be made again from its configuration.
    dtype: `"float32"` or `"float64"`.

  Returns:
    The copy, not compiled, with the same values of all variables.

  Raises:
    ValueError: If `model` cannot be made again from its configuration.
  """

  def edit(config):
    inner = config["config"]
    if config["class_name"] == "DTypePolicy":
      return {**config, "config": {"name": dtype}}
    if isinstance(inner, dict) and inner.get("dtype") in _FLOATS:
      return {**config, "config": {**inner, "dtype": dtype}}
    return config

  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(dtype)
  try:
    return copying.rebuild(model, edit)
  finally:
    keras.config.set_dtype_policy(before)
