"""Divides a folder of class folders into training, validation and test."""

import os
import pathlib
import random
import tempfile

from trainers.run import strategies

SPLITS = ("train", "validation", "test")

_SHARE = 0.2  # Of the classes, to validate on; as many again to test on.


def folder_of(settings, split) -> pathlib.Path:
  """The folder with the class folders of a split.

  It is the one of that name in the data set, if there is one. Otherwise the
  classes are divided at random, always in the same way, and the workdir gets a
  folder `classes` with links that shows which went where.
  """
  path = pathlib.Path(settings.dataset).expanduser()
  if all((path / name).is_dir() for name in SPLITS):
    return path / split
  folder = _links(settings) / "classes" / split
  folder.mkdir(parents=True, exist_ok=True)
  wanted = {name: path / name for name in _divide(path, settings.ways)[split]}
  for link in folder.iterdir():  # From a start with other settings.
    if link.resolve() != wanted.get(link.name, path).resolve():
      link.unlink()
  for name, target in wanted.items():
    if not (folder / name).is_symlink():
      (folder / name).symlink_to(target.resolve())
  return folder


def _links(settings):
  """Where links may be made: of several workers, one writes to the workdir."""
  if strategies.is_chief(settings):
    return pathlib.Path(settings.workdir)
  return pathlib.Path(tempfile.gettempdir()) / f"tfmeta_{os.getpid()}"


def _divide(path, ways):
  if any((path / name).is_dir() for name in SPLITS):
    raise ValueError(
      "`dataset` must have all of the folders train, validation and test, or "
      f"none of them. Received: dataset={str(path)!r}, which has "
      f"{', '.join(n for n in SPLITS if (path / n).is_dir())}"
    )
  names = sorted(
    p.name for p in path.iterdir() if p.is_dir() and p.name[0] != "."
  )
  held_back = max(ways, round(_SHARE * len(names)))
  if len(names) < 2 * held_back + ways:
    raise ValueError(
      f"`dataset` must have at least {3 * ways} class folders, {ways} each to "
      "train, validate and test on. "
      f"Received: dataset={str(path)!r}, which has {len(names)}"
    )
  random.Random(0).shuffle(names)
  return {
    "test": names[:held_back],
    "validation": names[held_back : 2 * held_back],
    "train": names[2 * held_back :],
  }
