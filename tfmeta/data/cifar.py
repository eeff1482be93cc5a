"""CIFAR-FS and FC100: the classes of CIFAR-100, divided for few-shot tasks."""

import functools
import os

import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta.data import arrays
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
  """Samples tasks of CIFAR-FS: 64 training, 16 validation, 20 test classes [1].

  The images come from TFDS (`cifar100`, version 3). The splits divide the
  classes, so each class has all its 600 images, from both of CIFAR-100's own
  splits. Each process reads the images once.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with `ways` set.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the data, the seed and i.
    data_dir: Folder of TFDS data sets that holds `cifar100/`, or in which TFDS
      creates it. Defaults to the environment variable TFDS_DATA_DIR if it is
      set, else to `~/tensorflow_datasets`.
    download: Whether TFDS may download and prepare missing data. Defaults to
      `True`.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, 32, 32,
    3], "support_y": [S], "query_x": [Q, 32, 32, 3]}, query_y [Q])`; x is
    float32 in [0, 1], y is int32. Batch the dataset before use.

  Raises:
    FileNotFoundError: If the data is missing and cannot be downloaded.
    ImportError: If TFDS is not installed.
    TypeError: If `spec` is not a `TaskSpec`.
    ValueError: If `split` is unknown, or if `spec` asks for more classes or
      more examples than there are.

  References:
    [1] L. Bertinetto, J. Henriques, P. Torr, A. Vedaldi. Meta-learning with
        differentiable closed-form solvers. ICLR 2019.
        https://arxiv.org/abs/1805.08136
  """
  x, y = _read_split("cifar_fs", split, spec, data_dir, download)
  return arrays.tasks_from_arrays(x, y, spec, seed=seed, start=start)


def fc100(
  split: str,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  data_dir: str | os.PathLike[str] | None = None,
  download: bool = True,
) -> tf.data.Dataset:
  """Samples tasks of FC100: 60 training, 20 validation and 20 test classes [1].

  No superclass of CIFAR-100 has classes in two splits, which makes FC100 harder
  than CIFAR-FS. The images come from TFDS (`cifar100`, version 3); each class
  has 600. Each process reads the images once.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with `ways` set.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the data, the seed and i.
    data_dir: Folder of TFDS data sets that holds `cifar100/`, or in which TFDS
      creates it. Defaults to the environment variable TFDS_DATA_DIR if it is
      set, else to `~/tensorflow_datasets`.
    download: Whether TFDS may download and prepare missing data. Defaults to
      `True`.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, 32, 32,
    3], "support_y": [S], "query_x": [Q, 32, 32, 3]}, query_y [Q])`; x is
    float32 in [0, 1], y is int32. Batch the dataset before use.

  Raises:
    FileNotFoundError: If the data is missing and cannot be downloaded.
    ImportError: If TFDS is not installed.
    TypeError: If `spec` is not a `TaskSpec`.
    ValueError: If `split` is unknown, or if `spec` asks for more classes or
      more examples than there are.

  References:
    [1] B. Oreshkin, P. Rodriguez, A. Lacoste. TADAM: Task dependent adaptive
        metric for improved few-shot learning. NeurIPS 2018.
        https://arxiv.org/abs/1805.10123
  """
  x, y = _read_split("fc100", split, spec, data_dir, download)
  return arrays.tasks_from_arrays(x, y, spec, seed=seed, start=start)


def _read_split(
  name: str,
  split: str,
  spec: task.TaskSpec,
  data_dir: str | os.PathLike[str] | None,
  download: bool,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the images and labels of a split of "cifar_fs" or "fc100"."""
  arguments.check_choice("split", split, splits.SPLITS)
  task.check_has_ways(spec)
  folder = tfds_builders.expand_folder(data_dir)
  images, labels, names = _cifar100(folder, download)
  classes = [names.index(n) for n in splits.read_classes(name)[split]]
  examples = np.flatnonzero(np.isin(labels, classes))
  return images[examples], labels[examples]


@functools.lru_cache(maxsize=1)
def _cifar100(
  data_dir: str | None, download: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
  """Returns all images, their labels and the names of the classes.

  Images are uint8 `[n, 32, 32, 3]`, labels are integers `[n]`.
  """
  builder = tfds_builders.prepared_builder(
    "cifar100:3.*.*", data_dir, download=download
  )
  datasets = builder.as_dataset()
  parts = [
    (batch["image"], batch["label"])
    for part in ("train", "test")
    for batch in datasets[part].batch(1000).as_numpy_iterator()
  ]
  images, labels = map(np.concatenate, zip(*parts, strict=True))
  # The cache hands the same array to every caller.
  images.flags.writeable = False
  return images, labels, builder.info.features["label"].names
