"""Copies of a model that differ in the configuration of their layers."""

from collections.abc import Callable
from collections.abc import Iterator
import tempfile
import types
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import inputs
from tfmeta.core import keras_internals
from tfmeta.layers import converted


def walk(
  parent: keras.Layer, prefix: str = ""
) -> Iterator[tuple[str, keras.Layer]]:
  """Yields the path and the layer of each layer in `parent`, outer ones first.

  Args:
    parent: A model, or any layer with layers inside.
    prefix: Text with which all paths begin. Defaults to `""`.
  """
  for layer in keras_internals.flatten_layers(
    parent, include_self=False, recursive=False
  ):
    yield prefix + layer.name, layer
    yield from walk(layer, f"{prefix}{layer.name}/")


def rebuild(
  model: keras.Model, edit: Callable[[dict[str, Any]], dict[str, Any]]
) -> keras.Model:
  """Makes a model again from its configuration, and copies its variables.

  Args:
    model: A built model.
    edit: A function that is called with the configuration of each object in the
      model (a dict with `"class_name"`, `"module"`, `"registered_name"` and
      `"config"`), inner objects first. It returns the configuration to use
      instead.

  Returns:
    A new model, not compiled, with the values of all variables of `model`, cast
    to the dtypes of its own variables, and with the assets of its layers, such
    as vocabularies. What is frozen in `model` is frozen.

  Raises:
    ValueError: If `model` is not built, or cannot be made from the edited
      configuration.
  """
  if not model.built:
    raise ValueError(
      "`model` must be built: give it an Input, or call it once. "
      f"Received: model={model.name}"
    )
  # The constructors of the user's own layers run here, and may raise anything.
  try:
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    copy = keras.saving.deserialize_keras_object(
      _edit_all(config, edit),
      custom_objects=_custom_objects(model),
      safe_mode=False,
    )
    # This may create variables, so it comes before copying their values.
    match(copy, model)
    _copy_state(model, copy)
  except Exception as error:
    raise ValueError(
      "`model` must be of classes whose `get_config` returns all arguments of "
      "their constructors, because it is made again from its configuration. "
      f"Received: model={model.name} ({_first_line(error)})"
    ) from error
  return copy


def called(model: keras.Model) -> keras.Model:
  """Returns `model` after a symbolic call.

  Keras exports a model to ONNX only if it has been called.

  Args:
    model: A built functional or Sequential model.
  """
  model(
    tf.nest.map_structure(
      lambda x: keras.KerasTensor(x.shape, x.dtype, name=x.name),
      inputs.symbolic_inputs(model),
    )
  )
  return model


def match(copy: keras.Model, model: keras.Model) -> None:
  """Gives `copy` what a configuration does not record everywhere.

  These are the LoRA factors and the quantization of layers, and `trainable` of
  layers and variables: the copy of a model with a frozen backbone of an own
  class has weights that train. Both models must agree, because `stateless_call`
  splits variables by `trainable`.

  Args:
    copy: A model of the same layers, which this function changes.
    model: A built model.
  """
  converted.convert(copy, converted.conversions_of(model))
  set_trainable(copy, trainable_of(model))


def serialized(model: keras.Model) -> dict[str, Any]:
  """Returns the configuration of `model`, with what `match` copies."""
  return {
    **keras.saving.serialize_keras_object(model),
    "trainable": trainable_of(model),
    "conversions": converted.conversions_of(model),
  }


def deserialized(config: dict[str, Any]) -> keras.Model:
  """Returns the model of a configuration that `serialized` returned.

  The values of its weights are new. Configurations without the entries that
  `serialized` adds are taken too.
  """
  model = keras.saving.deserialize_keras_object(config)
  converted.convert(model, config.get("conversions") or ())
  if config.get("trainable") is not None:
    set_trainable(model, config["trainable"])
  return model


def trainable_of(model: keras.Model) -> list[bool]:
  """Returns `trainable` of all layers with weights, and of all variables."""
  return [bool(each.trainable) for each in _layers_and_variables(model)]


def set_trainable(model: keras.Model, flags: list[bool]) -> None:
  """Sets `trainable` of all layers with weights, and of all variables.

  Only values that differ are written, because other threads may read them at
  the same time.

  Args:
    model: A built model.
    flags: The values, in the order of `trainable_of`.
  """
  for each, flag in zip(_layers_and_variables(model), flags, strict=True):
    if bool(each.trainable) != flag:
      each.trainable = flag


def _layers_and_variables(model: keras.Model) -> list[Any]:
  # Outer layers come first, because setting a layer sets its inner layers too.
  layers = _without_inputs(model)
  return [*[layer for layer in layers if layer.weights], *model.variables]


def _without_inputs(model: keras.Model) -> list[keras.Layer]:
  """Returns all layers of a model but its input layers.

  A model may share these with an inner model, and its copy does not.
  """
  return [
    layer
    for layer in keras_internals.flatten_layers(model)
    if not isinstance(layer, keras.layers.InputLayer)
  ]


def _edit_all(value, edit):
  if isinstance(value, (list, tuple)):
    return type(value)(_edit_all(entry, edit) for entry in value)
  if not isinstance(value, dict):
    return value
  value = {key: _edit_all(entry, edit) for key, entry in value.items()}
  return edit(value) if {"class_name", "config"} <= set(value) else value


def _copy_state(source, target):
  pairs = list(zip(source.variables, target.variables, strict=True))
  for old, new in pairs:
    if old.shape != new.shape:
      raise ValueError(f"{new.path} has shape {new.shape}, not {old.shape}")
    new.assign(keras.ops.cast(old, new.dtype))
  for old, new in zip(*map(_without_inputs, (source, target)), strict=True):
    # Vocabularies and the like are no variables.
    if hasattr(old, "save_assets") and hasattr(new, "load_assets"):
      with tempfile.TemporaryDirectory() as folder:
        old.save_assets(folder)
        new.load_assets(folder)
    # This layer computes with constants, which it makes from its variables.
    if isinstance(new, keras.layers.Normalization):
      new.finalize_state()


def _custom_objects(model):
  """Returns the classes and functions in `model` that Keras may not know.

  Keras cannot look up a custom class or activation by name if nobody has
  registered it.
  """
  layers = keras_internals.flatten_layers(model)
  found = [type(layer) for layer in layers]
  for layer in layers:
    functions = vars(layer).values()
    found += [v for v in functions if isinstance(v, types.FunctionType)]
  return {
    thing.__name__: thing
    for thing in found
    if thing.__module__.split(".")[0] not in ("keras", "tfmeta")
  }


def _first_line(error):
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return lines[0] if lines else type(error).__name__
