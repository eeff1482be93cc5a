"""Reads pickles that hold arrays, and nothing that could run."""

import os
import pickle
from typing import Any

_MODULES = ("numpy.core", "numpy._core")
_ALLOWED = {
  ("numpy", "ndarray"),
  ("numpy", "dtype"),
  *((f"{module}.multiarray", "_reconstruct") for module in _MODULES),
  *((f"{module}.multiarray", "scalar") for module in _MODULES),
  *((f"{module}.numeric", "_frombuffer") for module in _MODULES),
  ("collections", "OrderedDict"),
  ("_codecs", "encode"),  # Bytes of old pickles.
}
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
  """Returns what a pickle of arrays, numbers, strings, lists and dicts holds.

  Those of Python 2 may be read too.

  Raises:
    ValueError: If it is no pickle, or holds anything else.
  """
  with open(path, "rb") as file:
    try:
      return _ArraysOnly(file, encoding="latin1").load()
    except _BROKEN as error:
      raise ValueError(
        f"{os.fspath(path)} is no pickle of arrays: {error}"
      ) from error


def load_dict(path: str | os.PathLike[str], *keys: str) -> dict[str, Any]:
  """As `load`, of a dict that has these keys.

  Raises:
    ValueError: If it is something else.
  """
  content = load(path)
  if not isinstance(content, dict) or not {*keys} <= {*content}:
    raise ValueError(
      f"{os.fspath(path)} must hold a dict with "
      f"{' and '.join(map(repr, keys))}. Received: {type(content).__name__}"
    )
  return content


class _ArraysOnly(pickle.Unpickler):
  """Reads arrays, and refuses all else that a pickle might run."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) in _ALLOWED:
      return super().find_class(module, name)
    raise pickle.UnpicklingError(f"it holds {module}.{name}")
