"""The folder of a run: one run, one configuration, one process at a time."""

from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import json
import math
import os
import pathlib
import socket
from typing import Any

try:
  import fcntl
except ImportError:  # On Windows, nothing guards the folder.
  fcntl = None

from tfmeta import whole_files

FLAGS = "flags.json"
_COPY = "flags_copy.json"
CHECKPOINTS = "checkpoints"
RESULT = "result.json"
PRETRAINED = "pretrain.json"
LEARNER = "best.keras"
LAST_GOOD = "last_good.keras"
SAVED_MODEL = "saved_model"

_LOCK = "lock"

# Values that may change between two starts of a run, because the weights do not
# depend on them.
_FREE = (
  "workdir",
  "data_dir",
  "manual_dir",
  "eval_tasks",
  "eval_split",
  "eval_steps",
  "export_normalization",
  "tpu",
  "startup_seconds",
)


@contextlib.contextmanager
def claim(config) -> Iterator[pathlib.Path]:
  """Makes the folder of a run, or enters it again, and yields its path.

  If the run fails before it has written anything, the folder is left empty.

  Raises:
    ValueError: If another process is using the folder, or if it holds a run
      with another configuration; the message names the differences. Until a run
      has finished an epoch, its configuration may change.
  """
  folder = pathlib.Path(config.workdir)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except FileExistsError:
    raise ValueError(
      "`workdir` must be a folder. "
      f"Received: workdir={config.workdir!r}, which is a file"
    ) from None
  with locked(folder):
    _check_same(folder, config)
    fresh = not _has_flags(folder)
    for name in (FLAGS, _COPY):
      write_json(folder / name, dataclasses.asdict(config))
    try:
      yield folder
    except (ValueError, OSError, ImportError):
      if fresh:
        _clear(folder)
      raise


@contextlib.contextmanager
def locked(folder) -> Iterator[None]:
  """Keeps other processes away from a folder until the context ends.

  The file of the lock says which process holds it. The system releases the lock
  when the process ends, even if it is killed.

  Raises:
    ValueError: If another process holds the lock; the message says which.
  """
  # Opening the file must not clear it.
  with open(pathlib.Path(folder) / _LOCK, "a+") as file:
    if not _try_lock(file):
      file.seek(0)
      holder = file.read().strip() or "unknown"
      raise ValueError(
        f"Another process is using this workdir: {holder}. "
        f"Received: workdir={os.fspath(folder)!r}"
      )
    file.truncate(0)
    now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    host = socket.gethostname()
    file.write(f"process {os.getpid()} on {host} since {now}\n")
    file.flush()
    yield


def read_configuration(folder) -> dict[str, Any]:
  """Returns the fields of the `Configuration` of the run in `folder`.

  A copy serves if the file is lost or damaged.

  Raises:
    ValueError: If there is no run, or if both files are damaged.
  """
  path, copy = (pathlib.Path(folder) / name for name in (FLAGS, _COPY))
  try:
    return _read(path)
  except ValueError:
    if not copy.exists():
      raise
    return _read(copy)


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    values = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise ValueError(
      f"This folder holds no run, because it has no {FLAGS}. "
      f"Received: workdir={os.fspath(path.parent)!r}"
    ) from None
  except (ValueError, RecursionError) as error:  # Not UTF-8, or not JSON.
    raise _damaged(path, str(error)) from error
  if not isinstance(values, dict):
    raise _damaged(path, f"a {type(values).__name__} in place of an object")
  if not isinstance(values.get("own", {}), dict):
    raise _damaged(path, "`own` is no object")
  return _brought_up_to_date(values)


def _damaged(path: pathlib.Path, reason: str) -> ValueError:
  return ValueError(
    f"The file {path} is damaged: it must hold the flags of the run, as "
    f"trainers write them. Received: {reason[:200]}"
  )


def write_json(path, value) -> list[str]:
  """Writes all of `value`, or leaves the file as it was.

  Returns:
    The names of the figures that are not finite. JSON has no such numbers, so
    they are written as null.
  """
  found = []
  value = _finite(value, "", found)
  with whole_files.replacing(path) as temporary:
    text = json.dumps(value, indent=2, allow_nan=False)
    temporary.write_text(text + "\n")
  return found


def _finite(value: Any, name: str, found: list[str]) -> Any:
  """Returns `value` with `None` for other numbers, and appends their names."""
  if isinstance(value, dict):
    return {k: _finite(v, f"{name}.{k}", found) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(v, f"{name}[{i}]", found) for i, v in enumerate(value)]
  if isinstance(value, float) and not math.isfinite(value):
    found.append(name.removeprefix("."))
    return None
  return value


def _brought_up_to_date(values: dict[str, Any]) -> dict[str, Any]:
  """Returns the values of a run that an earlier version may have written.

  There, `--normalization=none` built a network without normalization, which is
  now `--network_normalization=none`, and the variables of PLATIPUS's rates were
  not scaled, as they are not with an initial rate of 2**-7.
  """
  if "initial_shift_rate" in values.get("own", {}):
    own = dict(values["own"])
    del own["initial_shift_rate"]
    own |= {"initial_prior_rate": 2**-7, "initial_posterior_rate": 2**-7}
    values = {**values, "own": own}
  if "network_normalization" in values or values.get("normalization") != "none":
    return values
  return {**values, "normalization": None, "network_normalization": "none"}


def _try_lock(file) -> bool:
  if fcntl is None:
    return True
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    return False
  return True


def _clear(folder) -> None:
  """Clears a folder in which a failed run has written nothing of its own."""
  names = {FLAGS, _COPY, _LOCK}
  if {path.name for path in folder.iterdir()} == names:
    for name in names:
      (folder / name).unlink()


def _check_same(folder, config) -> None:
  if not _has_flags(folder):
    _check_empty(folder)
    return
  there = _flat({**_defaults(config), **read_configuration(folder)})
  # Through JSON, in which tuples are lists.
  here = _flat(json.loads(json.dumps(dataclasses.asdict(config))))
  differences = [
    f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
    for name in sorted({*there, *here})
    if name not in _FREE and there.get(name) != here.get(name)
  ]
  if differences and _has_work(folder):
    raise ValueError(
      f"This workdir belongs to another run: {'; '.join(differences)}. Choose "
      "another --workdir, or remove this one. "
      f"Received: workdir={os.fspath(folder)!r}"
    )


def _has_flags(folder) -> bool:
  return any((folder / name).exists() for name in (FLAGS, _COPY))


def _check_empty(folder) -> None:
  names = sorted(path.name for path in folder.iterdir())
  others = [
    n for n in names if n != _LOCK and not n.startswith(whole_files.UNFINISHED)
  ]
  if others:
    raise ValueError(
      f"This folder holds other files, such as {others[0]!r}; choose another "
      f"--workdir. Received: workdir={os.fspath(folder)!r}"
    )


def _defaults(config) -> dict[str, Any]:
  """Returns the defaults of fields that an older run does not have."""
  return {
    field.name: field.default
    for field in dataclasses.fields(config)
    if field.default is not dataclasses.MISSING
  }


def _has_work(folder) -> bool:
  """Returns whether an epoch has been finished, which would be lost."""
  return any(folder.glob(f"{CHECKPOINTS}/epoch-*")) or any(
    (folder / name).exists() for name in (LEARNER, RESULT, PRETRAINED)
  )


def _flat(values: dict[str, Any]) -> dict[str, Any]:
  own = values.pop("own", {})
  return {**values, **own}
