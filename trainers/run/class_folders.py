"""Divides a folder of class folders into training, validation and test."""

import os
import pathlib
import random
import tempfile

from trainers.run import workers

SPLITS = ("train", "validation", "test")

# Share of the classes for validation, and for test.
_SHARE = 0.2


def folder_of(config, split: str) -> pathlib.Path:
  """Returns the folder with the class folders of a split.

  If the data set has folders `train`, `validation` and `test`, these are the
  splits. Otherwise the classes are divided at random, always in the same way,
  and links in a folder `classes` of the workdir show the division.

  Raises:
    ValueError: If the data set has only some of the three folders, or too few
      classes.
  """
  path = pathlib.Path(config.dataset).expanduser()
  if all((path / name).is_dir() for name in SPLITS):
    return path / split
  folder = _links(config) / "classes" / split
  folder.mkdir(parents=True, exist_ok=True)
  wanted = {name: path / name for name in _divide(path, config.ways)[split]}
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


def _divide(path, ways) -> dict[str, list[str]]:
  """Returns the names of the class folders of each split."""
  found = [name for name in SPLITS if (path / name).is_dir()]
  if found:
    raise ValueError(
      "`dataset` must have all of the folders train, validation and test, or "
      f"none of them. Received: dataset={str(path)!r}, which has "
      f"{', '.join(found)}"
    )
  names = sorted(
    p.name for p in path.iterdir() if p.is_dir() and p.name[0] != "."
  )
  # A task needs `ways` classes, in every split.
  held_back = max(ways, round(_SHARE * len(names)))
  if len(names) < 2 * held_back + ways:
    raise ValueError(
      f"`dataset` must have at least {3 * ways} class folders: {ways} each for "
      "training, validation and test. "
      f"Received: dataset={str(path)!r}, which has {len(names)}"
    )
  random.Random(0).shuffle(names)
  return {
    "test": names[:held_back],
    "validation": names[held_back : 2 * held_back],
    "train": names[2 * held_back :],
  }
