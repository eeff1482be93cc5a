"""Kills runs of trainers at random moments and compares what they end with.

`tests.endurance` starts this program. It prints one JSON object a line: one for
each kill, and one for each run that was killed and then ended.
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
from typing import Any

from absl import app
from absl import flags
import numpy as np

from tests.endurance import runs

_KILLS = flags.DEFINE_integer("kills", 10, "Number of kills.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the moments.")

# What is killed, by the trainer.
VICTIMS = (
  ("maml", "process"),
  ("launch", "worker"),
  ("platipus", "process"),
  ("launch", "chief"),
  ("pretrain", "process"),
  ("launch", "both"),
  ("launch", "launcher"),
)
MOMENTS = ("any", "saving", "evaluation", "export")

# Most kills of one run before it may end.
_IN_A_ROW = 3
_PATIENCE = 600.0  # Seconds, on a machine that is busy with other things.
_ORPHANED_AFTER = 30.0  # Seconds after which a process counts as an orphan.


class _Ended(Exception):
  """The run ended before it was killed."""


def reference(name: str, folder: pathlib.Path) -> tuple[dict, float]:
  """Returns the fingerprints of an undisturbed run, and its seconds."""
  before = time.monotonic()
  finish(runs.Run(name, folder))
  return runs.fingerprints(folder), time.monotonic() - before


def finish(run: runs.Run) -> None:
  """Waits for the end of a run, which must be a success."""
  code = run.process.wait(_PATIENCE)
  if code:
    raise RuntimeError(f"exit code {code}: {run.said[-2000:]}")


def wait_for(moment: str, run: runs.Run, seconds: float, random: Any) -> None:
  """Waits until a random moment of the given kind.

  Raises:
    _Ended: If the run ends before.
  """
  start = time.time()
  if moment == "any":
    pause, happens = random.uniform(0, 0.9 * seconds), lambda: True
  elif moment == "saving":
    pause, happens = random.uniform(0, 0.003), _changes(run.folder, random)
  else:
    names = {
      "evaluation": ("best.keras", "backbone.keras"),
      "export": ("unfinished_saved_model", "embeddings"),
    }[moment]
    pause = random.uniform(0, 0.03 * seconds)

    def happens():
      return any(_is_newer(run.folder / name, start) for name in names)

  _wait(run, happens)
  end = time.monotonic() + pause
  _wait(run, lambda: time.monotonic() > end)


def _wait(run, happens) -> None:
  while not happens():
    if run.process.poll() is not None:
      raise _Ended
    time.sleep(0.0005)


def _is_newer(path, start) -> bool:
  try:
    return path.stat().st_mtime > start
  except OSError:
    return False


def _changes(folder, random) -> Any:
  """Returns a function that is true once files were written a few times."""
  seen, left = set(), int(random.integers(1, 12))

  def happens():
    nonlocal seen, left
    names = set()
    with contextlib.suppress(FileNotFoundError):
      names = set(os.listdir(folder / "checkpoints"))
    left -= bool(names - seen)
    seen = names
    return left <= 0

  return happens


def strike(run: runs.Run, victim: str) -> bool:
  """Kills a run, or some of its workers; returns whether one was alive."""
  if victim in ("process", "launcher"):
    run.process.kill()
    return run.process.wait() == -signal.SIGKILL
  workers, hit = run.workers(), False
  for number in {"worker": [1], "chief": [0], "both": [0, 1]}[victim]:
    with contextlib.suppress(KeyError, ProcessLookupError):
      os.kill(workers[number], signal.SIGKILL)
      hit = True
  return hit


def orphans(folder: pathlib.Path) -> int:
  """Returns how many processes of a run outlive it, and ends them."""
  end = time.monotonic() + _ORPHANED_AFTER
  while (found := runs.processes_of(folder)) and time.monotonic() < end:
    time.sleep(0.05)
  runs.end_all(folder)
  return len(found)


def kill_often(
  name: str, kills: list[tuple[str, str]], folder, seconds, random
) -> list[dict[str, Any]]:
  """Kills one run several times, and lets it end."""
  rows, run, before = [], None, 0
  for victim, moment in kills:
    run = run or runs.Run(name, folder)
    try:
      wait_for(moment, run, seconds, random)
    except _Ended:
      # The next kill hits a run that is only evaluated again.
      finish(run)
      run = None
      continue
    done = runs.finished_epochs(folder)
    if not strike(run, victim):
      continue
    row = {"trainer": name, "victim": victim, "moment": moment, "epochs": done}
    row["lost"] = runs.lost_epochs(run, before, done)
    # A launcher whose workers were killed goes on and starts them again.
    if run.process.returncode is not None:
      row["orphans"] = orphans(folder)
      run = None
    before = max(before, done)
    rows.append(row)
  run = run or runs.Run(name, folder)
  finish(run)
  rows.append(
    {
      "trainer": name,
      "ended": True,
      "orphans": orphans(folder),
      "lost": runs.lost_epochs(run, before, runs.finished_epochs(folder)),
    }
  )
  return rows


def _say(row) -> None:
  print(json.dumps(row), flush=True)


def main(_) -> None:
  random = np.random.default_rng(_SEED.value)
  expected: dict[str, Any] = {}
  done = turn = 0
  # Few kills shall reach all victims.
  in_a_row = max(1, min(_IN_A_ROW, _KILLS.value // len(VICTIMS)))
  with tempfile.TemporaryDirectory(prefix="tfmeta_kills_") as parent:
    while done < _KILLS.value and turn < 10 * _KILLS.value:
      name, victim = VICTIMS[turn % len(VICTIMS)]
      if name not in expected:
        expected[name] = reference(name, pathlib.Path(parent, name))
      weights, seconds = expected[name]
      count = min(in_a_row, _KILLS.value - done)
      # Only the first worker evaluates and exports.
      moments = MOMENTS[:2] if victim == "worker" else MOMENTS
      kills = [
        (victim, moments[(turn + i) % len(moments)]) for i in range(count)
      ]
      folder = pathlib.Path(parent, f"{name}_{turn}")
      *rows, end = kill_often(name, kills, folder, seconds, random)
      for row in rows:
        _say(row)
      end["differences"] = runs.differences(
        weights, runs.fingerprints(folder), folder
      )
      log = folder.with_suffix(".log").read_text(errors="replace")
      end["tracebacks"] = log.count("Traceback (most recent call last)")
      _say(end)
      done, turn = done + len(rows), turn + 1
  if done < _KILLS.value:
    sys.exit(f"Only {done} kills hit a process that was alive.")


if __name__ == "__main__":
  app.run(main)
