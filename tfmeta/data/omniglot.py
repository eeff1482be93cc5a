"""Omniglot: 1623 handwritten characters, each drawn by 20 people."""

import functools
import os

import numpy as np
import tensorflow as tf

from tfmeta.data import rows
from tfmeta.data import sampler
from tfmeta.data import splits
from tfmeta.data import task
from tfmeta.data import tfds_builders

CLASSES = ("vinyals", "lake")
ROTATIONS = ("as_classes", "per_task", "none")
_TURNS = 4
_CHARACTERS = 1623
_DRAWINGS = 20


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
  """Draws tasks of Omniglot characters, without end.

  The drawings come from TFDS (`omniglot`, version 3) and are prepared once per
  process, in some 6 seconds on two cores: scaled down by area, which keeps thin
  strokes grey rather than broken, with ink = 1.

  Args:
    split: "train", "validation" or "test"; "lake" has no "validation".
    spec: A `tfmeta.TaskSpec` with ways.
    seed: Integer in `[0, 2**63)`. Default 0.
    start: Index of the first task. Default 0. Task i depends on the data, the
      seed and i alone.
    data_dir: Folder of TFDS data sets, the one that holds or shall hold
      `omniglot/`. `None` (default): TFDS's own choice, which is the environment
      variable TFDS_DATA_DIR, else `~/tensorflow_datasets`.
    classes: Which characters belong to which split.
      "vinyals" (default): 1028 to train, 172 to validate, 423 to test, drawn
      from all alphabets [2].
      "lake": 964 to train ("background"), 659 to test ("evaluation"), in other
      alphabets [1].
    rotations: What is made of turning the drawings by 90, 180, 270 degrees.
      "as_classes": each turn of a character is a class of its own, four times
      as many [2, and Reptile's code for training]; a task may hold a character
      twice, turned differently.
      "per_task": a task turns each of its characters by an angle drawn for it
      [MAML's code, for training and test].
      "none": no turns.
      `None` (default): "as_classes", in every split, with "vinyals"; with
      "lake" "as_classes" to train and "none" to test.
    size: Integer in [1, 105], height and width in pixels. Default 28.
    download: Whether TFDS may download and prepare the data when they are not
      there. Default `True`.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, size,
    size, 1], "support_y": [S], "query_x": [Q, size, size, 1]}, query_y [Q])`,
    x float32 in [0, 1] with ink = 1, y int32; batch it.

  Raises:
    FileNotFoundError: If the data are not there and cannot be had.
    TypeError: If `spec` is no `TaskSpec`.
    ValueError: If a name is unknown, or `spec` asks for more classes or more
      examples (of 20) than there are.

  References:
    [1] B. Lake, R. Salakhutdinov, J. Tenenbaum. Human-level concept learning
        through probabilistic program induction. Science 350, 2015.
        https://doi.org/10.1126/science.aab3050
    [2] O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra.
        Matching Networks for One Shot Learning. NeurIPS 2016.
        https://arxiv.org/abs/1606.04080
  """
  task.check_has_ways(spec)
  labels = omniglot_classes(split, classes=classes)
  if rotations is None:
    held_back = classes == "lake" and split == "test"
    rotations = "none" if held_back else "as_classes"
  sampler.check_choice("rotations", rotations, ROTATIONS)
  if not 1 <= task.check_positive("size", size) <= 105:
    raise ValueError(f"`size` must be in [1, 105]. Received: size={size}")
  turns = 1 if rotations == "none" else _TURNS
  variants = _TURNS if rotations == "per_task" else 1
  sizes = np.full([len(labels) * turns], _DRAWINGS)
  sampler.check_classes(sizes[::variants], list(range(len(sizes))), spec)
  folder = tfds_builders.folder_of(data_dir)
  images = _images(folder, size, download)[labels]
  table = sampler.ClassTable.from_labels(
    np.repeat(np.arange(len(sizes)), _DRAWINGS),
    classes=len(sizes),
    variants=variants,
  )
  read = rows.reader(_turned(images, turns), rows.MEMORY_LIMIT)
  salt = splits.SPLITS.index(split)
  return sampler.classification_tasks(
    read, table, spec, seed=seed, start=start, salt=salt
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
  """Returns all drawings of a split, to train an ordinary classifier on.

  Args:
    split: As for `omniglot`, like the others.
    data_dir: As there.
    classes: As there.
    turns: Whether each turn of a character is a class of its own.
    size: As there.
    download: As there.

  Returns:
    uint8 `[characters, 20, size, size, 1]`, ink = 255; four times as many with
    `turns`.
  """
  images = _images(tfds_builders.folder_of(data_dir), size, download)
  images = images[omniglot_classes(split, classes=classes)]
  rows_of = _turned(images, _TURNS if turns else 1)
  return rows_of.reshape(-1, *images.shape[1:])


def omniglot_classes(split: str, *, classes: str = "vinyals") -> list[int]:
  """Returns the characters of a split, as labels of TFDS `omniglot` 3.0.0.

  Args:
    split: "train", "validation" or "test".
    classes: "vinyals" or "lake", as in `omniglot`.
  """
  sampler.check_choice("classes", classes, CLASSES)
  lists = splits.read("omniglot")[classes]
  sampler.check_choice("split", split, tuple(lists))
  return lists[split]


def _turned(images: np.ndarray, turns: int) -> np.ndarray:
  """Turns `[classes, drawings, size, size, 1]`, to rows in class-major order.

  Class c turned t times is class `c * turns + t`.
  """
  turned = [np.rot90(images, turn, axes=(2, 3)) for turn in range(turns)]
  return np.stack(turned, axis=1).reshape(-1, *images.shape[2:])


@functools.lru_cache(maxsize=2)
def _images(data_dir: str | None, size: int, download: bool) -> np.ndarray:
  """Returns uint8 `[characters, drawings, size, size, 1]`, ink = 255."""
  builder = tfds_builders.builder_of(
    "omniglot:3.*.*", data_dir, download=download
  )
  images = np.zeros([_CHARACTERS, _DRAWINGS, size, size, 1], np.uint8)
  seen = np.zeros([_CHARACTERS], np.int64)
  splits = builder.as_dataset()
  for split in ("train", "test"):
    examples = splits[split].map(
      lambda example: (_shrink(example["image"], size), example["label"]),
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    )
    for image_batch, label_batch in examples.batch(256).as_numpy_iterator():
      for image, label in zip(image_batch, label_batch, strict=True):
        images[label, seen[label]] = image
        seen[label] += 1
  images.flags.writeable = False
  return images


def _shrink(image: tf.Tensor, size: int) -> tf.Tensor:
  """Scales black ink on white, uint8 `[105, 105, 3]`, to ink = 255."""
  ink = 255.0 - tf.cast(image[tf.newaxis, :, :, :1], tf.float32)
  ink = tf.image.resize(ink, [size, size], method="area")[0]
  return tf.cast(tf.round(ink), tf.uint8)
