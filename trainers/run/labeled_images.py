"""Labeled images of all splits of a data set, as pre-training reads them.

`SOURCES` lists the data sets. tfmeta is imported only when images are needed,
so that `--help` does not wait for TensorFlow.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import random
from typing import Any
from typing import NamedTuple

import numpy as np

from trainers.run import data_sets

# Classes that must be left to be told apart.
_FEWEST = 2


class Images(NamedTuple):
  """Images of a split.

  Attributes:
    values: Uint8 array `[n, h, w, c]`.
    classes: Names or numbers of their classes, `[n]`.
  """

  values: np.ndarray
  classes: np.ndarray


@dataclasses.dataclass(frozen=True)
class Source:
  """A data set as pre-training uses it.

  Attributes:
    read: Function of the configuration and the split that returns `Images`.
    flags: Names of the flags that belong to data sets and that this one reads.
    mirrored: Whether the mirror image of an image shows the same class.
  """

  read: Callable[[Any, str], Images]
  flags: tuple[str, ...] = ()
  mirrored: bool = False


def check_used(name: str, given: Mapping[str, Any]) -> None:
  """Raises a `ValueError` if a data set does not use one of the given flags.

  Args:
    name: Name of the data set.
    given: Values of the flags that belong to data sets and that are given.
  """
  for flag, value in given.items():
    if flag not in SOURCES[name].flags:
      raise ValueError(
        f"`{flag}` would have no effect here: the data set {name!r} does not "
        f"use it. Leave it out. Received: --{flag}={value}"
      )


def read(config: Any) -> dict[str, Images]:
  """Returns the images of all splits.

  Args:
    config: The configuration of the run. If its `held_out_classes` is above 0,
      so many training classes are the split "validation", and the validation
      classes of the data set are the split "test". The training classes that
      are left out are chosen at random, always in the same way.

  Raises:
    ValueError: If the data set is unknown or has no test classes, or if too few
      training classes are left.
    FileNotFoundError: If there are no images.
  """
  if config.dataset not in SOURCES:
    raise ValueError(
      f"`dataset` must be one of {', '.join(SOURCES)}. "
      f"Received: dataset={config.dataset!r}"
    )
  read_split = SOURCES[config.dataset].read
  train, validation = (read_split(config, s) for s in ("train", "validation"))
  if not config.held_out_classes:
    return {
      "train": train,
      "validation": validation,
      "test": _read_test(config, read_split),
    }
  is_held_out = np.isin(train.classes, held_out_classes(train.classes, config))
  return {
    "train": _chosen(train, ~is_held_out),
    "validation": _chosen(train, is_held_out),
    "test": validation,
  }


def held_out_classes(classes: np.ndarray, config: Any) -> list[Any]:
  """Returns the training classes that pre-training leaves out.

  Those of a smaller `held_out_classes` are among those of a larger one.
  """
  names, count = np.unique(classes).tolist(), config.held_out_classes
  if count > len(names) - _FEWEST:
    raise ValueError(
      f"`held_out_classes` must leave at least {_FEWEST} of the {len(names)} "
      f"training classes. Received: held_out_classes={count}"
    )
  random.Random(0).shuffle(names)
  return sorted(names[:count])


def _read_test(config: Any, read_split: Callable[[Any, str], Images]) -> Images:
  try:
    return read_split(config, "test")
  except FileNotFoundError as error:
    raise ValueError(
      f"The images of {config.dataset} have no test classes, so "
      "`held_out_classes` must be above 0: so many training classes are then "
      "for validation, and the validation classes for tests. "
      "Received: held_out_classes=0"
    ) from error


def _chosen(images: Images, chosen: np.ndarray) -> Images:
  return Images(*(values[chosen] for values in images))


def _drawings(config: Any, split: str) -> Images:
  options = {
    flag: getattr(config, flag)
    for flag in SOURCES[config.dataset].flags
    if getattr(config, flag) is not None
  }
  images = data_sets.images_by_class(config.dataset, split, **options)
  classes, count = images.shape[:2]
  return Images(
    images.reshape(-1, *images.shape[2:]), np.repeat(np.arange(classes), count)
  )


def _mini_imagenet(config: Any, split: str) -> Images:
  import tfmeta  # tfmeta loads TensorFlow, and flags are read before that.

  size = {} if config.size is None else {"size": config.size}
  return Images(
    *tfmeta.data.mini_imagenet_images(
      split, data_dir=config.data_dir, manual_dir=config.manual_dir, **size
    )
  )


SOURCES = {
  "glyphs": Source(_drawings),
  "omniglot": Source(_drawings, flags=("data_dir", "size")),
  "mini_imagenet": Source(
    _mini_imagenet,
    flags=("data_dir", "manual_dir", "size", "held_out_classes"),
    mirrored=True,
  ),
}
