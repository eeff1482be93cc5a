"""The state of a run: all that `fit` changes in a model, in memory and on disk.

A file counts only if it is whole. Its mark, a SHA-256 beside it, is written
after the file. A run that is killed at any moment therefore never leaves a file
that looks whole but is not.
"""

import contextlib
import hashlib
import io
import os

import keras
import numpy as np

from tfmeta import whole_files

# A mark has the same content as the output of the command `sha256sum`.
MARK = ".sha256"


def variables_of(model) -> list:
  """Returns the variables of `model` and its optimizer, with random seeds.

  The variables of metrics that `compile` made are left out, because `fit`
  resets them at each epoch.
  """
  if not model.optimizer.built:
    with model.distribute_strategy.scope():
      model.optimizer.build(model.trainable_variables)
  return [*model.variables, *model.optimizer.variables]


def pack(model, note) -> bytes:
  """Returns the variables of `model` and the string `note` as an npz file."""
  arrays = {
    f"variable_{i}": keras.ops.convert_to_numpy(v)
    for i, v in enumerate(variables_of(model))
  }
  buffer = io.BytesIO()
  # Older versions of NumPy would save an argument `allow_pickle` as an array.
  np.savez(buffer, note=np.array(note), **arrays)
  return buffer.getvalue()


def unpack(data) -> tuple[str, list[np.ndarray]]:
  """Returns the note and the values of the variables in bytes of `pack`.

  Raises:
    ValueError: If `data` is something else.
  """
  try:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
      values = [arrays[f"variable_{i}"] for i in range(len(arrays) - 1)]
      return str(arrays["note"].item()), values
  except Exception as error:
    # Archives and arrays that are damaged raise errors of a dozen kinds.
    raise ValueError(f"It is no checkpoint: {error!r}") from error


def assign(model, values) -> None:
  """Sets the variables of a compiled `model`.

  Raises:
    ValueError: If the values belong to a model with other variables.
  """
  variables = variables_of(model)
  dtypes = [keras.backend.standardize_dtype(v.dtype) for v in variables]
  if len(values) == len(variables):
    values = list(map(_as_dtype, values, dtypes))
  expected = [_kind(v.shape, d) for v, d in zip(variables, dtypes, strict=True)]
  received = [_kind(value.shape, value.dtype) for value in values]
  if expected != received:
    raise ValueError(
      "The variables of model and optimizer must be "
      f"{', '.join(expected)}. Received: {', '.join(received)}"
    )
  for variable, value in zip(variables, values, strict=True):
    variable.assign(value)


def _as_dtype(value: np.ndarray, dtype: str) -> np.ndarray:
  # NumPy reads dtypes that it does not know, such as bfloat16, as raw bytes.
  raw = value.dtype == f"V{np.dtype(dtype).itemsize}"
  return value.view(dtype) if raw else value


def _kind(shape, dtype) -> str:
  return f"{dtype}{list(shape)}"


def write(path, data) -> None:
  """Writes the bytes `data` to `path`, and then the mark that makes it count.

  Raises:
    OSError: If the disk is full, for example. A file that was at `path` before
      is left as it was, and nothing partial remains.
  """
  digest = hashlib.sha256(data).hexdigest()
  mark = f"{digest}  {os.path.basename(path)}\n".encode()
  for name, content in ((path, data), (path + MARK, mark)):
    with whole_files.replacing(name) as temporary:
      temporary.write_bytes(content)


def read(path) -> bytes | None:
  """Returns the bytes of `path`, or `None` if they do not fit the mark."""
  try:
    with open(path, "rb") as file, open(path + MARK, "rb") as mark:
      data, expected = file.read(), mark.read().split()
  except OSError:
    return None
  digest = hashlib.sha256(data).hexdigest().encode()
  return data if expected and expected[0] == digest else None


def remove(path) -> None:
  """Removes the mark of `path` and then `path`, so that no rest counts."""
  for name in (path + MARK, path):
    with contextlib.suppress(FileNotFoundError):
      os.remove(name)
