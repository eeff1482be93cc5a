"""The splits of a data set, and the published lists of their classes."""

import functools
import importlib.resources
import json
from typing import Any

from tfmeta import arguments

SPLITS = ("train", "validation", "test")


def index_of(split: str) -> int:
  """Returns the position of `split` in `SPLITS`.

  Data sets that sample all their splits from one distribution use it as a
  salt, so that two splits never share a random number.

  Raises:
    ValueError: If `split` is not in `SPLITS`.
  """
  return SPLITS.index(arguments.check_choice("split", split, SPLITS))


@functools.cache
def read_classes(name: str) -> dict[str, Any]:
  """Returns the classes of each split of a data set.

  Args:
    name: "cifar_fs", "fc100", "mini_imagenet", "tiered_imagenet" or "omniglot".

  Returns:
    A dict from split to list of classes. Omniglot has such a dict for each of
    "vinyals" and "lake".
  """
  folder = importlib.resources.files("tfmeta.data") / "splits"
  content = json.loads((folder / f"{name}.json").read_text("utf-8"))
  return {key: value for key, value in content.items() if key != "_about"}
