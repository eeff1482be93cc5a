"""Which classes of a data set belong to which split, as published."""

import functools
import importlib.resources
import json
from typing import Any

SPLITS = ("train", "validation", "test")


@functools.cache
def read(name: str) -> dict[str, Any]:
  """The lists of a data set, such as `"mini_imagenet"`, by split."""
  files = importlib.resources.files("tfmeta.data") / "splits"
  lists = json.loads((files / f"{name}.json").read_text("utf-8"))
  return {key: value for key, value in lists.items() if key != "_about"}
