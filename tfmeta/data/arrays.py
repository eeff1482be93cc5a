"""Tasks from arrays of one's own."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfmeta.data import rows
from tfmeta.data import sampler
from tfmeta.data import task


def tasks_from_arrays(
  x: npt.ArrayLike,
  y: npt.ArrayLike,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  memory_limit: int = rows.MEMORY_LIMIT,
) -> tf.data.Dataset:
  """Draws tasks without end from labelled examples.

  Classification (`spec.ways` given): a task takes `ways` different classes,
  each with equal chance, gives them the labels 0 to `ways - 1` in an order
  drawn anew for the task, and takes `shots + query_shots` different examples
  of each. Classes may differ in size.

  Regression (`spec.ways` is `None`): the first axis counts the tasks; one is
  drawn, and of its examples `shots + query_shots` different ones.

  Support and query come in random order each.

  Args:
    x: Inputs `[N, ...]`; in regression `[tasks, examples, ...]`. uint8 (images;
      delivered as float32 in [0, 1]) or float (delivered as float32, as they
      are). An array mapped from disk (`np.load(path, mmap_mode="r")`) will do.
    y: Labels `[N]`, integers or strings of any kind; in regression targets
      `[tasks, examples, ...]`, real.
    spec: A `tfmeta.TaskSpec`.
    seed: Integer in `[0, 2**63)`. Default 0.
    start: Index of the first task. Default 0. Task i depends on the data, the
      seed and i alone, so `start=k` gives what `.skip(k)` gives, at no cost.
    memory_limit: Bytes; default 2**30. A larger `x` is left where it is, in
      NumPy's memory or mapped from disk, and read example by example; a smaller
      one is copied into memory.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, ...],
    "support_y": [S], "query_x": [Q, ...]}, query_y [Q])`, x float32, y int32
    (float32, `[S, ...]` and `[Q, ...]`, in regression); batch it.

  Raises:
    TypeError: If `spec` is no `TaskSpec`, or `x` or `y` has the wrong type.
    ValueError: If `x` and `y` differ in length, a value is not finite, there
      are fewer classes than ways, or a class has too few examples.

  Example:
    >>> x = np.zeros([60, 28, 28, 1], np.uint8)
    >>> spec = task.TaskSpec(ways=3, shots=1, query_shots=4)
    >>> tasks = tasks_from_arrays(x, np.arange(60) % 6, spec).batch(8)
  """
  task.check_spec(spec)
  x = rows.as_data("x", x)
  if spec.ways is None:
    return _regression_tasks(x, y, spec, seed, start, memory_limit)
  labels, names = _as_labels(y, len(x))
  sampler.check_classes(np.bincount(labels), names, spec)
  table = sampler.ClassTable.from_labels(labels, classes=len(names))
  read = rows.reader(x, memory_limit)
  return sampler.classification_tasks(read, table, spec, seed=seed, start=start)


def _regression_tasks(
  x: np.ndarray,
  y: npt.ArrayLike,
  spec: task.TaskSpec,
  seed: int,
  start: int,
  memory_limit: int,
) -> tf.data.Dataset:
  y = rows.as_data("y", np.asarray(y, np.float32))
  if x.ndim < 2 or x.shape[:2] != y.shape[:2]:
    raise ValueError(
      "Without ways (regression) `x` and `y` must both begin with the axes "
      f"[tasks, examples]. Received: x of shape {x.shape}, y of shape {y.shape}"
    )
  tasks, examples = x.shape[:2]
  sizes = np.full([tasks], examples)
  sampler.check_classes(sizes, range(tasks), spec)
  table = sampler.ClassTable.from_labels(
    np.repeat(np.arange(tasks), examples), classes=tasks
  )
  read_x = rows.reader(_merge_axes(x), memory_limit)
  read_y = rows.reader(_merge_axes(y), memory_limit)

  def draw(key: tf.Tensor) -> task.TaskElement:
    drawn, _ = sampler.draw_rows(key, table, spec)
    return task.to_element(read_x(drawn), read_y(drawn), spec)

  return sampler.task_dataset(draw, seed=seed, start=start)


def _merge_axes(array: np.ndarray) -> np.ndarray:
  return array.reshape(-1, *array.shape[2:])


def _as_labels(
  y: npt.ArrayLike, length: int
) -> tuple[np.ndarray, list[object]]:
  """Returns each label's class number, and the classes' names."""
  y = np.asarray(y)
  if y.dtype.kind not in "iuUSO" or not _all_labels(y):
    raise TypeError(
      "`y` must hold labels, all integers or all strings. Received: y of "
      f"dtype {y.dtype}"
    )
  if y.shape != (length,):
    raise ValueError(
      f"`y` must hold one label for each of the {length} examples of `x`. "
      f"Received: y of shape {y.shape}"
    )
  names, labels = np.unique(y, return_inverse=True)
  return labels, names.tolist()


def _all_labels(y: np.ndarray) -> bool:
  if y.dtype.kind != "O":
    return True
  kinds = {type(label) for label in y.flat}
  return kinds in ({str}, {bytes}, {int})
