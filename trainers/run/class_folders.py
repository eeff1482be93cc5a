"""Divides a folder of class folders into training, validation and test."""

import os
import pathlib
import random
import tempfile

from trainers.run import paths
from trainers.run import workers

SPLITS = ("train", "validation", "test")

# Names that folders of a split may have.
_NAMES = {
  "train": ("train",),
  "validation": ("validation", "val", "valid"),
  "test": ("test",),
}

# Share of the classes for validation, and for test.
_SHARE = 0.2


def folder_of(config, split: str) -> pathlib.Path:
  """Returns the folder with the class folders of a split.

  If the data set has folders `train`, `validation` (or `val`) and `test`, these
  are the splits. Without `test`, one half of the classes of `validation` is for
  validation and the other for tests. Without any of the three, all classes are
  divided. Classes are divided at random, always in the same way, and links in a
  folder `classes` of the workdir show the division.

  Raises:
    ValueError: If the data set has only some of the folders, or too few
      classes.
  """
  path = pathlib.Path(paths.local("dataset", config.dataset))
  found = _split_folders(path)
  two = [*found] == ["train", "validation"]
  if len(found) == len(SPLITS) or (two and split == "train"):
    return found[split]
  folder = _links(config) / "classes" / split
  folder.mkdir(parents=True, exist_ok=True)
  classes = _divide(path, found, config.ways)[split]
  wanted = {path.name: path for path in classes}
  # An earlier start with another configuration may have left other links.
  for link in folder.iterdir():
    if link.resolve() != wanted.get(link.name, path).resolve():
      link.unlink()
  for name, target in wanted.items():
    if not (folder / name).is_symlink():
      (folder / name).symlink_to(target.resolve())
  return folder


def _links(config) -> pathlib.Path:
  """Returns a folder for links; only one of several workers may use workdir."""
  if workers.is_chief(config):
    return pathlib.Path(config.workdir)
  return pathlib.Path(tempfile.gettempdir()) / f"tfmeta_{os.getpid()}"


def _split_folders(path: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the folders of the splits that a data set has, by the split."""
  found = {}
  for split, names in _NAMES.items():
    folders = [path / name for name in names if (path / name).is_dir()]
    if folders:
      found[split] = folders[0]
  return found


def _divide(
  path: pathlib.Path, found: dict[str, pathlib.Path], ways: int
) -> dict[str, list[pathlib.Path]]:
  """Returns the class folders of each split that has no folder of its own."""
  if [*found] == ["train", "validation"]:
    classes = _shuffled(found["validation"], 2 * ways, "validation and test")
    half = len(classes) // 2
    return {"validation": classes[:half], "test": classes[half:]}
  if found:
    raise ValueError(
      "`dataset` must have all of the folders train, validation and test, the "
      "first two (validation may be called val), or none of them. "
      f"Received: dataset={str(path)!r}, which has {', '.join(found)}"
    )
  classes = _shuffled(path, 3 * ways, "training, validation and test")
  # A task needs `ways` classes, in every split.
  held_back = max(ways, round(_SHARE * len(classes)))
  return {
    "test": classes[:held_back],
    "validation": classes[held_back : 2 * held_back],
    "train": classes[2 * held_back :],
  }


def _shuffled(folder, least: int, purpose: str) -> list[pathlib.Path]:
  """Returns class folders in random order, which is always the same."""
  classes = sorted(
    path
    for path in folder.iterdir()
    if path.is_dir() and not path.name.startswith(".")
  )
  if len(classes) < least:
    raise ValueError(
      f"`dataset` must have at least {least} class folders for {purpose}. "
      f"Received: {str(folder)!r}, which has {len(classes)}"
    )
  random.Random(0).shuffle(classes)
  return classes
