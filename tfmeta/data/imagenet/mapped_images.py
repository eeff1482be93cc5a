"""Images of a prepared TFDS data set as rows of a file, mapped into memory.

The file is written once, beside what TFDS prepared, and any later start maps it
without reading or decoding anything.
"""

from collections.abc import Iterator
import contextlib
import functools
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

_BATCH = 256


@functools.lru_cache(maxsize=8)
def mapped(
  data_path: str, split: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns images and their classes, of a split.

  Args:
    data_path: Of the data set, where TFDS prepared it.
    split: Its name.
    shape: Of an image.

  Returns:
    Images uint8 `[n, *shape]` and names of classes `[n]`. Where nothing can be
    written beside the data, they are in a nameless temporary file, which is
    written anew by every process.
  """
  folder = pathlib.Path(data_path) / "rows"
  if _path(folder, split, "classes").exists():
    return _load(folder, split)
  if _can_write(folder):
    _write(data_path, split, shape, folder)
    return _load(folder, split)
  # What is mapped stays so when the file has no name any more.
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
  """Writes both files; that of classes last, as it stands for both."""
  import tensorflow_datasets as tfds  # Slow to import.

  open_builder: Any = tfds.builder_from_directory  # Its decorator hides types.
  builder = open_builder(data_path)
  count = builder.info.splits[split].num_examples
  examples = builder.as_dataset(split).batch(_BATCH).prefetch(2)
  classes = []
  with _replacing(_path(folder, split, "images")) as file:
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
  """A file that has its name only once it is whole, and vanishes otherwise."""
  number, unfinished = tempfile.mkstemp(dir=path.parent, prefix=path.name)
  try:
    with os.fdopen(number, "wb") as file:
      yield file
    os.chmod(unfinished, 0o644)
    os.replace(unfinished, path)
  finally:
    pathlib.Path(unfinished).unlink(missing_ok=True)


def _path(folder: pathlib.Path, split: str, kind: str) -> pathlib.Path:
  return folder / f"{split}_{kind}.npy"
