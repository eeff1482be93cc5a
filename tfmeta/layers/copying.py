"""Copies of a model that differ in the configuration of their layers."""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras


def walk(
  parent: keras.Layer, prefix: str = ""
) -> Iterator[tuple[str, keras.Layer]]:
  """Yields the path and layer of everything in `parent`, outer ones first."""
  for layer in parent._flatten_layers(include_self=False, recursive=False):
    yield prefix + layer.name, layer
    yield from walk(layer, f"{prefix}{layer.name}/")


def rebuild(
  model: keras.Model, edit: Callable[[dict[str, Any]], dict[str, Any]]
) -> keras.Model:
  """Makes a model again from its configuration, and copies its variables.

  Args:
    model: A built model.
    edit: Called with the configuration of each object in the model (a dict
      with `"class_name"`, `"module"`, `"registered_name"` and `"config"`), from
      the inside out; returns what takes its place.

  Returns:
    A new model, not compiled, with the values of all variables of `model` in
    the dtypes of its own.

  Raises:
    ValueError: If `model` is not built or cannot be made from what `edit` left.
  """
  if not model.built:
    raise ValueError(
      "`model` must be built: give it an Input, or call it once. "
      f"Received: model={model.name}"
    )
  classes = {
    type(layer).__name__: type(layer) for layer in model._flatten_layers()
  }
  try:
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    copy = keras.saving.deserialize_keras_object(
      _edit_all(config, edit), custom_objects=_own(classes), safe_mode=False
    )
    _copy_variables(model, copy)
  except (NotImplementedError, TypeError, ValueError) as error:
    raise ValueError(
      "`model` cannot be made again from its configuration; its classes need "
      "a `get_config` that tells all arguments of their constructors. "
      f"Received: model={model.name} ({_first_line(error)})"
    ) from error
  return copy


def _edit_all(value, edit):
  if isinstance(value, (list, tuple)):
    return type(value)(_edit_all(entry, edit) for entry in value)
  if not isinstance(value, dict):
    return value
  value = {key: _edit_all(entry, edit) for key, entry in value.items()}
  return edit(value) if {"class_name", "config"} <= set(value) else value


def _copy_variables(source, target):
  pairs = list(zip(source.variables, target.variables, strict=True))
  for old, new in pairs:
    if old.shape != new.shape:
      raise ValueError(f"{new.path} has shape {new.shape}, not {old.shape}")
    new.assign(keras.ops.cast(old, new.dtype))


def _own(classes):
  libraries = ("keras", "tfmeta")
  return {
    name: cls
    for name, cls in classes.items()
    if cls.__module__.split(".")[0] not in libraries
  }


def _first_line(error):
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return lines[0] if lines else type(error).__name__
