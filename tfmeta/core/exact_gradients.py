"""Calls of a model whose derivatives of any order are exact.

A gradient tape looks a gradient up by the type of the operation. It treats the
call of a traced function as one operation, though, and differentiates what is
inside one by one, where each operation may name a gradient of its own. If a
model has operations that need the gradients of `operation_gradients`, it is
therefore called as a traced function. Neither its layers nor TensorFlow's own
gradients change.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import contextvars
from typing import Any
import weakref

import keras
import tensorflow as tf

from tfmeta.core import example_weights
from tfmeta.core import keras_internals
from tfmeta.core import operation_gradients
from tfmeta.typing import State
from tfmeta.typing import Weights

# For each model and kind of call, its traced function, or `None` for a model
# that needs none.
_functions: weakref.WeakKeyDictionary[keras.Model, dict[Any, Any]] = (
  weakref.WeakKeyDictionary()
)

_inside = contextvars.ContextVar("exact_gradients_inside", default=False)
_off = contextvars.ContextVar("exact_gradients_off", default=False)


@contextlib.contextmanager
def off() -> Iterator[None]:
  """Calls models as they are in this context.

  A graph that goes into a file must not contain our gradients, because no other
  program can look them up. It takes first derivatives only, which are right.
  """
  token = _off.set(True)
  try:
    yield
  finally:
    _off.reset(token)


def inside_exactly() -> bool:
  """Returns whether a function that `exactly` returned is being traced.

  A gradient in there may be differentiated again in another graph. That graph
  cannot reach what the gradient took from outside of its arguments, so custom
  gradients whose own gradients are custom must not be used.
  """
  return _inside.get()


def apply(
  model: keras.Model,
  weights: Weights,
  state: State,
  x: Any,
  *,
  training: bool,
  example_weight: tf.Tensor | None = None,
) -> tuple[Any, State]:
  """Calls `model.stateless_call`, with exact derivatives of any order.

  Args:
    model: A built model.
    weights: One tensor for each of `model.trainable_variables`.
    state: One tensor for each of `model.non_trainable_variables`.
    x: Inputs, `[n, ...]`.
    training: Whether layers run in training mode.
    example_weight: Weights `[n]` of the examples for batch statistics. Defaults
      to `None`: all examples count.

  Returns:
    The outputs, and the state after the call.
  """
  functions = _functions.setdefault(model, {})
  key = (training, keras_internals.in_xla_context())
  if key not in functions:
    functions[key] = _function(model, training)
  if functions[key] is not None and not _off.get():
    # A kept trace must not hold tensors of one batch, so that everything that
    # the layers read is an argument.
    inputs = (weights, state, x, example_weight)
    traced = functions[key].get_concrete_function(*inputs)
    if _needs_ours(traced.graph):
      return traced(*inputs)
    functions[key] = None
  with example_weights.applied(model, example_weight):
    return model.stateless_call(weights, state, x, training=training)


def exactly(function: Callable[..., Any]) -> Any:
  """Makes the derivatives of a function exact, to any order.

  Args:
    function: Function of tensors.

  Returns:
    A `tf.function` that computes the same.
  """
  names = operation_gradients.EXACT

  def call(*args: Any) -> Any:
    graph = tf.compat.v1.get_default_graph()
    token = _inside.set(True)
    try:
      with graph.gradient_override_map(names):
        results = function(*args)
    finally:
      _inside.reset(token)
    keras_internals.override_inside(graph, names)
    return results

  return tf.function(call, autograph=False)


def _function(model: keras.Model, training: bool) -> Any:
  """Returns `exactly` of a call of `model`."""
  # It is kept in a dictionary whose keys are models. With a reference to its
  # model, neither would ever be freed. A proxy holds no reference.
  proxy = weakref.proxy(model)

  def call(
    weights: Weights, state: State, x: Any, example_weight: Any
  ) -> tuple[Any, State]:
    with example_weights.applied(proxy, example_weight):
      return proxy.stateless_call(weights, state, x, training=training)

  return exactly(call)


def _needs_ours(graph: tf.Graph) -> bool:
  operations = keras_internals.operations_in(graph)
  return any(map(operation_gradients.is_needed, operations))
