"""The task axis: applies a function of one task to a batch of tasks."""

from collections.abc import Callable
import os
from typing import Any
from typing import get_args

import keras
import tensorflow as tf

from tfmeta.core import xla
from tfmeta.typing import TaskMap

TASK_MAPS = get_args(TaskMap)

# Layers whose weights enter through products that `tf.vectorized_map` batches.
_DENSE_LAYERS = (
  keras.layers.Dense,
  keras.layers.EinsumDense,
  keras.layers.BatchNormalization,
  keras.layers.LayerNormalization,
  keras.layers.PReLU,
)

# Tasks that may be in work at once; more would only hold more memory.
_PARALLEL_TASKS = min(os.cpu_count() or 1, 10)

# The graph that TensorFlow runs has a copy for each.
_DRAWS_WITHOUT_LOOP = 5


def choose_method(model: keras.Model) -> TaskMap:
  """Returns `"vectorize"` if all weights of `model` are dense, else `"map"`.

  `tf.vectorized_map` turns the dense layers of all tasks into one batched
  product, several times faster than one task after the other. It has no rule
  for convolutions whose filters differ per task: there it falls back to loops
  that are slower than `tf.map_fn` and that XLA cannot compile.
  """
  weighted = [
    layer
    for layer in model._flatten_layers(include_self=False)
    if layer.weights and not isinstance(layer, keras.Model)
  ]
  dense = all(isinstance(layer, _DENSE_LAYERS) for layer in weighted)
  return "vectorize" if dense else "map"


def map_tasks(
  fn: Callable[..., Any], tasks: tuple[tf.Tensor, ...], method: TaskMap
) -> Any:
  """Applies `fn` to each slice of the leading (task) axis.

  Args:
    fn: Maps the slices of `tasks` for one task to a structure of tensors.
    tasks: Tensors, each `[T, ...]`.
    method: `"map"`: one graph of one task, run task by task, as many at a time
      as there are cores; its memory does not grow with T. `"vectorize"`: all
      tasks in one batched graph. `"unroll"`: a copy of the graph for each
      task; needs a T known in advance.

  Returns:
    The structure of `fn`, each tensor stacked to `[T, ...]`.
  """
  if method == "vectorize":
    return _map_vectorized(fn, tasks)
  if method == "unroll" or tf.executing_eagerly():
    return _stack([fn(*task) for task in _unstack(tasks)])
  one = _trace(fn, tasks)
  return tf.map_fn(
    lambda task: one(*task),
    tasks,
    fn_output_signature=_signature(one.structured_outputs),
    parallel_iterations=_PARALLEL_TASKS,
  )


def map_draws(
  fn: Callable[..., Any], draws: tuple[tf.Tensor, ...], method: TaskMap
) -> Any:
  """As `map_tasks`, for a number of draws, known when traced, of one task.

  Gradients are taken through it, which decides how. With `"map"` a few draws
  call one function, which TensorFlow puts in the place of each call: gradients
  through a loop would do without its fast kernels of pooling.

  For XLA the gradient of a function, and `tf.vectorized_map` makes one too, has
  shapes for inputs: XLA must know them, and takes all that went into the
  function, weights too, for constants. It would compile each step anew. So it
  has a copy of the graph for each draw.
  """
  few = draws[0].shape[0] <= _DRAWS_WITHOUT_LOOP
  if xla.in_xla_context() and (few or method == "vectorize"):
    return map_tasks(fn, draws, "unroll")
  if method != "map" or tf.executing_eagerly():
    return map_tasks(fn, draws, method)
  if few:
    return map_tasks(tf.function(fn, autograph=False), draws, "unroll")
  return _map_draws_in_loop(fn, draws)


def _map_draws_in_loop(
  fn: Callable[..., Any], draws: tuple[tf.Tensor, ...]
) -> Any:
  """The first draw, which also tells what is returned, and those after it.

  XLA compiles gradients through the loop as it holds no function of its own.
  """
  first = fn(*[t[0] for t in draws])
  others = tf.map_fn(
    lambda draw: fn(*draw),
    tuple(t[1:] for t in draws),
    fn_output_signature=_signature(first),
    parallel_iterations=_PARALLEL_TASKS,
  )
  return tf.nest.map_structure(
    lambda one, rest: tf.concat([one[tf.newaxis], rest], axis=0), first, others
  )


