"""Ways to apply a function of one task to a batch of tasks."""

from collections.abc import Callable
from typing import Any
from typing import get_args

import keras
import tensorflow as tf

from tfmeta.core import keras_internals
from tfmeta.core import shared_function
from tfmeta.core import threads
from tfmeta.typing import TaskMap

TASK_MAPS = get_args(TaskMap)

# `tf.vectorized_map` batches the products with the weights of these layers.
_DENSE_LAYERS = (
  keras.layers.Dense,
  keras.layers.EinsumDense,
  keras.layers.BatchNormalization,
  keras.layers.LayerNormalization,
  keras.layers.PReLU,
)

# Running more tasks at once than there are cores would only take more memory.
_PARALLEL_TASKS = threads.tasks_at_once()

# A larger number of samples runs in a loop, because each inlined call enlarges
# the graph.
SAMPLES_WITHOUT_LOOP = 5


def choose_method(model: keras.Model) -> TaskMap:
  """Returns `"vectorize"` if all weights of `model` are dense, else `"map"`.

  `tf.vectorized_map` turns a dense layer into one batched product for all
  tasks, which is several times faster than one task after the other. It has no
  rule for convolutions whose filters differ from task to task. It falls back to
  loops that are slower than `tf.map_fn` and that XLA cannot compile.

  A custom layer counts as dense if its attribute `vectorizes` is true.
  """
  weighted = [
    layer
    for layer in keras_internals.flatten_layers(model, include_self=False)
    if layer.weights and not isinstance(layer, keras.Model)
  ]
  dense = all(
    isinstance(layer, _DENSE_LAYERS) or getattr(layer, "vectorizes", False)
    for layer in weighted
  )
  return "vectorize" if dense else "map"


def map_tasks(
  fn: Callable[..., Any], tasks: tuple[Any, ...], method: TaskMap
) -> Any:
  """Applies `fn` to each slice of the leading (task) axis.

  Args:
    fn: Maps the slices of `tasks` for one task to a structure of tensors.
    tasks: Structures of tensors, each `[T, ...]`.
    method: `"map"` runs the graph of one task for each task, several tasks in
      parallel: one for each core, up to 10. Its memory does not grow with T.
      `"vectorize"` runs all tasks in one batched graph. `"unroll"` copies the
      graph for each task; T must be known when the graph is traced.

  Returns:
    The structure that `fn` returns, each tensor stacked to `[T, ...]`.
  """
  fn, tasks = _flattened(fn, tasks)
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


class SampleMap:
  """A function of one sample of the weights, applied to several samples.

  It differs from `map_tasks` in two ways: the number of samples is known when
  the graph is traced, and gradients are taken through the map. For the sake of
  these gradients, some samples are mapped without a loop:

  - With `"map"`, up to 5 samples call one function: see `SharedFunction`.
    Gradients through a loop would lose TensorFlow's fast kernels of pooling.
  - Under XLA, up to 5 samples, and all samples of `"vectorize"`, each get a
    copy of the graph. The gradient of a function would take shapes as inputs,
    and `tf.vectorized_map` makes a function too. XLA must know these shapes, so
    it would treat all inputs of the function as constants, the weights
    included, and would compile each step anew.

  If one map is called several times in one graph, all calls share its function.

  Args:
    fn: Maps the slices of `samples` for one sample to a structure of tensors.
    method: `"map"`, `"vectorize"` or `"unroll"`: see `map_tasks`.
    inline: Whether TensorFlow inlines the function that up to 5 samples call
      under `"map"`. Defaults to `False`.
  """

  def __init__(
    self, fn: Callable[..., Any], method: TaskMap, *, inline: bool = False
  ):
    self._fn = fn
    self._method: TaskMap = method
    self._shared: Callable[..., Any] = (
      tf.function(fn, autograph=False)
      if inline
      else shared_function.SharedFunction(fn)
    )

  def __call__(self, *samples: Any) -> Any:
    """Applies the function to each sample.

    Args:
      *samples: Structures of tensors, each `[M, ...]`.

    Returns:
      The structure that the function returns, each tensor stacked to `[M,
      ...]`.
    """
    fn, tensors = _flattened(self._fn, samples)
    few = tensors[0].shape[0] <= SAMPLES_WITHOUT_LOOP
    if keras_internals.in_xla_context() and (
      few or self._method == "vectorize"
    ):
      return map_tasks(fn, tensors, "unroll")
    if self._method != "map" or tf.executing_eagerly():
      return map_tasks(fn, tensors, self._method)
    if not few:
      return _map_samples_in_loop(fn, tensors)
    shared, tensors = _flattened(self._shared, samples)
    return map_tasks(shared, tensors, "unroll")


