"""Reads pickle files that hold arrays, and refuses code.

Unpickling an untrusted file can run any program. This reader accepts arrays,
numbers, strings, lists and dicts only.
"""

import os
import pickle
from typing import Any

# NumPy 2 renamed `numpy.core` to `numpy._core`; files name either one.
_MODULES = ("numpy.core", "numpy._core")
_ALLOWED = {
  ("numpy", "ndarray"),
  ("numpy", "dtype"),
  *((f"{module}.multiarray", "_reconstruct") for module in _MODULES),
  *((f"{module}.multiarray", "scalar") for module in _MODULES),
  *((f"{module}.numeric", "_frombuffer") for module in _MODULES),
  ("collections", "OrderedDict"),
  # Pickles of protocol 2 and below hold bytes as a call of this function.
  ("_codecs", "encode"),
}
# Errors that the unpickler raises for a broken file.
_BROKEN = (
  pickle.UnpicklingError,
  AttributeError,
  EOFError,
  ImportError,
  IndexError,
  KeyError,
  TypeError,
)


def load(path: str | os.PathLike[str]) -> Any:
  """Returns the content of a pickle file, which may come from Python 2.

  Raises:
    ValueError: If the file is not a pickle, or holds anything other than
      arrays, numbers, strings, lists and dicts.
  """
  with open(path, "rb") as file:
    try:
      # Python 2 pickled the bytes of an array as a string; latin1 keeps them.
      return _ArraysOnly(file, encoding="latin1").load()
    except _BROKEN as error:
      raise ValueError(
        f"{os.fspath(path)} is not a pickle of arrays: {error}"
      ) from error


def load_dict(path: str | os.PathLike[str], *keys: str) -> dict[str, Any]:
  """Returns the dict in a pickle file.

  Args:
    path: The file.
    *keys: Keys that the dict must have.

  Raises:
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


class _ArraysOnly(pickle.Unpickler):
  """Unpickler that refuses every class and function not in `_ALLOWED`."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) in _ALLOWED:
      return super().find_class(module, name)
    raise pickle.UnpicklingError(f"it holds {module}.{name}")
