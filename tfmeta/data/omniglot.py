"""Omniglot: 1623 handwritten characters, each drawn by 20 people."""

import functools
import os

import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta.data import arrays
from tfmeta.data import sampler
from tfmeta.data import splits
from tfmeta.data import task
from tfmeta.data import tfds_builders

CLASSES = ("vinyals", "lake")
ROTATIONS = ("as_classes", "per_task", "none")

_TURNS = 4
_CHARACTERS = 1623
_DRAWINGS = 20
_ORIGINAL_SIZE = 105


def omniglot(
  split: str,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  data_dir: str | os.PathLike[str] | None = None,
  classes: str = "vinyals",
  rotations: str | None = None,
  size: int = 28,
  download: bool = True,
) -> tf.data.Dataset:
  """Samples tasks of Omniglot characters.

  The drawings come from TFDS (`omniglot`, version 3). Each process reads them
  once, which takes about 6 seconds on two cores, and scales them down by
  averaging areas. Thin strokes turn gray but do not break. Ink is 1, and paper
  is 0.

  Args:
    split: "train", "validation" or "test"; "lake" has no "validation".
    spec: A `tfmeta.TaskSpec` with `ways` set.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the data, the seed and i.
    data_dir: Folder of TFDS data sets that holds `omniglot/`, or in which TFDS
      creates it. Defaults to the environment variable TFDS_DATA_DIR if it is
      set, else to `~/tensorflow_datasets`.
    classes: How the characters are divided into splits.
      "vinyals": 1028 characters to train, 172 to validate and 423 to test,
      chosen from all alphabets [2].
      "lake": 964 characters to train ("background") and 659 from other
      alphabets to test ("evaluation") [1].
      Defaults to "vinyals".
    rotations: How rotations of the drawings by 90, 180 and 270 degrees are
      used.
      "as_classes": each rotation of a character is a separate class, which
      gives four times as many classes [2, and Reptile's code for training]. A
      task may contain two rotations of one character.
      "per_task": each task rotates each of its characters by a random angle
      [MAML's code, for training and test].
      "none": no rotations.
      Defaults to "as_classes", or to "none" for the test split of "lake".
    size: Integer in [1, 105], height and width in pixels. Defaults to 28.
    download: Whether TFDS may download and prepare missing data. Defaults to
      `True`.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, size,
    size, 1], "support_y": [S], "query_x": [Q, size, size, 1]}, query_y [Q])`;
    x is float32 in [0, 1] with ink = 1, y is int32. Batch the dataset before
    use.

  Raises:
    FileNotFoundError: If the data is missing and cannot be downloaded.
    ImportError: If TFDS is not installed.
    TypeError: If `spec` is not a `TaskSpec`, or `size` is not an integer.
    ValueError: If an option is unknown or out of range, or if `spec` asks for
      more classes than there are or for more than 20 examples per class.

  References:
    [1] B. Lake, R. Salakhutdinov, J. Tenenbaum. Human-level concept learning
        through probabilistic program induction. Science 350, 2015.
        https://doi.org/10.1126/science.aab3050
    [2] O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra.
        Matching Networks for One Shot Learning. NeurIPS 2016.
        https://arxiv.org/abs/1606.04080
  """
  task.check_has_ways(spec)
  characters = omniglot_classes(split, classes=classes)
  if rotations is None:
    lake_test = classes == "lake" and split == "test"
    rotations = "none" if lake_test else "as_classes"
  arguments.check_choice("rotations", rotations, ROTATIONS)
  turns = 1 if rotations == "none" else _TURNS
  # Class c of the table is character c // turns, rotated c % turns times. With
  # "per_task" these rotations are variants, of which a task takes one.
  variants = _TURNS if rotations == "per_task" else 1
  sizes = np.full([len(characters) * turns], _DRAWINGS)
  sampler.check_classes(sizes[::variants], list(range(len(sizes))), spec)
  images = _images(characters, data_dir=data_dir, size=size, download=download)
  table = sampler.ClassTable.from_labels(
    np.repeat(np.arange(len(sizes)), _DRAWINGS),
    classes=len(sizes),
    variants=variants,
  )
  read = arrays.make_reader(_rotate(images, turns), arrays.MEMORY_LIMIT)
  return sampler.classification_tasks(
    read, table, spec, seed=seed, start=start, salt=splits.index_of(split)
  )


