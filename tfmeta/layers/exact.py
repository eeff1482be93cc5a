"""Replacement of layers by layers with exact second derivatives."""

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import keras_internals
from tfmeta.layers import copying
from tfmeta.layers import normalization
from tfmeta.layers import pooling
from tfmeta.layers import recurrent

# Each class has the name and the arguments of the Keras layer that it replaces.
EXACT_LAYERS = (
  normalization.BatchNormalization,
  normalization.LayerNormalization,
  normalization.GroupNormalization,
  pooling.MaxPooling2D,
  recurrent.LSTM,
  recurrent.GRU,
)
_NORMALIZATIONS = tuple(
  (getattr(keras.layers, layer.__name__), layer) for layer in EXACT_LAYERS[:3]
)
_POOLS = (
  keras.layers.MaxPooling1D,
  keras.layers.MaxPooling2D,
  keras.layers.MaxPooling3D,
)


def exact(model: keras.Model) -> keras.Model:
  """Copies a model, with layers whose second derivatives are exact.

  Keras's `BatchNormalization`, `LayerNormalization`, `GroupNormalization`,
  `MaxPooling2D`, `LSTM` and `GRU` are replaced by the layers of the same name
  in `tfmeta.layers`, at any depth: in nested models and in wrappers. A shared
  layer stays shared. The copy keeps names, configuration and the values of all
  variables; it is not compiled.

  The learners of tfmeta need the copy for recurrent layers on GPUs, and for
  batch normalization if tasks have weights of examples. They have exact
  gradients of all other operations. Code that differentiates a model
  twice by itself needs it for all of these layers.

  Args:
    model: A built `keras.Model`: functional, `Sequential`, or of a custom class
      whose `get_config` returns its layers.

  Returns:
    The copy. It shares no variable with `model`.

  Raises:
    ValueError: If `model` is not built, cannot be made from its configuration,
      or makes inexact layers in code, where they cannot be replaced.
  """
  copy = copying.rebuild(model, _exact_config)
  stuck = [
    path
    for path, layer in _inexact(copy, jit_compile=True)
    if type(layer) in _stock_classes()
  ]
  if stuck:
    raise ValueError(
      f"The layers {', '.join(stuck)} cannot be replaced, because the code of "
      "a class makes them and its configuration does not list them; make them "
      f"from tfmeta.layers there. Received: model={model.name}"
    )
  return copy


def inexact_layers(
  model: keras.Model, *, jit_compile: bool = False
) -> dict[str, str]:
  """Finds the layers whose second derivatives are known to be wrong.

  They are wrong, or missing, in code that differentiates a model by itself. The
  learners of tfmeta have exact gradients of their operations, except for
  recurrent layers on GPUs.

  Args:
    model: A built model.
    jit_compile: Whether to also find the layers that are wrong only if XLA
      compiles them. Defaults to `False`.

  Returns:
    Mapping from the path of each layer found to its remedy: a clause such as
    `"use tfmeta.layers.exact(model)"`. It is empty if no layer is known to be
    wrong.
  """
  found = {}
  for path, layer in _inexact(model, jit_compile=jit_compile):
    found[path] = _remedy(layer)
  return found


def _exact_config(config: dict[str, Any]) -> dict[str, Any]:
  # A subclass of a stock layer may compute something else, so it stays.
  stock = config.get("module") == "keras.layers"
  for layer in EXACT_LAYERS if stock else ():
    if config["class_name"] == layer.__name__:
      name = keras.saving.get_registered_name(layer)
      module = layer.__module__
      return {**config, "module": module, "registered_name": name}
  return config


def _stock_classes() -> tuple[type[keras.Layer], ...]:
  return tuple(getattr(keras.layers, cls.__name__) for cls in EXACT_LAYERS)


def _inexact(
  model: keras.Model, *, jit_compile: bool = False
) -> Iterator[tuple[str, keras.Layer]]:
  """Yields the path of each inexact layer, and the layer.

  A resize before the first trained weights does not count: its inputs depend on
  no trained weight, so no gradient runs through it.
  """
  trained = False
  for path, layer in copying.walk(model):
    if _is_inexact_normalization(layer):
      yield path, layer
    elif _is_inexact_pooling(layer, jit_compile):
      yield path, layer
    elif trained and _is_inexact_resize(layer):
      yield path, layer
    elif _is_inexact_recurrent(layer):
      yield path, layer
    trained = trained or keras_internals.has_own_trainable_weights(layer)


def _is_inexact_normalization(layer: keras.Layer) -> bool:
  for stock, ours in _NORMALIZATIONS:
    if isinstance(layer, stock) and not isinstance(layer, ours):
      # A frozen batch normalization uses moving statistics, and `rms_scaling`
      # uses a root mean square. Neither needs `tf.nn.moments`.
      frozen = stock is keras.layers.BatchNormalization and not layer.trainable
      return not frozen and not getattr(layer, "rms_scaling", False)
  return False


def _is_inexact_pooling(layer: keras.Layer, jit_compile: bool) -> bool:
  if not isinstance(layer, _POOLS):
    return False
  ours = getattr(layer, "method", "stock") != "stock"
  return not ours and (jit_compile or pooling.keeps_size(layer))


def _is_inexact_resize(layer: keras.Layer) -> bool:
  resizes = (keras.layers.UpSampling2D, keras.layers.Resizing)
  return isinstance(layer, resizes) and layer.interpolation == "bilinear"


def _is_inexact_recurrent(layer: keras.Layer) -> bool:
  """Returns whether a layer may use a kernel of cuDNN."""
  if not isinstance(layer, (keras.layers.LSTM, keras.layers.GRU)):
    return False
  on_gpu = bool(tf.config.list_physical_devices("GPU"))
  return on_gpu and layer.use_cudnn is not False


def _remedy(layer: keras.Layer) -> str:
  """Returns the remedy for an inexact layer."""
  if type(layer) in _stock_classes():
    return "use tfmeta.layers.exact(model)"
  if _is_inexact_normalization(layer):
    return "derive it from the layer of the same name in tfmeta.layers"
  if isinstance(layer, _POOLS) and pooling.keeps_size(layer):
    return "pad before it, with padding='valid'"
  if isinstance(layer, _POOLS):
    return "compile without XLA (jit_compile=False)"
  if _is_inexact_recurrent(layer):
    return "make it with use_cudnn=False"
  return "put it before the first layer with weights, or use Conv2DTranspose"
