"""CIFAR-FS and FC100: the classes of CIFAR-100, divided for few-shot tasks."""

import functools
import os

import numpy as np
import tensorflow as tf

from tfmeta.data import arrays
from tfmeta.data import sampler
from tfmeta.data import splits
from tfmeta.data import task
from tfmeta.data import tfds_builders


def cifar_fs(
  split: str,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  data_dir: str | os.PathLike[str] | None = None,
  download: bool = True,
) -> tf.data.Dataset:
  """Draws tasks of CIFAR-FS, without end: 64, 16 and 20 classes [1].

  The images come from TFDS (`cifar100`, version 3); its training and test
  images belong together, 600 in each class. They are read once per process.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with ways.
    seed: Integer in `[0, 2**63)`. Default 0.
    start: Index of the first task. Default 0. Task i depends on the data, the
      seed and i alone.
    data_dir: Folder of TFDS data sets, the one that holds or shall hold
      `cifar100/`. `None` (default): TFDS's own choice, which is the environment
      variable TFDS_DATA_DIR, else `~/tensorflow_datasets`.
    download: Whether TFDS may download and prepare the data when they are not
      there. Default `True`.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, 32, 32,
    3], "support_y": [S], "query_x": [Q, 32, 32, 3]}, query_y [Q])`, x float32
    in [0, 1], y int32; batch it.

  Raises:
    FileNotFoundError: If the data are not there and cannot be had.
    TypeError: If `spec` is no `TaskSpec`.
    ValueError: If the split is unknown, or `spec` asks for more classes or more
      examples than there are.

  References:
    [1] L. Bertinetto, J. Henriques, P. Torr, A. Vedaldi. Meta-learning with
        differentiable closed-form solvers. ICLR 2019.
        https://arxiv.org/abs/1805.08136
  """
  found = _split("cifar_fs", split, spec, data_dir, download)
  return arrays.tasks_from_arrays(*found, spec, seed=seed, start=start)


def fc100(
  split: str,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  data_dir: str | os.PathLike[str] | None = None,
  download: bool = True,
) -> tf.data.Dataset:
  """Draws tasks of FC100, without end: 60, 20 and 20 classes [1].

  As `cifar_fs`, but no superclass of CIFAR-100 has classes in two splits.

  Args:
    split: As for `cifar_fs`, like the others.
    spec: As there.
    seed: As there.
    start: As there.
    data_dir: As there.
    download: As there.

  Returns:
    As `cifar_fs`.

  Raises:
    FileNotFoundError: As there, like the others.
    TypeError: As there.
    ValueError: As there.

  References:
    [1] B. Oreshkin, P. Rodriguez, A. Lacoste. TADAM: Task dependent adaptive
        metric for improved few-shot learning. NeurIPS 2018.
        https://arxiv.org/abs/1805.10123
  """
  found = _split("fc100", split, spec, data_dir, download)
  return arrays.tasks_from_arrays(*found, spec, seed=seed, start=start)


def _split(name, split, spec, data_dir, download):
  """Images and labels of a split."""
  sampler.check_choice("split", split, splits.SPLITS)
  task.check_has_ways(spec)
  folder = tfds_builders.folder_of(data_dir)
  images, labels, names = _cifar100(folder, download)
  wanted = [names.index(n) for n in splits.read(name)[split]]
  rows = np.flatnonzero(np.isin(labels, wanted))
  return images[rows], labels[rows]


@functools.lru_cache(maxsize=1)
def _cifar100(
  data_dir: str | None, download: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
  """All images uint8 `[n, 32, 32, 3]`, their labels `[n]`, names of classes."""
  builder = tfds_builders.builder_of(
    "cifar100:3.*.*", data_dir, download=download
  )
  splits = builder.as_dataset()
  parts = [
    (example["image"], example["label"])
    for split in ("train", "test")
    for example in splits[split].batch(1000).as_numpy_iterator()
  ]
  images, labels = map(np.concatenate, zip(*parts, strict=True))
  images.flags.writeable = False
  return images, labels, builder.info.features["label"].names
