"""Images of a prepared TFDS data set as rows of a file, mapped into memory.

The file is written once, beside what TFDS prepared, and any later start maps it
without reading or decoding anything.
"""

import os
import pathlib
import tempfile
from typing import Any

import numpy as np

_BATCH = 256


def mapped(
  builder: Any, split: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns images uint8 `[n, *shape]` and their classes `[n]`, of a split."""
  folder = pathlib.Path(builder.data_path) / "rows"
  if _path(folder, split, "classes").exists():
    return _load(folder, split)
  if _can_write(folder):
    _write(builder, split, shape, folder)
    return _load(folder, split)
  # What is mapped stays so when the file has no name any more.
  with tempfile.TemporaryDirectory(prefix="tfmeta") as temporary:
    _write(builder, split, shape, pathlib.Path(temporary))
    return _load(pathlib.Path(temporary), split)


def _load(folder: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray]:
  images = np.load(_path(folder, split, "images"), mmap_mode="r")
  return images, np.load(_path(folder, split, "classes"))


def _can_write(folder: pathlib.Path) -> bool:
  try:
    folder.mkdir(exist_ok=True)
  except OSError:
    return False
  return os.access(folder, os.W_OK)


def _write(
  builder: Any, split: str, shape: tuple[int, ...], folder: pathlib.Path
) -> None:
  count = builder.info.splits[split].num_examples
  unfinished = folder / f"{split}_images.{os.getpid()}"
  images = np.lib.format.open_memmap(
    unfinished, "w+", np.uint8, shape=(count, *shape)
  )
  classes, done = [], 0
  examples = builder.as_dataset(split).batch(_BATCH).prefetch(2)
  for batch in examples.as_numpy_iterator():
    images[done : done + len(batch["image"])] = batch["image"]
    done += len(batch["image"])
    classes += [name.decode() for name in batch["class"]]
  images.flush()
  os.replace(unfinished, _path(folder, split, "images"))
  # That of classes last, as it stands for both.
  unfinished = folder / f"{split}_classes.{os.getpid()}"
  with open(unfinished, "wb") as file:
    np.save(file, np.array(classes))
  os.replace(unfinished, _path(folder, split, "classes"))


def _path(folder: pathlib.Path, split: str, kind: str) -> pathlib.Path:
  return folder / f"{split}_{kind}.npy"