def omniglot_drawings(
  split: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  classes: str = "vinyals",
  turns: bool = True,
  size: int = 28,
  download: bool = True,
) -> np.ndarray:
  """Returns all drawings of a split, for example to train a classifier.

  Args:
    split: "train", "validation" or "test"; "lake" has no "validation".
    data_dir: Folder of TFDS data sets that holds `omniglot/`, or in which TFDS
      creates it. Defaults to the environment variable TFDS_DATA_DIR if it is
      set, else to `~/tensorflow_datasets`.
    classes: "vinyals" or "lake", the division of the characters into splits;
      see `omniglot`. Defaults to "vinyals".
    turns: Whether the result contains the rotations of each character by 90,
      180 and 270 degrees, as separate classes. Defaults to `True`.
    size: Integer in [1, 105], height and width in pixels. Defaults to 28.
    download: Whether TFDS may download and prepare missing data. Defaults to
      `True`.

  Returns:
    uint8 `[characters, 20, size, size, 1]` with ink = 255; four times as many
    characters with `turns`.

  Raises:
    FileNotFoundError: If the data is missing and cannot be downloaded.
    ImportError: If TFDS is not installed.
    ValueError: If an option is unknown or out of range.
  """
  images = _images(
    omniglot_classes(split, classes=classes),
    data_dir=data_dir,
    size=size,
    download=download,
  )
  rotated = _rotate(images, _TURNS if turns else 1)
  return rotated.reshape(-1, *images.shape[1:])


def omniglot_classes(split: str, *, classes: str = "vinyals") -> list[int]:
  """Returns the characters of a split, as labels of TFDS `omniglot` 3.0.0.

  Args:
    split: "train", "validation" or "test"; "lake" has no "validation".
    classes: "vinyals" or "lake", the division of the characters into splits;
      see `omniglot`. Defaults to "vinyals".

  Raises:
    ValueError: If an option is unknown.
  """
  arguments.check_choice("classes", classes, CLASSES)
  by_split = splits.read_classes("omniglot")[classes]
  return by_split[arguments.check_choice("split", split, tuple(by_split))]


def _rotate(images: np.ndarray, turns: int) -> np.ndarray:
  """Returns the first `turns` rotations of all drawings.

  Args:
    images: `[classes, drawings, size, size, 1]`.
    turns: Integer in [1, 4].

  Returns:
    `[classes * turns * drawings, size, size, 1]`, sorted by class; class c
    rotated t times becomes class `c * turns + t`.
  """
  rotated = [np.rot90(images, turn, axes=(2, 3)) for turn in range(turns)]
  return np.stack(rotated, axis=1).reshape(-1, *images.shape[2:])


def _images(
  characters: list[int],
  *,
  data_dir: str | os.PathLike[str] | None,
  size: int,
  download: bool,
) -> np.ndarray:
  """Returns uint8 `[characters, drawings, size, size, 1]`, ink = 255."""
  size = arguments.check_integer("size", size, 1, _ORIGINAL_SIZE)
  folder = tfds_builders.expand_folder(data_dir)
  return _all_images(folder, size, download)[characters]


@functools.lru_cache(maxsize=2)
def _all_images(data_dir: str | None, size: int, download: bool) -> np.ndarray:
  """Returns the drawings of all 1623 characters, as `_images` does."""
  builder = tfds_builders.prepared_builder(
    "omniglot:3.*.*", data_dir, download=download
  )
  images = np.zeros([_CHARACTERS, _DRAWINGS, size, size, 1], np.uint8)
  seen = np.zeros([_CHARACTERS], np.int64)
  datasets = builder.as_dataset()
  for part in ("train", "test"):
    # The order is deterministic, so that drawing d of a character is the same
    # one in every process.
    examples = datasets[part].map(
      lambda example: (_shrink(example["image"], size), example["label"]),
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    )
    for image_batch, label_batch in examples.batch(256).as_numpy_iterator():
      for image, label in zip(image_batch, label_batch, strict=True):
        images[label, seen[label]] = image
        seen[label] += 1
  # The cache hands the same array to every caller.
  images.flags.writeable = False
  return images


def _shrink(image: tf.Tensor, size: int) -> tf.Tensor:
  """Scales black ink on white paper, uint8 `[105, 105, 3]`, to ink = 255."""
  ink = 255.0 - tf.cast(image[tf.newaxis, :, :, :1], tf.float32)
  ink = tf.image.resize(ink, [size, size], method="area")[0]
  return tf.cast(tf.round(ink), tf.uint8)
