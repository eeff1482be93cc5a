"""Exchanging the layers of a model for ones with exact second derivatives."""

import keras

from tfmeta.layers import copying
from tfmeta.layers import normalization
from tfmeta.layers import pooling

# The names are those of Keras.
EXACT_LAYERS = (
  normalization.BatchNormalization,
  normalization.LayerNormalization,
  normalization.GroupNormalization,
  pooling.MaxPooling2D,
)
_NORMALIZATIONS = tuple(
  (getattr(keras.layers, layer.__name__), layer) for layer in EXACT_LAYERS[:3]
)


def exact(model: keras.Model) -> keras.Model:
  """Copies a model, with layers that are exact at second order.

  `BatchNormalization`, `LayerNormalization`, `GroupNormalization` and
  `MaxPooling2D` of Keras become those of `tfmeta.layers`, at any depth: in
  nested models, in wrappers, shared ones once. Names, configuration and the
  values of all variables are kept; the copy is not compiled.

  Args:
    model: A built `keras.Model`: functional, `Sequential`, or one of a class of
      your own that keeps its layers in its `get_config`.

  Returns:
    The copy. It shares no variable with `model`.

  Raises:
    ValueError: If `model` is not built, cannot be made from its configuration,
      or makes inexact layers in code, where they cannot be exchanged.
  """
  copy = copying.rebuild(model, _exact_config)
  stuck = [
    path
    for path, layer in _inexact(copy, jit_compile=True)
    if type(layer) in _stock_classes()
  ]
  if stuck:
    raise ValueError(
      f"The layers {', '.join(stuck)} cannot be exchanged: they are made in "
      "the code of a class and not listed in its configuration. Make them "
      f"there from tfmeta.layers. Received: model={model.name}"
    )
  return copy


def inexact_layers(
  model: keras.Model, *, jit_compile: bool = False
) -> dict[str, str]:
  """Finds the layers whose second derivatives are known to be wrong.

  Args:
    model: A built model.
    jit_compile: Whether to list also those that are wrong only when compiled
      by XLA. Default `False`.

  Returns:
    Mapping from the path of a layer to what to do about it, in a sentence
    without its full stop; empty if none is known to be wrong.
  """
  found = {}
  for path, layer in _inexact(model, jit_compile=jit_compile):
    found[path] = _remedy(layer)
  return found


def _exact_config(config):
  stock = config.get("module") == "keras.layers"
  for layer in EXACT_LAYERS if stock else ():
    if config["class_name"] == layer.__name__:
      name = keras.saving.get_registered_name(layer)
      module = layer.__module__
      return {**config, "module": module, "registered_name": name}
  return config


def _stock_classes():
  return tuple(getattr(keras.layers, cls.__name__) for cls in EXACT_LAYERS)


def _inexact(model, *, jit_compile=False):
  """Yields path and layer; a resize counts only after trained weights."""
  trained = False
  for path, layer in copying.walk(model):
    if _is_inexact_normalization(layer):
      yield path, layer
    elif jit_compile and _is_inexact_pooling(layer):
      yield path, layer
    elif trained and _is_inexact_resize(layer):
      yield path, layer
    trained = trained or bool(layer._trainable_variables and layer.trainable)


def _is_inexact_normalization(layer):
  for stock, ours in _NORMALIZATIONS:
    if isinstance(layer, stock) and not isinstance(layer, ours):
      frozen = stock is keras.layers.BatchNormalization and not layer.trainable
      return not frozen and not getattr(layer, "rms_scaling", False)
  return False


def _is_inexact_pooling(layer):
  pools = (
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
  )
  if isinstance(layer, pooling.MaxPooling2D):
    return layer.method == "stock"
  return isinstance(layer, pools)


def _is_inexact_resize(layer):
  resizes = (keras.layers.UpSampling2D, keras.layers.Resizing)
  return isinstance(layer, resizes) and layer.interpolation == "bilinear"


def _remedy(layer):
  if type(layer) in _stock_classes():
    return "use tfmeta.layers.exact(model)"
  if _is_inexact_normalization(layer):
    return "derive it from the layer of the same kind in tfmeta.layers"
  if _is_inexact_pooling(layer):
    return "compile without XLA (jit_compile=False)"
  return "put it before the first layer with weights, or use Conv2DTranspose"
