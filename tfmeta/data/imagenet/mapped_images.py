"""Images of a prepared TFDS data set as an array that is mapped from disk.

The array is written once, beside the files that TFDS prepared. Later processes
map it without reading or decoding anything.
"""

from collections.abc import Iterator
import contextlib
import functools
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from tfmeta import packages
from tfmeta import whole_files

_BATCH_SIZE = 256


@functools.lru_cache(maxsize=8)
def read(
  data_path: str, split: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the images of a split and the name of each image's class.

  Args:
    data_path: Folder in which TFDS prepared the data set.
    split: Name of the split.
    shape: Shape of an image.

  Returns:
    Images, uint8 `[n, *shape]`, mapped from disk; and names, `[n]`. If the
    folder cannot be written to, the images are in a temporary file, which every
    process writes for itself.
  """
  # Data written by earlier versions has this folder too.
  folder = pathlib.Path(data_path) / "rows"
  if _path(folder, split, "classes").exists():
    return _load(folder, split)
  if _can_write(folder):
    _write(data_path, split, shape, folder)
    return _load(folder, split)
  # The mapping stays valid after the file is deleted.
  with tempfile.TemporaryDirectory(prefix="tfmeta") as temporary:
    _write(data_path, split, shape, pathlib.Path(temporary))
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
  data_path: str, split: str, shape: tuple[int, ...], folder: pathlib.Path
) -> None:
  """Writes the images and then the classes, whose file marks both as whole."""
  builder = packages.datasets().builder_from_directory(data_path)
  count = builder.info.splits[split].num_examples
  examples = builder.as_dataset(split).batch(_BATCH_SIZE).prefetch(2)
  classes = []
  with _replacing(_path(folder, split, "images")) as file:
    # The header of a .npy file comes first, and then the images batch by batch,
    # because a split may be larger than the memory.
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for batch in examples.as_numpy_iterator():
      file.write(batch["image"].tobytes())
      classes += [name.decode() for name in batch["class"]]
    if len(classes) != count:
      raise OSError(
        f"{data_path} must hold {count} images of the split {split!r}. "
        f"Received: {len(classes)}"
      )
  with _replacing(_path(folder, split, "classes")) as file:
    np.save(file, np.array(classes))


@contextlib.contextmanager
def _replacing(path: pathlib.Path) -> Iterator[Any]:
  """Opens a file that appears at `path` only if it is written completely."""
  with whole_files.replacing(path, shared=True) as unfinished:
    with open(unfinished, "wb") as file:
      yield file


def _path(folder: pathlib.Path, split: str, kind: str) -> pathlib.Path:
  return folder / f"{split}_{kind}.npy"
