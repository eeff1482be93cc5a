"""Examples of a model with one input, or with several in a structure.

A model with several inputs takes a dictionary, a tuple or a list of tensors.
`support_x` and `query_x` then have this structure too. Everything else maps
over its tensors.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def symbolic_inputs(model: keras.Model) -> Any:
  """Returns the symbolic input of `model`, or a structure of them.

  Args:
    model: A built functional or Sequential model.
  """
  return model.inputs[0] if len(model.inputs) == 1 else model.input


def input_specs(model: keras.Model) -> Any:
  """Returns a `tf.TensorSpec` for the input of `model`, or a structure of them.

  The shapes begin with the axis of examples. The names are those of the inputs.

  Args:
    model: A built functional or Sequential model.
  """
  return tf.nest.map_structure(
    lambda x: tf.TensorSpec(x.shape, x.dtype, x.name), symbolic_inputs(model)
  )


def arranged(model: keras.Model, name: str, x: Any) -> Any:
  """Returns examples in the structure of the inputs of `model`.

  As in Keras, the examples of a model that takes a list or a tuple may also be
  a dictionary with the names of its inputs.

  Args:
    model: A built functional or Sequential model.
    name: Name of the examples, for the message.
    x: A tensor or a structure of tensors, or of their specifications.

  Raises:
    ValueError: If the structure does not fit.
  """
  specs = input_specs(model)
  found = x
  if isinstance(x, Mapping) and not isinstance(specs, Mapping):
    names = [spec.name for spec in tf.nest.flatten(specs)]
    if set(names) == set(x):
      found = [x[key] for key in names]
  if isinstance(specs, tf.TensorSpec):
    if not _is_structure(found):
      return _as_array(name, found)
    if len(found) == 1:
      return tf.nest.flatten(found)[0]
  elif tf.nest.is_nested(found) and _fits(specs, found):
    return tf.nest.pack_sequence_as(specs, tf.nest.flatten(found))
  raise ValueError(
    f"{name} must have the structure of the inputs of the model, "
    f"{_described(specs)}. Received: {_described(x)}"
  )


def tensors(x: Any) -> Any:
  """Returns a structure with all its leaves as tensors."""
  return tf.nest.map_structure(tf.convert_to_tensor, x)


def count_of(x: Any) -> tf.Tensor:
  """Returns the length of the first axis of all tensors in a structure."""
  return tf.shape(tf.nest.flatten(x)[0])[0]


def _is_structure(x: Any) -> bool:
  """Returns whether `x` is a structure of tensors, not a list of numbers."""
  leaves = tf.Tensor | tf.TensorSpec
  return isinstance(x, Mapping) or (
    isinstance(x, list | tuple) and any(isinstance(t, leaves) for t in x)
  )


def _as_array(name: str, x: Any) -> Any:
  """Returns a list of examples as one array; other values as they are."""
  if not isinstance(x, list | tuple):
    return x
  try:
    array = np.asarray(x)
  except ValueError:
    array = None
  if array is None or array.dtype == object:
    raise ValueError(
      f"{name} must hold examples of one shape. Received: a list whose items "
      "have different shapes"
    )
  # As in TensorFlow, numbers of Python have 32 bits.
  return array.astype("float32") if array.dtype == "float64" else array


def _fits(specs: Any, x: Any) -> bool:
  # `tf.data` makes tuples of lists, so the two count as equal.
  try:
    tf.nest.assert_same_structure(specs, x, check_types=False)
  except (TypeError, ValueError):
    return False
  return isinstance(specs, Mapping) == isinstance(x, Mapping)


def _described(x: Any) -> str:
  if isinstance(x, Mapping):
    return f"a dictionary with the keys {', '.join(map(repr, sorted(x)))}"
  if isinstance(x, list | tuple):
    return f"a {type(x).__name__} of {len(x)} tensors"
  return "one tensor"
