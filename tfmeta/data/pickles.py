"""Reads pickles that hold arrays, and nothing that could run."""

import os
import pickle
from typing import Any

_MODULES = ("", ".core.multiarray", "._core.multiarray")
_NAMES = ("_reconstruct", "ndarray", "dtype", "scalar")
_ALLOWED = {
  *((f"numpy{module}", name) for module in _MODULES for name in _NAMES),
  ("numpy.core.numeric", "_frombuffer"),
  ("numpy._core.numeric", "_frombuffer"),
  ("_codecs", "encode"),  # Bytes of old pickles.
}


def load(path: str | os.PathLike[str]) -> Any:
  """Returns what a pickle of arrays, numbers, strings and containers holds.

  Those of Python 2 may be read too.

  Raises:
    ValueError: If it is no pickle, or holds anything else.
  """
  with open(path, "rb") as file:
    try:
      return _ArraysOnly(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, AttributeError) as error:
      raise ValueError(
        f"{os.fspath(path)} is no pickle of arrays: {error}"
      ) from error


class _ArraysOnly(pickle.Unpickler):
  """Reads arrays, and refuses all else that a pickle might run."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) in _ALLOWED:
      return super().find_class(module, name)
    raise pickle.UnpicklingError(f"it holds {module}.{name}")
