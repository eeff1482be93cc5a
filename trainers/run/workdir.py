"""The folder of a run: one run, one configuration, one process at a time."""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
import pathlib

try:
  import fcntl
except ImportError:  # Not on Windows, where nothing guards the folder then.
  fcntl = None

FLAGS = "flags.json"
CHECKPOINTS = "checkpoints"
RESULT = "result.json"
LEARNER = "best.keras"
LAST_GOOD = "last_good.keras"
SAVED_MODEL = "saved_model"

_LOCK = "lock"
# What may change between two starts of one run: none touches the weights.
_FREE = (
  "workdir",
  "data_dir",
  "manual_dir",
  "eval_tasks",
  "eval_split",
  "tpu",
  "startup_seconds",
)


@contextlib.contextmanager
def claim(settings) -> Iterator[pathlib.Path]:
  """Makes the folder of a run, or goes on in it; yields its path.

  If the run is refused before it has written anything, the folder is left
  empty.

  Raises:
    ValueError: If another run is in it: of another process at this moment, or
      with other settings, which the message names. (Until a run has finished
      an epoch, its settings may be put right.)
  """
  folder = pathlib.Path(settings.workdir)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except FileExistsError:
    raise ValueError(
      "`workdir` must be a folder. "
      f"Received: workdir={settings.workdir!r}, which is a file"
    ) from None
  with open(folder / _LOCK, "w") as lock:
    _lock(lock, folder)
    _check_same(folder, settings)
    fresh = not (folder / FLAGS).exists()
    write_json(folder / FLAGS, dataclasses.asdict(settings))
    try:
      yield folder
    except (ValueError, OSError):
      if fresh:
        _leave_no_trace(folder)
      raise


def read_settings(folder) -> dict:
  """The settings that the run in `folder` was started with.

  Raises:
    ValueError: If there is no such run.
  """
  path = pathlib.Path(folder) / FLAGS
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise ValueError(
      f"There is no run in this folder, as it has no {FLAGS}. "
      f"Received: workdir={os.fspath(folder)!r}"
    ) from None
  except json.JSONDecodeError as error:
    raise ValueError(f"The file {path} is damaged: {error}.") from error


def write_json(path, value) -> None:
  """Writes `value` whole, or leaves what was there."""
  with replacing(path) as temporary:
    text = json.dumps(value, indent=2, allow_nan=False)
    temporary.write_text(text + "\n")


@contextlib.contextmanager
def replacing(path) -> Iterator[pathlib.Path]:
  """Yields a path to write to, which then takes the place of `path`."""
  path = pathlib.Path(path)
  temporary = path.with_name(f"unfinished_{path.name}")
  try:
    yield temporary
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise


def _lock(file, folder):
  if fcntl is None:
    return
  try:
    # The system lets go of it when the process ends, in whatever way.
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    raise ValueError(
      "Another process is at work in this workdir. "
      f"Received: workdir={os.fspath(folder)!r}"
    ) from None


def _leave_no_trace(folder):
  """Clears a folder in which a refused run has done nothing yet."""
  if {path.name for path in folder.iterdir()} == {FLAGS, _LOCK}:
    (folder / FLAGS).unlink()
    (folder / _LOCK).unlink()


def _check_same(folder, settings):
  if not (folder / FLAGS).exists():
    names = sorted(path.name for path in folder.iterdir())
    others = [n for n in names if n != _LOCK and not n.startswith("unfinished")]
    if others:
      raise ValueError(
        f"This folder holds files of something else, such as {others[0]!r}; "
        "choose another --workdir. "
        f"Received: workdir={os.fspath(folder)!r}"
      )
    return
  there = _flat({**_defaults(settings), **read_settings(folder)})
  here = _flat(json.loads(json.dumps(dataclasses.asdict(settings))))
  differing = [
    f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
    for name in sorted({*there, *here})
    if name not in _FREE and there.get(name) != here.get(name)
  ]
  if differing and _has_work(folder):
    raise ValueError(
      f"This workdir belongs to another run: {'; '.join(differing)}. Choose "
      "another --workdir, or remove this one. "
      f"Received: workdir={os.fspath(folder)!r}"
    )


def _defaults(settings):
  """Of options that the run may be older than."""
  fields = dataclasses.fields(settings)
  return {
    field.name: field.default
    for field in fields
    if field.default is not dataclasses.MISSING
  }


def _has_work(folder):
  """Whether anything would be lost: an epoch has been finished."""
  return any(folder.glob(f"{CHECKPOINTS}/epoch-*")) or any(
    (folder / name).exists() for name in (LEARNER, RESULT)
  )


def _flat(settings):
  own = settings.pop("own", {})
  return {**settings, **own}
