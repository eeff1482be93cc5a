"""Reads pickle files that hold arrays, and runs nothing that they name.

A pickle is a program: it calls the functions that it names, also those of
NumPy, which trust their arguments. This reader calls none of them. Stand-ins
take the names, shapes and bytes of the file, and arrays are made from them at
the end.
"""

import math
import os
import pickle
import pickletools
import re
import sys
from typing import Any
from typing import BinaryIO

import numpy as np

# NumPy 2 renamed `numpy.core` to `numpy._core`; files name either one.
_MODULES = ("numpy.core", "numpy._core")
# Booleans, numbers, bytes, text, and `O` for lists of anything.
_DTYPE = re.compile(r"[<>=|]?([?biufcSUO]\d{0,9})")
_PLAIN = (bool, int, float, complex, str, bytes, bytearray)
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")


def load(path: str | os.PathLike[str]) -> Any:
  """Returns the content of a pickle file, which may come from Python 2.

  Arrays cannot be written to.

  Raises:
    OSError: If the file cannot be read.
    ValueError: If the file is damaged, or holds anything other than arrays,
      numbers, strings, lists, tuples and dicts.
  """
  with open(path, "rb") as file:
    bounded = _Bounded(file)
    # A damaged file can raise nearly any error, and none of them is a bug.
    try:
      _check_memo(bounded)
      file.seek(0)
      # Python 2 pickled the bytes of an array as a string; latin1 keeps them.
      return _resolved(_ArraysOnly(bounded, encoding="latin1").load(), {})
    except OSError:
      raise
    except Exception as error:
      raise ValueError(
        f"{os.fspath(path)} is not a pickle of arrays: "
        f"{str(error) or type(error).__name__}"
      ) from error


def load_dict(path: str | os.PathLike[str], *keys: str) -> dict[str, Any]:
  """Returns the dict in a pickle file.

  Args:
    path: The file.
    *keys: Keys that the dict must have.

  Raises:
    OSError: If the file cannot be read.
    ValueError: If the file is not a pickle of arrays, or its content is not a
      dict with these keys.
  """
  content = load(path)
  if not isinstance(content, dict) or not {*keys} <= {*content}:
    raise ValueError(
      f"{os.fspath(path)} must hold a dict with "
      f"{' and '.join(map(repr, keys))}. Received: {type(content).__name__}"
    )
  return content


class _Bounded:
  """A file that is asked for no more bytes than it has.

  A pickle states the lengths of its parts. Memory for a part would be taken
  before the file turns out to be shorter.
  """

  def __init__(self, file: BinaryIO):
    self._file = file
    self._size = os.fstat(file.fileno()).st_size

  def read(self, count: int) -> bytes:
    if not 0 <= count <= self._size - self._file.tell():
      raise ValueError(f"it ends before the end of a part of {count} bytes")
    return self._file.read(count)

  def readline(self) -> bytes:
    return self._file.readline()


def _check_memo(file: Any) -> None:
  """Refuses numbers of the memo that are not counted up one by one.

  The unpickler takes memory for all numbers below the largest one.
  """
  puts = 0
  for opcode, argument, _ in pickletools.genops(file):
    if opcode.name in _PUTS:
      puts += 1
      if argument is not None and argument > puts:
        raise ValueError(f"its part {puts} has the number {argument}")


