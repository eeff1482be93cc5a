"""All that `fit` changes in a model, as a list and as bytes."""

import io

import keras
import numpy as np


def variables_of(model) -> list:
  """Variables of `model` and its optimizer, random seeds among them.

  Metrics are left out: `fit` resets them at each epoch.
  """
  if not model.optimizer.built:
    with model.distribute_strategy.scope():
      model.optimizer.build(model.trainable_variables)
  return [*model.variables, *model.optimizer.variables]


def pack(model, note) -> bytes:
  """Variables of `model` and the string `note` as an npz file."""
  arrays = {
    f"variable_{i}": keras.ops.convert_to_numpy(v)
    for i, v in enumerate(variables_of(model))
  }
  buffer = io.BytesIO()
  # Older versions of NumPy would save an argument `allow_pickle` as an array.
  np.savez(buffer, note=np.array(note), **arrays)
  return buffer.getvalue()


def load(model, data) -> str:
  """Sets the variables of `model` to those in `data`; returns the note.

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
    # NumPy reads back types it does not know, such as bfloat16, as raw bytes.
    raw = value.dtype.kind == "V"
    variable.assign(value.view(variable.dtype) if raw else value)
  return note
