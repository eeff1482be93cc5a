"""Tasks from a folder of images, one folder per class."""

from collections.abc import Sequence
from concurrent import futures
import math
import os
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from tfmeta.data import image_files
from tfmeta.data import rows
from tfmeta.data import sampler
from tfmeta.data import task


def tasks_from_directory(
  path: str | os.PathLike[str],
  spec: task.TaskSpec,
  *,
  size: int | tuple[int, int] = (84, 84),
  channels: int = 3,
  seed: int = 0,
  start: int = 0,
  memory_limit: int = rows.MEMORY_LIMIT,
) -> tf.data.Dataset:
  """Draws tasks without end from images that lie in one folder per class.

  All images are read once, now, scaled to one size and kept as uint8. Keep the
  classes to train, validate and test on in different folders.

  Args:
    path: Folder whose folders are the classes, each with the JPEG or PNG images
      of that class. Hidden folders and other files are passed over.
    spec: A `tfmeta.TaskSpec` with ways.
    size: Height and width in pixels, or one integer for both. Images are scaled
      to it, smoothed as they shrink, whatever their proportions. Default
      (84, 84).
    channels: 1 (grey) or 3 (colour, the default).
    seed: Integer in `[0, 2**63)`. Default 0.
    start: Index of the first task. Default 0. Task i depends on the images, the
      seed and i alone.
    memory_limit: Bytes; default 2**30. Images that need more are kept in a
      temporary file, mapped into memory, which vanishes with the process.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, height,
    width, channels], "support_y": [S], "query_x": [Q, height, width,
    channels]}, query_y [Q])`, x float32 in [0, 1], y int32; batch it.

  Raises:
    FileNotFoundError: If `path` is no folder.
    TypeError: If `spec` is no `TaskSpec`.
    ValueError: If there are no class folders, fewer than ways, or one with too
      few images; or if an image cannot be read. The folder or file is named.
  """
  task.check_has_ways(spec)
  height, width = _as_pair(size)
  if channels not in (1, 3):
    raise ValueError(
      f"`channels` must be 1 or 3. Received: channels={channels}"
    )
  folder = pathlib.Path(path).expanduser()
  classes = _list_images(folder)
  sizes = np.array([len(files) for files in classes.values()])
  sampler.check_classes(sizes, list(classes), spec)
  files = [file for members in classes.values() for file in members]
  images = _room([len(files), height, width, channels], memory_limit)
  _read_all(files, images)
  table = sampler.ClassTable.from_labels(
    np.repeat(np.arange(len(sizes)), sizes), classes=len(sizes)
  )
  read = rows.reader(images, memory_limit)
  return sampler.classification_tasks(read, table, spec, seed=seed, start=start)


def _as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
  pair = (size, size) if isinstance(size, int) else tuple(size)
  if len(pair) != 2:
    raise ValueError(
      f"`size` must be one integer or (height, width). Received: size={size}"
    )
  return task.check_positive("size", pair[0]), task.check_positive(
    "size", pair[1]
  )


def _list_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Returns each class's images, classes and images in order of their names."""
  if not folder.is_dir():
    raise FileNotFoundError(
      f"`path` must be a folder that holds one folder per class. Received: "
      f"path={str(folder)!r}"
    )
  classes = {
    child.name: [
      file for file in sorted(child.iterdir()) if image_files.is_image(file)
    ]
    for child in sorted(folder.iterdir())
    if child.is_dir() and not child.name.startswith(".")
  }
  if not classes:
    raise ValueError(
      f"{folder} holds no folders, and should hold one per class, with that "
      f"class's images in it. Received: path={str(folder)!r}"
    )
  return classes


def _room(shape: Sequence[int], memory_limit: int) -> np.ndarray:
  """Returns room for uint8 images, in memory or in a file without a name."""
  if math.prod(shape) <= memory_limit:
    return np.empty(shape, np.uint8)
  with tempfile.TemporaryFile(prefix="tfmeta") as file:
    return np.memmap(file, np.uint8, "w+", shape=tuple(shape))


def _read_all(files: Sequence[pathlib.Path], images: np.ndarray) -> None:
  def read(number: int) -> None:
    file = files[number]
    images[number] = image_files.decode(
      file.read_bytes(), images.shape[1:], file
    )

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for _ in pool.map(read, range(len(files))):
      pass
