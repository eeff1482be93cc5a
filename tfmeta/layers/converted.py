"""Layers that Keras converts after they are built: LoRA and quantization.

The configuration of an outer layer, such as `MultiHeadAttention`, does not say
how its inner layers were converted. A file that Keras writes holds the product
of LoRA factors as part of the kernel, and the factors load as zeros, which no
gradient moves again.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfmeta.core import keras_internals

_CHANGED_BY_GRADIENTS = "float8"


def conversions_of(model: keras.Model) -> list[dict[str, Any]]:
  """Returns how the layers of `model` that have weights were converted.

  Returns:
    A configuration for each of these layers, in the order of the layers; empty
    if no layer was converted.
  """
  found = [_conversion_of(layer) for layer in _with_weights(model)]
  return found if any(found) else []


def convert(model: keras.Model, conversions: Sequence[dict[str, Any]]) -> None:
  """Converts the layers of `model` that are not converted yet.

  The weights of the layers that it converts have new values.

  Args:
    model: A built model.
    conversions: What `conversions_of` returned for a model of the same layers.
  """
  if conversions:
    for layer, wanted in zip(_with_weights(model), conversions, strict=True):
      _convert(layer, wanted)


class WholeLayers(keras.layers.Layer):
  """Layer that stores the weights of other layers unchanged in a Keras file.

  When Keras saves a layer with LoRA, it merges the factors into the kernel and
  loads factors of zeros. A learner has this layer as an additional child, which
  saves all weights of such layers and restores them when the file is loaded.
  Keras loads the children of a model in the order of their names. The name of
  this child must come after that of the model, so that it is loaded last.

  Args:
    layers: The layers, which remain the children of another model.
  """

  def __init__(self, layers: Sequence[keras.Layer]):
    super().__init__()
    # Keras would track a list of layers as children.
    self._of = lambda: layers
    self.built = True

  def save_own_variables(self, store: Any) -> None:
    for name, variable in self._named():
      store[name] = variable

  def load_own_variables(self, store: Any) -> None:
    if not set(store.keys()) >= {name for name, _ in self._named()}:
      raise ValueError(
        "The file must hold the LoRA factors of "
        f"{_listed(self._of())}. A file that was written without them fits the "
        "model before `enable_lora`: load it first. Received: a file without "
        "these factors"
      )
    for name, variable in self._named():
      variable.assign(store[name])

  def _named(self) -> list[tuple[str, Any]]:
    return [
      (f"{index}_{variable.name}", variable)
      for index, layer in enumerate(self._of())
      for variable in layer.variables
    ]


def kept_whole(model: keras.Model) -> WholeLayers | None:
  """Returns the part of a learner that saves the LoRA layers of `model`.

  Returns:
    The part, or `None` if no layer has LoRA factors.

  Raises:
    ValueError: If a layer computes in float8, or has LoRA factors of zeros.
  """
  layers = _with_weights(model)
  _check_precision(model, layers)
  factored = [layer for layer in layers if _has_factors(layer)]
  for layer in factored:
    _check_factors(layer)
  return WholeLayers(factored) if factored else None


def _check_precision(model: keras.Model, layers: list[keras.Layer]) -> None:
  found = [
    layer
    for layer in layers
    if _quantization_of(layer) == _CHANGED_BY_GRADIENTS
  ]
  if found:
    raise ValueError(
      "Layers in float8 are not supported, because their scales are no weights "
      "that a gradient step could adapt: use model.quantize('int8'), or none. "
      f"Received: model={model.name!r}, with {_listed(found)} in float8"
    )


def _check_factors(layer: keras.Layer) -> None:
  factors = [v for v in layer.variables if v.name.startswith("lora_")]
  if not any(np.any(keras.ops.convert_to_numpy(v)) for v in factors):
    raise ValueError(
      f"The LoRA factors of {layer.path!r} must not all be zero, because none "
      "would ever move. Keras loads such factors from its files, which hold "
      "their product in the kernel: save the learner instead of its model, or "
      f"assign new values to {factors[0].path}. Received: factors of zeros"
    )


def _conversion_of(layer: keras.Layer) -> dict[str, Any]:
  found: dict[str, Any] = {}
  mode = _quantization_of(layer)
  if mode:
    config = getattr(layer, "quantization_config", None)
    found["quantization_mode"] = mode
    found["quantization_config"] = keras.saving.serialize_keras_object(config)
  if _has_factors(layer):
    found["lora_rank"] = layer.lora_rank
    found["lora_alpha"] = layer.lora_alpha
  return found


def _convert(layer: Any, wanted: dict[str, Any]) -> None:
  if "quantization_mode" in wanted and not _quantization_of(layer):
    config = keras.saving.deserialize_keras_object(
      wanted["quantization_config"]
    )
    layer.quantize(wanted["quantization_mode"], config=config)
  if "lora_rank" in wanted:
    if not _has_factors(layer):
      layer.enable_lora(wanted["lora_rank"])
    # Some layers forget this factor when they are built with LoRA.
    layer.lora_alpha = wanted["lora_alpha"]


def _quantization_of(layer: Any) -> str | None:
  """Returns the mode of a quantized layer, such as `"int8"`, or `None`."""
  # A model has the attribute too, and no variables of its own.
  return None if isinstance(layer, keras.Model) else layer.quantization_mode


def _has_factors(layer: Any) -> bool:
  return bool(getattr(layer, "lora_enabled", False))


def _with_weights(model: keras.Model) -> list[Any]:
  layers = keras_internals.flatten_layers(model)
  return [layer for layer in layers if layer.weights]


def _listed(layers: Sequence[keras.Layer]) -> str:
  return ", ".join(repr(layer.path) for layer in layers)
