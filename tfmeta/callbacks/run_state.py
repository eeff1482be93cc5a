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


def unpack(model, data) -> str:
  """Sets the variables of `model` to those in `data`; returns the note.

  Args:
    model: A compiled model.
    data: Bytes that `pack` returned.

  Raises:
    ValueError: If `data` was packed from a model with other variables.
  """
  variables = variables_of(model)
  with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
    values = [arrays[f"variable_{i}"] for i in range(len(arrays) - 1)]
    note = arrays["note"].item()
  expected, received = [v.shape for v in variables], [v.shape for v in values]
  if expected != received:
    raise ValueError(
      "The variables of model and optimizer must have the shapes "
      f"{expected}. Received: {received}"
    )
  for variable, value in zip(variables, values, strict=True):
    # NumPy reads dtypes that it does not know, such as bfloat16, as raw bytes.
    raw = value.dtype.kind == "V"
    variable.assign(value.view(variable.dtype) if raw else value)
  return note


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
