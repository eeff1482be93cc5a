"""Tasks from arrays, in memory or mapped from disk."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfmeta.data import sampler
from tfmeta.data import task

# Larger arrays are not copied into memory (1 GiB).
MEMORY_LIMIT = 2**30

# How many bytes of an array are checked at once (64 MiB).
_CHECKED_AT_ONCE = 2**26


def tasks_from_arrays(
  x: npt.ArrayLike,
  y: npt.ArrayLike,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  memory_limit: int = MEMORY_LIMIT,
) -> tf.data.Dataset:
  """Samples tasks from labeled examples.

  Classification (`spec.ways` is set): a task takes `ways` different classes,
  all with equal probability, and `shots + query_shots` different examples of
  each. It assigns the labels 0 to `ways - 1` to its classes at random. Classes
  may differ in size.

  Regression (`spec.ways` is `None`): the first axis of `x` and `y` counts the
  functions. A task takes one of them, and `shots + query_shots` different
  examples of it.

  The support examples are in random order, and so are the query examples.

  Args:
    x: Inputs `[N, ...]`; in regression `[functions, examples, ...]`. uint8
      images become float32 in [0, 1]; floats become float32 and keep their
      values. Other integers, such as token ids, become int32, and strings stay
      strings. An array mapped from disk (`np.load(path, mmap_mode="r")`) works
      too.
    y: Labels `[N]`, all integers or all strings; in regression, real targets
      `[functions, examples, ...]`.
    spec: A `tfmeta.TaskSpec`.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the data, the seed and i, so `start=k` gives the
      same tasks as `.skip(k)`, without computing the first k.
    memory_limit: Number of bytes. A larger `x` stays where it is, in NumPy's
      memory or on disk, and is read example by example. A smaller `x` is copied
      into TensorFlow's memory. Defaults to 2**30.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, ...],
    "support_y": [S], "query_x": [Q, ...]}, query_y [Q])`; x is float32, int32
    or string, y is int32. In regression y is float32, `[S, ...]` and `[Q,
    ...]`. Batch the dataset before use.

  Raises:
    TypeError: If `spec` is not a `TaskSpec`, or if `x` or `y` has the wrong
      type.
    ValueError: If `x` and `y` differ in length, a value is not finite, there
      are fewer classes than ways, or a class has too few examples.

  Example:
    >>> x = np.zeros([60, 28, 28, 1], np.uint8)
    >>> spec = task.TaskSpec(ways=3, shots=1, query_shots=4)
    >>> tasks = tasks_from_arrays(x, np.arange(60) % 6, spec).batch(8)
  """
  task.check_spec(spec)
  x = _check_examples(x, axes=2 if spec.ways is None else 1)
  if spec.ways is None:
    return _regression_tasks(x, y, spec, seed, start, memory_limit)
  labels, names = _number_classes(y, len(x))
  sampler.check_classes(np.bincount(labels), names, spec)
  table = sampler.ClassTable.from_labels(labels, classes=len(names))
  read = make_reader(x, memory_limit)
  return sampler.classification_tasks(read, table, spec, seed=seed, start=start)


def make_reader(
  array: np.ndarray, memory_limit: int
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns a function that reads examples by their index.

  Args:
    array: `[N, ...]`, uint8 (read as float32 in [0, 1]), float (read as
      float32), another integer (read as int32) or string.
    memory_limit: Number of bytes. A larger array is read in place; a smaller
      one is copied into TensorFlow's memory.

  Returns:
    A function from indices, int64 `[n]`, to examples `[n, ...]`.
  """
  if array.nbytes > memory_limit:
    return lambda indices: _as_example(_read_in_place(array, indices))
  # `tf.data` reads on the CPU, whatever the default device.
  with tf.device("CPU"):
    tensor = tf.constant(array)
  return lambda indices: _as_example(tf.gather(tensor, indices))


def _read_in_place(array: np.ndarray, indices: tf.Tensor) -> tf.Tensor:
  values = tf.numpy_function(
    lambda indices: array[indices],
    [indices],
    tf.string if array.dtype.kind in "USO" else array.dtype,
    stateful=False,
  )
  # `numpy_function` loses the shape.
  return tf.ensure_shape(values, [*indices.shape, *array.shape[1:]])


def _as_example(values: tf.Tensor) -> tf.Tensor:
  if values.dtype == tf.uint8:
    return tf.cast(values, tf.float32) / 255.0
  if values.dtype == tf.string:
    return values
  if values.dtype.is_integer:
    return tf.cast(values, tf.int32)
  return tf.cast(values, tf.float32)


def _regression_tasks(
  x: np.ndarray,
  y: npt.ArrayLike,
  spec: task.TaskSpec,
  seed: int,
  start: int,
  memory_limit: int,
) -> tf.data.Dataset:
  y = _check_values("y", np.asarray(y, np.float32))
  if x.ndim < 2 or x.shape[:2] != y.shape[:2]:
    raise ValueError(
      "Without ways (regression), `x` and `y` must both begin with the axes "
      "[functions, examples]. "
      f"Received: x of shape {x.shape}, y of shape {y.shape}"
    )
  functions, examples = x.shape[:2]
  sizes = np.full([functions], examples)
  sampler.check_classes(sizes, range(functions), spec)
  # A function takes the place of a class, so a task is one class without label.
  table = sampler.ClassTable.from_labels(
    np.repeat(np.arange(functions), examples), classes=functions
  )
  read_x = make_reader(_merge_axes(x), memory_limit)
  read_y = make_reader(_merge_axes(y), memory_limit)

  def sample_task(key: tf.Tensor) -> task.TaskElement:
    chosen, _ = sampler.sample_examples(key, table, spec)
    return task.to_element(read_x(chosen), read_y(chosen), spec)

  return sampler.task_dataset(sample_task, seed=seed, start=start)


def _merge_axes(array: np.ndarray) -> np.ndarray:
  return array.reshape(-1, *array.shape[2:])


def _number_classes(
  y: npt.ArrayLike, length: int
) -> tuple[np.ndarray, list[object]]:
  """Returns the class number of each label, and the names of the classes."""
  y = np.asarray(y)
  if y.dtype.kind not in "iuUSO" or not _has_one_type(y):
    raise TypeError(
      "`y` must hold labels, all integers or all strings. "
      f"Received: y of dtype {y.dtype}"
    )
  if y.shape != (length,):
    raise ValueError(
      f"`y` must hold one label for each of the {length} examples in `x`. "
      f"Received: y of shape {y.shape}"
    )
  names, labels = np.unique(y, return_inverse=True)
  return labels, names.tolist()


def _has_one_type(y: np.ndarray) -> bool:
  """Returns whether all labels are strings, all bytes or all integers."""
  if y.dtype.kind != "O":
    return True
  types = {type(label) for label in y.flat}
  return types in ({str}, {bytes}, {int})


def _check_examples(x: npt.ArrayLike, *, axes: int) -> np.ndarray:
  """Returns `x` as an array, if it holds numbers or strings.

  Args:
    x: Examples.
    axes: Number of axes before those of an example.
  """
  array = np.asarray(x)
  kind = array.dtype.kind
  if kind in "USO" and array.ndim and _has_one_type(array):
    return _check_strings(array)
  if array.dtype == np.uint8 or kind not in "iu":
    return _check_values("x", array)
  # Pixels that are read as token ids would keep their scale of 0 to 255.
  if array.ndim - axes > 2:
    raise TypeError(
      "Images in `x` must be uint8 (0 to 255) or float; other integers are "
      "token ids, of at most two axes an example. Received: x of dtype "
      f"{array.dtype} and shape {array.shape}"
    )
  if (
    array.size and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31
  ):
    raise ValueError(
      "Integers in `x` must have at most 32 bits. Received: "
      f"{array.min()} to {array.max()}"
    )
  return array


def _check_strings(array: np.ndarray) -> np.ndarray:
  if array.dtype.kind == "O" and {type(x) for x in array.flat} == {int}:
    return _check_values("x", array)
  return array


def _check_values(name: str, values: npt.ArrayLike) -> np.ndarray:
  """Returns `values` as an array, if it is uint8, or float and finite.

  A mapped array stays mapped; the check reads it once, piece by piece.
  """
  array = np.asarray(values)
  if array.dtype != np.uint8 and array.dtype.kind != "f":
    raise TypeError(
      f"`{name}` must be uint8 (images, 0 to 255), float, integers (token "
      "ids) or strings. "
      f"Received: {name} of dtype {array.dtype}"
    )
  if array.ndim == 0:
    raise ValueError(f"`{name}` must be an array. Received: {name}={array}")
  if array.dtype.kind == "f":
    _check_finite(name, array)
  return array


def _check_finite(name: str, array: np.ndarray) -> None:
  example_bytes = max(1, array.nbytes // max(1, len(array)))
  step = max(1, _CHECKED_AT_ONCE // example_bytes)
  for begin in range(0, len(array), step):
    # Values that overflow float32 become infinite here, and are reported.
    with np.errstate(over="ignore"):
      part = array[begin : begin + step].astype(np.float32)
    bad = np.argwhere(~np.isfinite(part))
    if len(bad):
      position = (int(bad[0][0]) + begin, *map(int, bad[0][1:]))
      raise ValueError(
        f"`{name}` must hold numbers that are finite as float32. "
        f"Received: {name}[{', '.join(map(str, position))}]={array[position]}"
      )
