"""Tasks and images of miniImageNet and tieredImageNet."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta import packages
from tfmeta.data import arrays
from tfmeta.data import image_files
from tfmeta.data import splits
from tfmeta.data import task
from tfmeta.data import tfds_builders
from tfmeta.data.imagenet import mapped_images


def mini_imagenet(
  split: str,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  data_dir: str | os.PathLike[str] | None = None,
  manual_dir: str | os.PathLike[str] | None = None,
  memory_limit: int = arrays.MEMORY_LIMIT,
) -> tf.data.Dataset:
  """Samples tasks of miniImageNet: 64, 16 and 20 classes [1, 2].

  Nothing is downloaded, because ImageNet's images are for non-commercial
  research and must not be redistributed. The first call reads the splits in
  `manual_dir`, scales the images to 84x84 and stores them in `data_dir`. Later
  calls need `data_dir` only, and map the stored images into memory.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with `ways` set.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the order of the stored images, the seed and i.
    data_dir: Folder of TFDS data sets that holds `mini_imagenet/`, or in which
      TFDS creates it. Defaults to the environment variable TFDS_DATA_DIR if it
      is set, else to `~/tensorflow_datasets`.
    manual_dir: Folder with the files to read. For each split it holds a folder
      or an archive (.tar) with one folder per class; or a csv file of Ravi and
      Larochelle beside the folder `images`; or one of the pickle files that are
      in use. The error for an empty folder lists them. Classes with WordNet
      names (n01532829) must belong to their split. Defaults to the folder
      `downloads/manual` in `data_dir`, as in TFDS.
    memory_limit: Number of bytes. A larger split is read from disk, example by
      example. The 38,400 training images need 0.8 GB. Defaults to 2**30.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, 84, 84,
    3], "support_y": [S], "query_x": [Q, 84, 84, 3]}, query_y [Q])`; x is
    float32 in [0, 1], y is int32. Batch the dataset before use.

  Raises:
    FileNotFoundError: If the split is not stored and `manual_dir` does not hold
      it.
    ImportError: If TFDS is not installed.
    TypeError: If `spec` is not a `TaskSpec`.
    ValueError: If `split` is unknown, a file has another format or holds
      classes of another split, or `spec` asks for more classes or more examples
      than there are.

  References:
    [1] O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra.
        Matching Networks for One Shot Learning. NeurIPS 2016.
        https://arxiv.org/abs/1606.04080
    [2] S. Ravi, H. Larochelle. Optimization as a Model for Few-Shot Learning.
        ICLR 2017. https://openreview.net/forum?id=rJY0-Kcll
  """
  task.check_has_ways(spec)
  x, y = _read_split("mini_imagenet", split, data_dir, manual_dir)
  return arrays.tasks_from_arrays(
    x, y, spec, seed=seed, start=start, memory_limit=memory_limit
  )


def mini_imagenet_images(
  split: str,
  *,
  size: int = 84,
  data_dir: str | os.PathLike[str] | None = None,
  manual_dir: str | os.PathLike[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns all images of a split, for example to train a classifier.

  Args:
    split: "train", "validation" or "test".
    size: Integer in [1, 84], height and width in pixels. Smaller images are
      scaled down with antialiasing. Defaults to 84.
    data_dir: Folder of TFDS data sets; see `mini_imagenet`.
    manual_dir: Folder with the files to read; see `mini_imagenet`.

  Returns:
    Images, uint8 `[n, size, size, 3]`, and the names of their classes, `[n]`.
    Images of 84x84 are mapped from disk, so that they cannot be written to.

  Raises:
    FileNotFoundError: If the split is not stored and `manual_dir` does not hold
      it.
    ImportError: If TFDS is not installed.
    TypeError: If `size` is not an integer.
    ValueError: If `split` is unknown, `size` is out of range, or a file has
      another format or holds classes of another split.
  """
  size = arguments.check_integer("size", size, least=1, most=84)
  images, names = _read_split("mini_imagenet", split, data_dir, manual_dir)
  return image_files.scale_all(images, (size, size)), names


def tiered_imagenet(
  split: str,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  data_dir: str | os.PathLike[str] | None = None,
  manual_dir: str | os.PathLike[str] | None = None,
  memory_limit: int = arrays.MEMORY_LIMIT,
) -> tf.data.Dataset:
  """Samples tasks of tieredImageNet: 351, 97 and 160 classes [1].

  No superclass has classes in two splits. Nothing is downloaded. The first call
  reads the splits in `manual_dir`, scales the images to 84x84 and stores them
  in `data_dir`. Later calls need `data_dir` only, and map the stored images
  into memory. The training images need 9.5 GB of disk, and TFDS keeps another
  copy of the same size.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with `ways` set.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the order of the stored images, the seed and i.
    data_dir: Folder of TFDS data sets that holds `tiered_imagenet/`, or in
      which TFDS creates it. Defaults to the environment variable TFDS_DATA_DIR
      if it is set, else to `~/tensorflow_datasets`.
    manual_dir: Folder with the files to read: those of the authors of
      tieredImageNet (npz or pickle), or any that `mini_imagenet` accepts.
      Classes with WordNet names (n01532829) must belong to their split.
      Defaults to the folder `downloads/manual` in `data_dir`, as in TFDS.
    memory_limit: Number of bytes. A larger split is read from disk, example by
      example. Defaults to 2**30.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, 84, 84,
    3], "support_y": [S], "query_x": [Q, 84, 84, 3]}, query_y [Q])`; x is
    float32 in [0, 1], y is int32. Batch the dataset before use.

  Raises:
    FileNotFoundError: If the split is not stored and `manual_dir` does not hold
      it.
    ImportError: If TFDS is not installed.
    TypeError: If `spec` is not a `TaskSpec`.
    ValueError: If `split` is unknown, a file has another format or holds
      classes of another split, or `spec` asks for more classes or more examples
      than there are.

  References:
    [1] M. Ren, E. Triantafillou, S. Ravi, J. Snell, K. Swersky, J. Tenenbaum,
        H. Larochelle, R. Zemel. Meta-Learning for Semi-Supervised Few-Shot
        Classification. ICLR 2018. https://arxiv.org/abs/1803.00676
  """
  task.check_has_ways(spec)
  x, y = _read_split("tiered_imagenet", split, data_dir, manual_dir)
  return arrays.tasks_from_arrays(
    x, y, spec, seed=seed, start=start, memory_limit=memory_limit
  )


def _read_split(
  name: str,
  split: str,
  data_dir: str | os.PathLike[str] | None,
  manual_dir: str | os.PathLike[str] | None,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the images of a split, and the name of each image's class."""
  arguments.check_choice("split", split, splits.SPLITS)
  # Importing the builders registers them with TFDS, which takes seconds to
  # load.
  from tfmeta.data.imagenet import builders

  builder = _prepared_builder(name, data_dir, manual_dir)
  if split not in builder.info.splits:
    raise FileNotFoundError(
      f"The stored {name} has no split {split!r}, because the folder that it "
      f"was read from had none. To read it again, remove {builder.data_path} "
      "and pass a folder that holds all splits as `manual_dir`. "
      f"Received: splits {', '.join(builder.info.splits)}"
    )
  path = os.fspath(builder.data_path)
  return mapped_images.read(path, split, builders.IMAGE_SHAPE)


def _prepared_builder(
  name: str,
  data_dir: str | os.PathLike[str] | None,
  manual_dir: str | os.PathLike[str] | None,
) -> Any:
  """Returns the TFDS builder of a data set, and prepares the data if needed."""
  builder = tfds_builders.open_builder(name, data_dir)
  if builder.is_prepared():
    return builder
  root = builder.data_path.parent.parent
  folder = arguments.path(
    "manual_dir", manual_dir or root / "downloads" / "manual"
  )
  if not folder.is_dir() or not any(folder.iterdir()):
    raise FileNotFoundError(
      f"{name} is not in {builder.data_path}, and {folder} holds no files to "
      f"read it from. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    )
  config = packages.datasets().download.DownloadConfig(manual_dir=folder)
  return tfds_builders.prepare(builder, name, data_dir, download_config=config)
