"""A function whose calls in one graph are compiled once.

TensorFlow inlines functions into the graph that calls them, and then optimizes
each copy. If one function is called for several samples or steps, most of the
time of a first update would go into this. The functions here are not inlined.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmeta.core import keras_internals


class SharedFunction:
  """A function of tensors that all of its calls in a graph share.

  The results and their gradients are those of the function. Its gradients may
  be differentiated again, because they are functions of the same kind.

  TensorFlow makes a copy of a function for each call whose arguments are
  constants, so neither the arguments nor the gradients of the results are shown
  to it as constants.

  Args:
    fn: Function of structures of tensors to a structure of tensors. Calls with
      other shapes or types are traced anew.
  """

  def __init__(self, fn: Callable[..., Any]):
    self._fn = fn
    self._function = tf.function(
      fn, autograph=False, experimental_attributes={"_noinline": True}
    )

  def __call__(self, *args: Any) -> Any:
    if _calls_directly():
      return self._fn(*args)
    outputs = self.results(*args)
    flat = _with_gradients_not_constant(*tf.nest.flatten(outputs))
    return tf.nest.pack_sequence_as(outputs, tf.nest.flatten(flat))

  def results(self, *args: Any) -> Any:
    """Returns what a call returns, for results without gradients.

    If nothing uses some of them, TensorFlow does not compute them.
    """
    flat = _not_constant(tf.nest.flatten(args))
    return self._function(*tf.nest.pack_sequence_as(args, flat))

  def taken_from_around(self, *args: Any) -> list[tf.Tensor]:
    """Returns the tensors of floats that the function takes from around it.

    Raises:
      ValueError: If it also reads trainable variables.
    """
    traced = self._function.get_concrete_function(*args)
    if traced.trainable_variables:
      names = [variable.name for variable in traced.trainable_variables]
      raise ValueError(
        "A step that is computed again must take what is trained as tensors. "
        f"Received: the variables {', '.join(names)}"
      )
    return [t for t in traced.captured_inputs if t.dtype.is_floating]


def _calls_directly() -> bool:
  """Returns whether there is no graph, or one of XLA.

  XLA would take the weights for constants if it differentiated a function.
  """
  return tf.executing_eagerly() or keras_internals.in_xla_context()


def _not_constant(tensors: Sequence[Any]) -> list[tf.Tensor]:
  """Returns the same tensors, of which TensorFlow knows no values."""
  # This operation may get another value in a session, so it is never folded.
  return [
    tf.raw_ops.PlaceholderWithDefault(input=t, shape=t.shape)
    for t in map(tf.convert_to_tensor, tensors)
  ]


@tf.custom_gradient
def _with_gradients_not_constant(*tensors: tf.Tensor) -> Any:
  outputs = [tf.identity(t) for t in tensors]
  return outputs, lambda *upstream: _not_constant(upstream)


class RecomputedFunction:
  """A function whose gradient computes the function again.

  The memory between a call and its gradient then holds only the arguments of
  the call. As TensorFlow inlines neither of the two functions, it cannot notice
  that they compute the same. In eager mode and under XLA, which would notice,
  the function is called as it is.

  Gradients also reach the tensors that the function takes from around it. It
  must not read trainable variables, though.

  Args:
    fn: Function of structures of tensors to a structure of tensors of floats.
  """

  def __init__(self, fn: Callable[..., Any]):
    self._fn = fn
    self._forward = SharedFunction(fn)
    self._backward = SharedFunction(self._pulled_back)
    self._around: list[tf.Tensor] = []

  def __call__(self, *args: Any) -> Any:
    if _calls_directly():
      return self._fn(*args)
    args = tf.nest.map_structure(tf.convert_to_tensor, args)
    self._around = self._forward.taken_from_around(*args)
    flat = tf.nest.flatten(args)
    structures = []

    @tf.custom_gradient
    def call(*tensors: tf.Tensor) -> Any:
      given = tf.nest.pack_sequence_as(args, list(tensors[: len(flat)]))
      outputs = self._forward.results(*given)
      structures.append(outputs)

      def gradient(*upstream: tf.Tensor) -> list[Any]:
        found = iter(self._backward.results(given, list(upstream)))
        return [next(found) if t.dtype.is_floating else None for t in tensors]

      return tf.nest.flatten(outputs), gradient

    outputs = call(*flat, *self._around)
    return tf.nest.pack_sequence_as(structures[0], tf.nest.flatten(outputs))

  def _pulled_back(self, args: Any, upstream: list[tf.Tensor]) -> Any:
    """Returns the gradients with respect to all tensors of floats."""
    floats = [t for t in tf.nest.flatten(args) if t.dtype.is_floating]
    with tf.GradientTape() as tape:
      tape.watch([floats, self._around])
      outputs = tf.nest.flatten(self._fn(*args))
    found = tape.gradient(
      outputs,
      [*floats, *self._around],
      output_gradients=upstream,
      unconnected_gradients="zero",
    )
    return [tf.convert_to_tensor(t) for t in found]
