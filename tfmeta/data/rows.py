"""Reads examples by row number, from memory or where a large array lies."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

MEMORY_LIMIT = 2**30
_CHECKED_AT_ONCE = 2**26


def as_data(name: str, values: npt.ArrayLike) -> np.ndarray:
  """Returns `values` as an array that is uint8, or float and finite.

  A mapped array stays mapped: it is read through once, in pieces.
  """
  array = np.asarray(values)
  if array.dtype != np.uint8 and array.dtype.kind != "f":
    raise TypeError(
      f"`{name}` must be uint8 (images, 0 to 255) or float. Received: "
      f"{name} of dtype {array.dtype}"
    )
  if array.ndim == 0:
    raise ValueError(f"`{name}` must be an array. Received: {name}={array}")
  if array.dtype.kind == "f":
    _check_finite(name, array)
  return array


def reader(
  array: np.ndarray, memory_limit: int
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns the function from rows, int64 `[n]`, to float32 `[n, ...]`.

  Args:
    array: `[N, ...]`, uint8 (handed on as float32 in [0, 1]) or float.
    memory_limit: Bytes. A larger array is not copied but read in place.
  """
  if array.nbytes > memory_limit:
    return lambda rows: _as_float(_read_in_place(array, rows))
  with tf.device("CPU"):
    tensor = tf.constant(array)
  return lambda rows: _as_float(tf.gather(tensor, rows))


def _read_in_place(array: np.ndarray, rows: tf.Tensor) -> tf.Tensor:
  values = tf.numpy_function(
    lambda rows: array[rows], [rows], array.dtype, stateful=False
  )
  return tf.ensure_shape(values, [*rows.shape, *array.shape[1:]])


def _as_float(values: tf.Tensor) -> tf.Tensor:
  if values.dtype == tf.uint8:
    return tf.cast(values, tf.float32) / 255.0
  return tf.cast(values, tf.float32)


def _check_finite(name: str, array: np.ndarray) -> None:
  row_bytes = max(1, array.nbytes // max(1, len(array)))
  step = max(1, _CHECKED_AT_ONCE // row_bytes)
  for begin in range(0, len(array), step):
    with np.errstate(over="ignore"):
      part = array[begin : begin + step].astype(np.float32)
    bad = np.argwhere(~np.isfinite(part))
    if len(bad):
      position = (int(bad[0][0]) + begin, *map(int, bad[0][1:]))
      raise ValueError(
        f"`{name}` must hold finite numbers (as float32). Received: "
        f"{name}[{', '.join(map(str, position))}]={array[position]}"
      )