def _map_vectorized(
  fn: Callable[..., Any], tasks: tuple[tf.Tensor, ...]
) -> Any:
  if tf.distribute.get_strategy().num_replicas_in_sync == 1:
    return _vectorized(fn, tasks)
  # A replica may be left without tasks, which vectorised operations refuse.
  count = tf.shape(tasks[0])[0]
  padding = tf.cast(count == 0, tf.int32)
  padded = tuple(
    tf.pad(t, [[0, padding], *[[0, 0]] * (t.shape.rank - 1)]) for t in tasks
  )
  outputs = _vectorized(fn, padded)
  return tf.nest.map_structure(lambda t: t[:count], outputs)


def _vectorized(fn: Callable[..., Any], tasks: tuple[tf.Tensor, ...]) -> Any:
  # It would warn of each random operation, for which it makes a loop.
  return tf.vectorized_map(lambda task: fn(*task), tasks, warn=False)


def map_and_sum(
  fn: Callable[..., tuple[Any, Any]],
  tasks: tuple[tf.Tensor, ...],
  method: TaskMap,
) -> tuple[Any, Any]:
  """Like `map_tasks`, for an `fn` that returns `(mapped, summed)`.

  Gradients are taken inside `fn` and go to `summed`, so that neither they nor
  what is needed to compute them are ever held for all tasks at once.

  Returns:
    The structure `mapped`, stacked to `[T, ...]`, and the structure `summed`,
    each tensor the sum over tasks.
  """
  if method == "map" and not tf.executing_eagerly():
    return _map_and_sum_in_loop(fn, tasks)
  mapped, summed = map_tasks(fn, tasks, method)
  return mapped, tf.nest.map_structure(
    lambda t: tf.reduce_sum(t, axis=0), summed
  )


def _map_and_sum_in_loop(
  fn: Callable[..., tuple[Any, Any]], tasks: tuple[tf.Tensor, ...]
) -> tuple[Any, Any]:
  one = _trace(fn, tasks)
  mapped_like, summed_like = one.structured_outputs
  count = tf.shape(tasks[0])[0]
  arrays = tf.nest.map_structure(
    lambda t: tf.TensorArray(t.dtype, size=count, element_shape=t.shape),
    mapped_like,
  )
  sums = tf.nest.map_structure(
    lambda t: tf.zeros(t.shape, t.dtype), summed_like
  )

  def body(i: tf.Tensor, arrays: Any, sums: Any) -> Any:
    mapped, summed = one(*[t[i] for t in tasks])
    arrays = tf.nest.map_structure(lambda a, t: a.write(i, t), arrays, mapped)
    return i + 1, arrays, tf.nest.map_structure(tf.add, sums, summed)

  _, arrays, sums = tf.while_loop(
    lambda i, *_: i < count,
    body,
    (tf.constant(0), arrays, sums),
    parallel_iterations=_PARALLEL_TASKS,
    maximum_iterations=count,
  )
  return tf.nest.map_structure(lambda a: a.stack(), arrays), sums


def _trace(fn: Callable[..., Any], tasks: tuple[tf.Tensor, ...]) -> Any:
  """Graph of `fn` for one task; traced once, it also tells what is returned."""
  one = [tf.TensorSpec(t.shape[1:], t.dtype) for t in tasks]
  return tf.function(fn, autograph=False).get_concrete_function(*one)


def _signature(outputs: Any) -> Any:
  return tf.nest.map_structure(
    lambda t: tf.TensorSpec(t.shape, t.dtype), outputs
  )


def _unstack(tasks: tuple[tf.Tensor, ...]) -> list[tuple[tf.Tensor, ...]]:
  count = tasks[0].shape[0]
  if count is None:
    raise ValueError(
      "task_map='unroll' needs the number of tasks when the step is traced: "
      "batch the tasks with drop_remainder=True. Received: an unknown number"
    )
  # Its gradient packs them once; that of an index pads each to all tasks.
  return list(zip(*[tf.unstack(t) for t in tasks], strict=True))


def _stack(outputs: list[Any]) -> Any:
  return tf.nest.map_structure(lambda *t: tf.stack(t), *outputs)