class _ArraysOnly(pickle.Unpickler):
  """Unpickler that finds stand-ins only."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _STAND_INS:
      raise pickle.UnpicklingError(f"it holds {module}.{name}")
    stand_in = _STAND_INS[module, name]
    # A file can set attributes of what it finds: each time it is a new object.
    return lambda *arguments: stand_in(*arguments)


class _Dtype:
  """The letter, size and byte order of a dtype."""

  __slots__ = ("name", "order")

  def __init__(self, name: str, *_: Any):
    if not isinstance(name, str) or not (found := _DTYPE.fullmatch(name)):
      raise pickle.UnpicklingError(f"it holds the dtype {name!r}")
    self.name, self.order = found[1], "="

  def __setstate__(self, state: tuple[Any, ...]) -> None:
    _, order, subtype, names, fields, *_ = state
    if order not in tuple("<>|=") or (subtype, names, fields) != (None,) * 3:
      raise pickle.UnpicklingError("it holds a dtype with fields")
    self.order = order

  def resolved(self) -> np.dtype:
    return np.dtype(self.order.strip("|=") + self.name)


class _Array:
  """The dtype, shape and content of an array."""

  __slots__ = ("dtype", "shape", "fortran", "content")

  def __setstate__(self, state: tuple[Any, ...]) -> None:
    _, self.shape, self.dtype, self.fortran, self.content = state

  def resolved(self, content: Any) -> Any:
    dtype = self.dtype.resolved()
    if dtype.hasobject:
      flat = np.fromiter(content, object, len(content))
    else:
      flat = np.frombuffer(_as_bytes(content), dtype)
    if dtype.kind == "U":
      _check_letters(np.frombuffer(flat, f"{dtype.byteorder}u4"))
    if min(self.shape, default=0) < 0 or math.prod(self.shape) != len(flat):
      raise ValueError(f"an array of shape {self.shape} has {len(flat)} values")
    # The empty index makes a number of an array without axes.
    return flat.reshape(self.shape, order="F" if self.fortran else "C")[()]


def _check_letters(numbers: np.ndarray) -> None:
  # NumPy fails with a `SystemError` when it reads such a string.
  if numbers.size and numbers.max() > sys.maxunicode:
    raise ValueError(f"it holds a letter with the number {numbers.max()}")


def _as_bytes(content: str | bytes | bytearray) -> bytes | bytearray:
  return content.encode("latin1") if isinstance(content, str) else content


def _encode(text: str, encoding: str) -> bytes:
  # Pickles of protocol 2 and below hold bytes as a call of this function.
  if encoding != "latin1":
    raise pickle.UnpicklingError(f"it holds bytes encoded by {encoding!r}")
  return text.encode("latin1")


def _array(content: Any, dtype: Any, shape: Any, order: str, *_: Any) -> _Array:
  array = _Array()
  array.__setstate__((None, shape, dtype, order == "F", content))
  return array


_STAND_INS = {
  ("numpy", "ndarray"): _Array,
  ("numpy", "dtype"): _Dtype,
  # The arguments are the class and a shape and dtype for the meantime.
  **{
    (f"{m}.multiarray", "_reconstruct"): lambda *_: _Array() for m in _MODULES
  },
  **{
    (f"{m}.multiarray", "scalar"): lambda dtype, content: _array(
      content, dtype, (), "C"
    )
    for m in _MODULES
  },
  **{(f"{m}.numeric", "_frombuffer"): _array for m in _MODULES},
  ("collections", "OrderedDict"): dict,
  ("_codecs", "encode"): _encode,
  # Python 3 pickles no bytes at all so, with protocol 2 and below.
  ("__builtin__", "bytes"): lambda: b"",
}


def _resolved(value: Any, done: dict[int, Any]) -> Any:
  """Returns `value` with arrays in place of their stand-ins.

  Args:
    value: What the unpickler returned, in which parts may occur twice.
    done: Results by the `id` of the part.
  """
  if id(value) in done:
    return done[id(value)]
  if isinstance(value, list):
    done[id(value)] = result = []
    result += [_resolved(item, done) for item in value]
  elif isinstance(value, dict):
    done[id(value)] = result = {}
    for key, item in value.items():
      result[_resolved(key, done)] = _resolved(item, done)
  elif isinstance(value, tuple):
    result = tuple(_resolved(item, done) for item in value)
  elif isinstance(value, _Array):
    result = value.resolved(_resolved(value.content, done))
  elif value is None or isinstance(value, _PLAIN):
    result = value
  else:
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
  return done.setdefault(id(value), result)
