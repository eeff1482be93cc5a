"""miniImageNet and tieredImageNet, from files that people have."""

import os
import pathlib
from typing import Any

import tensorflow as tf

from tfmeta.data import arrays
from tfmeta.data import rows
from tfmeta.data import sampler
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
  memory_limit: int = rows.MEMORY_LIMIT,
) -> tf.data.Dataset:
  """Draws tasks of miniImageNet, without end: 64, 16 and 20 classes [1, 2].

  Nothing is downloaded, as ImageNet's images are for non-commercial research
  and may not be handed on. The first call prepares the splits that `manual_dir`
  has, at 84x84, in `data_dir`; later ones need `data_dir` alone, and map it
  into memory.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with ways.
    seed: Integer in `[0, 2**63)`. Default 0.
    start: Index of the first task. Default 0. Task i depends on the order of
      the prepared images, the seed and i alone.
    data_dir: Folder of TFDS data sets, the one that holds or shall hold
      `mini_imagenet/`. `None` (default): TFDS's own choice, which is the
      environment variable TFDS_DATA_DIR, else `~/tensorflow_datasets`.
    manual_dir: Folder with the files that people have: for each split a folder
      or an archive (.tar) with a folder for each class; or a csv file of Ravi
      and Larochelle beside the folder `images`; or one of the pickles in use,
      which the error lists that an empty folder brings. Classes that are named
      by WordNet (n01532829) must be those of their split. `None` (default):
      TFDS's own choice, `downloads/manual` in `data_dir`.
    memory_limit: Bytes; default 2**30. A split that needs more (38,400 training
      images need 0.8 GB) is read where it is mapped, example by example.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, 84, 84,
    3], "support_y": [S], "query_x": [Q, 84, 84, 3]}, query_y [Q])`, x float32
    in [0, 1], y int32; batch it.

  Raises:
    FileNotFoundError: If the split is not prepared, and `manual_dir` lacks it.
    TypeError: If `spec` is no `TaskSpec`.
    ValueError: If the split is unknown, a file is of another kind or holds
      classes of another split, or `spec` asks for more classes or more examples
      than there are.

  References:
    [1] O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra.
        Matching Networks for One Shot Learning. NeurIPS 2016.
        https://arxiv.org/abs/1606.04080
    [2] S. Ravi, H. Larochelle. Optimization as a Model for Few-Shot Learning.
        ICLR 2017. https://openreview.net/forum?id=rJY0-Kcll
  """
  found = _split("mini_imagenet", split, spec, data_dir, manual_dir)
  options = {"seed": seed, "start": start, "memory_limit": memory_limit}
  return arrays.tasks_from_arrays(*found, spec, **options)


def tiered_imagenet(
  split: str,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  data_dir: str | os.PathLike[str] | None = None,
  manual_dir: str | os.PathLike[str] | None = None,
  memory_limit: int = rows.MEMORY_LIMIT,
) -> tf.data.Dataset:
  """Draws tasks of tieredImageNet, without end: 351, 97 and 160 classes [1].

  As `mini_imagenet`; the training images need 9.5 GB of disk, and as much again
  for what TFDS keeps.

  Args:
    split: As for `mini_imagenet`, like the others.
    spec: As there.
    seed: As there.
    start: As there.
    data_dir: As there, of `tiered_imagenet/`.
    manual_dir: As there; also the npz or pickle files of the authors.
    memory_limit: As there.

  Returns:
    As `mini_imagenet`.

  Raises:
    FileNotFoundError: As there, like the others.
    TypeError: As there.
    ValueError: As there.

  References:
    [1] M. Ren, E. Triantafillou, S. Ravi, J. Snell, K. Swersky, J. Tenenbaum,
        H. Larochelle, R. Zemel. Meta-Learning for Semi-Supervised Few-Shot
        Classification. ICLR 2018. https://arxiv.org/abs/1803.00676
  """
  found = _split("tiered_imagenet", split, spec, data_dir, manual_dir)
  options = {"seed": seed, "start": start, "memory_limit": memory_limit}
  return arrays.tasks_from_arrays(*found, spec, **options)


def _split(name, split, spec, data_dir, manual_dir):
  """Images and the names of their classes."""
  sampler.check_choice("split", split, splits.SPLITS)
  task.check_has_ways(spec)
  # Slow to import, as is TFDS.
  from tfmeta.data.imagenet import builders

  builder = _prepared(name, data_dir, manual_dir)
  if split not in builder.info.splits:
    raise FileNotFoundError(
      f"The prepared {name} has no split {split!r}, as the folder it was made "
      f"from had none. To prepare it again, remove {builder.data_path} and "
      "give a folder that has all splits as `manual_dir`. "
      f"Received: splits {', '.join(builder.info.splits)}"
    )
  path = os.fspath(builder.data_path)
  return mapped_images.mapped(path, split, builders.SHAPE)


def _prepared(name, data_dir, manual_dir) -> Any:
  import tensorflow_datasets as tfds

  builder = tfds_builders.opened(name, data_dir)
  if builder.is_prepared():
    return builder
  root = builder.data_path.parent.parent
  folder = pathlib.Path(manual_dir or root / "downloads" / "manual")
  folder = folder.expanduser()
  if not folder.is_dir() or not any(folder.iterdir()):
    raise FileNotFoundError(
      f"{name} is not in {builder.data_path}, and there is nothing in {folder} "
      f"to prepare it from. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    )
  config = tfds.download.DownloadConfig(manual_dir=folder)
  return tfds_builders.prepare(builder, name, data_dir, download_config=config)
