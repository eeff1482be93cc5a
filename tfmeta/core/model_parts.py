"""A model that is cut into a body and a head.

The cut goes through the graph of layer calls. Everything that depends on a
layer of the head belongs to the head too. The body may end at several tensors,
the features, because a head may take branches and inputs of the model. Both
parts share the layers of the model.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import inputs as model_inputs
from tfmeta.core import keras_internals


# No tuple: a Keras model that holds one would track the parts as its layers.
@dataclasses.dataclass(frozen=True)
class Parts:
  """A model that is cut into two.

  Attributes:
    body: Model from the inputs to a list of features.
    head: Model from these features to the outputs.
  """

  body: keras.Model
  head: keras.Model


def cut(model: keras.Model, may_be_body: Callable[[Any], bool]) -> Parts | None:
  """Cuts a model where its first layer begins that must be in the head.

  Args:
    model: A built functional or `Sequential` model.
    may_be_body: Function from a layer, or from an operation of `keras.ops`, to
      whether it may belong to the body.

  Returns:
    The two parts; `None` if the body would have no weights, or if the model
    cannot be cut there.
  """
  moving: set[int] = set()
  ends: dict[int, Any] = {}
  first = []
  for call in keras_internals.calls_of(model):
    moves = any(id(t) in moving for t in call.inputs)
    if moves or not may_be_body(call.operation):
      moving.update(map(id, call.outputs))
      met = {id(t): t for t in call.inputs if id(t) not in moving}
      ends.update(met)
      first += [call] if met else []
  # A mask that goes from layer to layer would end at the cut.
  if not ends or any(map(keras_internals.has_mask, ends.values())):
    return None
  try:
    inside = _cut_inside(model, first, may_be_body)
    return inside or _cut_at(model, list(ends.values()))
  except ValueError:  # Keras cannot cut at a layer that is called again later.
    return None


def cut_before(model: keras.Model, chosen: Sequence[bool]) -> Parts | None:
  """Cuts a model before its first layer that holds a chosen weight.

  Args:
    model: A built functional or `Sequential` model.
    chosen: One boolean for each of `model.trainable_variables`.

  Returns:
    The two parts, or `None`: see `cut`.
  """
  pairs = zip(model.trainable_variables, chosen, strict=True)
  ends = {id(v) for v, is_chosen in pairs if is_chosen}

  def may_be_body(layer: Any) -> bool:
    weights = getattr(layer, "trainable_weights", [])
    return not any(id(v) in ends for v in weights)

  return cut(model, may_be_body)


def values_of(
  variables: Sequence[Any], known: Sequence[Any], values: Sequence[Any]
) -> list[Any]:
  """Returns the values of variables in their order.

  Args:
    variables: Variables of a model or of a part of it.
    known: Variables, among them all of `variables`. The last place of a
      variable counts.
    values: One value for each of `known`.
  """
  found = {id(v): value for v, value in zip(known, values, strict=True)}
  return [found[id(v)] for v in variables]


def _cut_at(model: keras.Model, ends: Sequence[Any]) -> Parts | None:
  """Cuts a model at symbolic tensors, the features."""
  body = keras.Model(model_inputs.symbolic_inputs(model), list(ends))
  return Parts(body, _behind(model, ends)) if body.weights else None


def _cut_inside(
  model: keras.Model,
  first: Sequence[keras_internals.Call],
  may_be_body: Callable[[Any], bool],
) -> Parts | None:
  """Cuts a model inside of a model that is one of its layers."""
  if len(first) != 1 or not isinstance(first[0].operation, keras.Model):
    return None
  call = first[0]
  # A model with a `call` of its own has no graph.
  if getattr(call.operation, "inputs", None) is None:
    return None
  given = [value for value in call.arguments.values() if value is not None]
  simple = len(call.inputs) == len(call.outputs) == 1 and not given
  inner = cut(call.operation, may_be_body) if simple else None
  if inner is None:
    return None
  body, head = inner.body, inner.head
  start = call.inputs[0]
  if not any(start is tensor for tensor in model.inputs):
    before = keras.Model(model_inputs.symbolic_inputs(model), start)
    body = _chained(before, body)
  if not any(call.outputs[0] is tensor for tensor in model.outputs):
    head = _chained(head, _behind(model, call.outputs))
  return Parts(body, head)


def _behind(model: keras.Model, tensors: Sequence[Any]) -> keras.Model:
  return keras.Model(list(tensors), model.outputs[0])


def _chained(first: keras.Model, second: keras.Model) -> keras.Model:
  inputs = tf.nest.map_structure(
    lambda x: keras.Input(x.shape[1:], dtype=x.dtype, name=x.name),
    first.input,
  )
  return keras.Model(inputs, second(first(inputs)))
