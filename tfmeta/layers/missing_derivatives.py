"""Finds operations of a model that cannot be differentiated twice."""

from collections.abc import Iterator
import itertools
import re
from typing import Any
import warnings

import keras
import tensorflow as tf

from tfmeta.core import keras_internals
from tfmeta.core import operation_gradients
from tfmeta.layers import copying

# Examples in the batch with which a model is traced. Nothing is computed.
_EXAMPLES = 4

# The gradients that TensorFlow has of these are approximations, so that second
# derivatives are approximations too: it transforms the upstream gradient by the
# inverse matrix.
_APPROXIMATED = ("ImageProjectiveTransformV2", "ImageProjectiveTransformV3")

# No derivative of these differs from zero, or should.
_CONSTANT = ("StopGradient", "ZerosLike", "OnesLike")


def find(model: keras.Model) -> dict[str, str]:
  """Finds operations of a model that cannot be differentiated twice.

  The model is traced together with its gradient. Each operation in between that
  depends on trained weights is looked up in TensorFlow's table of gradients.
  Operations for which tfmeta has exact gradients are not found.

  Args:
    model: A built functional or `Sequential` model.

  Returns:
    Mapping from the path of a layer, or from the name of an operation outside
    of all layers, to the type of an operation that has no gradient, or only an
    approximate one. It is empty if the model can be differentiated twice.
  """
  found: dict[str, str] = {}
  paths = []
  for path, layer in copying.walk(model):
    paths.append(path)
    constants = _constants_by_design(layer)
    if constants:
      found[path] = f"takes {constants} as constants"
  for name, op_type in _missing(model):
    found.setdefault(_owner(name, paths), op_type)
  return found


def _constants_by_design(layer: keras.Layer) -> str:
  """Returns which tensors a layer of Keras treats as constants, or `""`.

  These tensors depend on the weights or on the batch, but Keras stops their
  gradients. First derivatives can be right nevertheless: at the fixed point of
  the power iteration of spectral normalization, or if the moving statistics of
  batch renormalization equal those of the batch. Second derivatives are not.
  """
  if isinstance(layer, keras.layers.SpectralNormalization):
    return "singular vectors"
  if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
    return "its corrections" if getattr(layer, "renorm", False) else ""
  return ""


def warn(name: str, model: keras.Model, *, stacklevel: int) -> None:
  """Warns if a model cannot be differentiated twice.

  Args:
    name: Name of what differentiates twice, for the message.
    model: A built functional or `Sequential` model.
    stacklevel: As in `warnings.warn`, seen from this function.
  """
  found = find(model)
  if found:
    warnings.warn(
      f"{name} differentiates twice. {describe(model, found)}",
      stacklevel=stacklevel,
    )


def describe(model: keras.Model, found: dict[str, str]) -> str:
  """Returns a text that names operations without gradient, and the remedy.

  Args:
    model: A built model.
    found: What `find` returned for it, not empty.
  """
  names = ", ".join(f"{name} ({op_type})" for name, op_type in found.items())
  remedy = "Use other layers or operations there"
  if all(op_type.startswith("Cudnn") for op_type in found.values()):
    remedy = "Use tfmeta.layers.exact(model), whose layers do without cuDNN"
  return (
    "There is no right second derivative of these layers of "
    f"{model.name!r}: {names}. {remedy}, or a learner that differentiates "
    "once, such as tfmeta.FOMAML."
  )


def _missing(model: keras.Model) -> Iterator[tuple[str, str]]:
  """Yields the name and the type of each operation without a derivative."""
  try:
    graph, weights, gradients = _traced_gradient(model)
  except LookupError as error:
    # There is not even a first derivative.
    found = re.search(r"operation ?'(.*)' \(op type: (\w+)\)", str(error))
    if found is None:
      raise
    yield found[1], found[2]
    return
  above = _reached(weights, lambda op: op.outputs, lambda t: t.consumers())
  below = _reached(gradients, lambda op: op.inputs, lambda t: [t.op])
  for op in graph.get_operations():
    if op.name in above and op.name in below:
      if not op.name.startswith("gradients/"):
        yield from _wrong_in(graph, op)
      yield from _missing_in(graph, op, op.name)