def _map_samples_in_loop(
  fn: Callable[..., Any], samples: tuple[tf.Tensor, ...]
) -> Any:
  """Maps the first sample outside of the loop, and the others inside.

  The outputs for the first sample tell the loop its output types. A traced
  function could tell them too, but XLA could not compile gradients through it.
  """
  first = fn(*[t[0] for t in samples])
  others = tf.map_fn(
    lambda sample: fn(*sample),
    tuple(t[1:] for t in samples),
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
  # Vectorized operations fail on a replica without tasks. Such a replica gets a
  # task of zeros, whose outputs are dropped.
  count = tf.shape(tasks[0])[0]
  padding = tf.cast(count == 0, tf.int32)
  padded = tuple(
    tf.pad(t, [[0, padding], *[[0, 0]] * (t.shape.rank - 1)]) for t in tasks
  )
  outputs = _vectorized(fn, padded)
  return tf.nest.map_structure(lambda t: t[:count], outputs)


def _vectorized(fn: Callable[..., Any], tasks: tuple[tf.Tensor, ...]) -> Any:
  # Warnings are off, because they would report each random operation.
  return tf.vectorized_map(lambda task: fn(*task), tasks, warn=False)


def map_and_sum(
  fn: Callable[..., tuple[Any, Any]],
  tasks: tuple[Any, ...],
  method: TaskMap,
) -> tuple[Any, Any]:
  """Applies `fn` to each task, and sums one part of the results over tasks.

  A training step takes the gradients inside `fn` and returns them in `summed`.
  The gradients of all tasks, and the tensors needed to compute them, are then
  never in memory at once.

  Args:
    fn: Maps the slices of `tasks` for one task to a pair `(mapped, summed)` of
      structures of tensors.
    tasks: Structures of tensors, each `[T, ...]`.
    method: `"map"`, `"vectorize"` or `"unroll"`: see `map_tasks`.

  Returns:
    The structure `mapped`, each tensor stacked to `[T, ...]`, and the structure
    `summed`, each tensor summed over tasks.
  """
  if method == "map" and not tf.executing_eagerly():
    return _map_and_sum_in_loop(*_flattened(fn, tasks))
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

  # Only the sums are carried along, so the memory for `summed` does not grow
  # with the number of tasks.
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


def _flattened(
  fn: Callable[..., Any], tasks: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[tf.Tensor, ...]]:
  """Returns `fn` as a function of the tensors in `tasks`, and the tensors."""

  def of_tensors(*tensors: tf.Tensor) -> Any:
    return fn(*tf.nest.pack_sequence_as(tasks, list(tensors)))

  return of_tensors, tuple(tf.nest.flatten(tasks))


def _trace(fn: Callable[..., Any], tasks: tuple[tf.Tensor, ...]) -> Any:
  """Returns the traced `fn` for one task, which knows its output types."""
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
  # The gradient of `tf.unstack` stacks the parts once. The gradient of indexing
  # would pad each part to the size of all tasks.
  return list(zip(*[tf.unstack(t) for t in tasks], strict=True))


def _stack(outputs: list[Any]) -> Any:
  return tf.nest.map_structure(lambda *t: tf.stack(t), *outputs)
