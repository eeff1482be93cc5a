"""Tasks from a folder of images with one subfolder per class."""

from collections.abc import Sequence
from concurrent import futures
import math
import os
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta.data import arrays
from tfmeta.data import image_files
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
  memory_limit: int = arrays.MEMORY_LIMIT,
) -> tf.data.Dataset:
  """Samples tasks from a folder that holds one folder of images per class.

  The call reads all images once, scales them to one size and keeps them as
  uint8. Put the classes for training, validation and testing into different
  folders.

  Args:
    path: Folder with one subfolder per class, which holds the JPEG or PNG
      images of that class. Hidden folders and other files are ignored.
    spec: A `tfmeta.TaskSpec` with `ways` set.
    size: Height and width in pixels, or one integer for both. Images are scaled
      to it with antialiasing, and their aspect ratio is not kept. Defaults to
      (84, 84).
    channels: 1 (grayscale) or 3 (color). Defaults to 3.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the images, the seed and i.
    memory_limit: Number of bytes. Images that need more are kept in a temporary
      file, which is mapped into memory and disappears with the process.
      Defaults to 2**30.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, height,
    width, channels], "support_y": [S], "query_x": [Q, height, width,
    channels]}, query_y [Q])`; x is float32 in [0, 1], y is int32. Batch the
    dataset before use.

  Raises:
    FileNotFoundError: If `path` is not a folder.
    TypeError: If `spec` is not a `TaskSpec`.
    ValueError: If there are no class folders, fewer classes than ways, or a
      class with too few images; or if an image cannot be read. The message
      names the folder or file.
  """
  task.check_has_ways(spec)
  height, width = _check_size(size)
  arguments.check_choice("channels", channels, (1, 3))
  classes = _list_images(arguments.path("path", path))
  sizes = np.array([len(files) for files in classes.values()])
  sampler.check_classes(sizes, list(classes), spec)
  files = [file for members in classes.values() for file in members]
  images = _allocate([len(files), height, width, channels], memory_limit)
  _read_images(files, images)
  table = sampler.ClassTable.from_labels(
    np.repeat(np.arange(len(sizes)), sizes), classes=len(sizes)
  )
  read = arrays.make_reader(images, memory_limit)
  return sampler.classification_tasks(read, table, spec, seed=seed, start=start)


def count_images(path: str | os.PathLike[str]) -> dict[str, int]:
  """Returns the number of images of each class in a folder of class folders.

  Args:
    path: As in `tasks_from_directory`.

  Returns:
    Dict from the name of a class to its number of images. The classes are in
    the order in which `tasks_from_directory` numbers them.

  Raises:
    FileNotFoundError: If `path` is not a folder.
    ValueError: If there are no class folders.
  """
  classes = _list_images(arguments.path("path", path))
  return {name: len(files) for name, files in classes.items()}


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
  pair = (size, size) if isinstance(size, int) else tuple(size)
  if len(pair) != 2:
    raise ValueError(
      f"`size` must be one integer or (height, width). Received: size={size}"
    )
  height, width = (arguments.check_integer("size", n, least=1) for n in pair)
  return height, width


def _list_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Returns the image files of each class.

  Classes and files are sorted by name, so that tasks do not depend on the order
  in which the file system lists them.
  """
  if not folder.is_dir():
    raise FileNotFoundError(
      "`path` must be a folder that holds one folder per class. "
      f"Received: path={str(folder)!r}"
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
      f"{folder} holds no folders; it must hold one per class, with the images "
      f"of that class. Received: path={str(folder)!r}"
    )
  return classes


def _allocate(shape: Sequence[int], memory_limit: int) -> np.ndarray:
  """Returns an uninitialized uint8 array, in memory or in a temporary file."""
  if math.prod(shape) <= memory_limit:
    return np.empty(shape, np.uint8)
  # The mapping stays valid after the file is closed and deleted.
  with tempfile.TemporaryFile(prefix="tfmeta") as file:
    return np.memmap(file, np.uint8, "w+", shape=tuple(shape))


def _read_images(files: Sequence[pathlib.Path], images: np.ndarray) -> None:
  """Reads image files into `images`, `[n, height, width, channels]`."""

  def read(number: int) -> None:
    file, shape = files[number], images.shape[1:]
    images[number] = image_files.decode(file.read_bytes(), shape, file)

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    # Consuming the results raises the first exception of a thread.
    for _ in pool.map(read, range(len(files))):
      pass