def _wrong_in(graph: tf.Graph, op: tf.Operation) -> Iterator[tuple[str, str]]:
  """Yields what in `op` has a wrong derivative, or one that ends there."""
  called = keras_internals.graphs_called(graph, op)
  inside = map(keras_internals.operations_in, called)
  for inner in itertools.chain([op], *inside):
    if keras_internals.is_recomputed(inner):
      yield op.name, "recompute_grad"
    elif operation_gradients.is_left(inner):
      yield op.name, f"{inner.type} in a tf.function with custom gradients"
    elif inner.type in _APPROXIMATED:
      yield op.name, inner.type


def _missing_in(
  graph: tf.Graph, op: tf.Operation, name: str
) -> Iterator[tuple[str, str]]:
  """Yields what `op`, or an operation in a function that it calls, lacks."""
  if keras_internals.has_gradient(op) is not True and not _is_constant(op):
    yield name, op.type
  # What a forward loop contains is differentiated again in its gradient.
  if name.startswith("gradients/"):
    for inner in keras_internals.graphs_called(graph, op):
      for inside in inner.get_operations():
        yield from _missing_in(inner, inside, f"{name}/{inside.name}")


def _traced_gradient(model: keras.Model) -> tuple[Any, list[Any], list[Any]]:
  """Traces a model and its gradient.

  Returns:
    The graph, its tensors for the trained weights, and the gradients of a
    scalar with respect to them, without those that are `None`.
  """
  found: list[Any] = []
  names = operation_gradients.EXACT

  def trace(weights: Any, state: Any, x: Any) -> None:
    graph = tf.compat.v1.get_default_graph()
    with graph.gradient_override_map(names):
      outputs, _ = model.stateless_call(weights, state, x, training=True)
    keras_internals.override_inside(graph, names)
    # The gradient of a square depends on the outputs, as that of a loss does.
    scalars = [tf.reduce_sum(tf.square(y)) for y in tf.nest.flatten(outputs)]
    gradients = tf.gradients(scalars, weights)
    found.append((graph, weights, [g for g in gradients if g is not None]))

  # A `Sequential` model that was never called has no attribute `input`.
  inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
  variables = [model.trainable_variables, model.non_trainable_variables]
  tf.function(trace, autograph=False).get_concrete_function(
    *tf.nest.map_structure(
      lambda v: tf.TensorSpec(v.shape, v.dtype), variables
    ),
    tf.nest.map_structure(_spec, inputs),
  )
  return found[0]


def _spec(tensor: Any) -> tf.TensorSpec:
  return tf.TensorSpec((_EXAMPLES, *tensor.shape[1:]), tensor.dtype)


def _reached(
  tensors: list[Any], tensors_of: Any, operations_of: Any
) -> set[str]:
  """Returns the names of the operations that differentiable paths lead to.

  Args:
    tensors: Where the paths begin.
    tensors_of: Function from an operation to the tensors at its other end.
    operations_of: Function from a tensor to the operations at its other end.
  """
  found: set[str] = set()
  rest = [part for t in tensors for part in tf.nest.flatten(t, True)]
  while rest:
    tensor = rest.pop()
    if _is_exact_number(tensor):
      continue
    for op in operations_of(tensor):
      if op.name not in found and op.type not in _CONSTANT:
        found.add(op.name)
        rest += tensors_of(op)
  return found


def _is_exact_number(tensor: tf.Tensor) -> bool:
  dtype = tensor.dtype
  return dtype.is_integer or dtype.is_bool or dtype == tf.string


def _is_constant(op: tf.Operation) -> bool:
  """Returns whether no derivative of `op` differs from zero."""
  return (
    op.type in _CONSTANT
    or all(map(_is_exact_number, op.inputs))
    or all(map(_is_exact_number, op.outputs))
  )


def _owner(name: str, paths: list[str]) -> str:
  """Returns the path of the layer that made an operation, or its own name."""
  scopes = name.split("/")
  counted = [re.sub(r"_\d+$", "", scope) for scope in scopes]
  for parts in (scopes, counted):
    inside = [path for path in paths if _is_inside(path.split("/"), parts)]
    if inside:
      return max(inside, key=lambda path: path.count("/"))
  return name.removeprefix("gradients/")


def _is_inside(path: list[str], scopes: list[str]) -> bool:
  """Returns whether `scopes` contains `path`, in the same order."""
  rest = iter(scopes)
  return all(part in rest for part in path)
