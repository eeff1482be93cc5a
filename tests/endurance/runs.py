"""Small runs of trainers, and what they leave in their workdirs."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[2]

_SMALL = [
  "--query_shots=3",
  "--train_query_shots=3",
  "--meta_batch_size=4",
  "--steps_per_epoch=4",
  "--epochs=6",
  "--validation_tasks=4",
  "--eval_tasks=8",
]
_SINUSOID = [
  *_SMALL,
  "--dataset=sinusoid",
  "--hidden=8",
  "--shots=3",
  "--steps_per_execution=1",
]
_PYTHON = [sys.executable, "-m"]
# Commands without their workdir.
COMMANDS = {
  "maml": [*_PYTHON, "trainers.maml", *_SMALL, "--ways=3", "--filters=4"],
  "platipus": [*_PYTHON, "trainers.platipus", *_SINUSOID, "--task_map=map"],
  "pretrain": [*_PYTHON, "trainers.pretrain", "--filters=2", "--epochs=4"],
  "launch": [
    *_PYTHON,
    "trainers.launch",
    "--workers=2",
    "--restarts=1000",
    "--grace_seconds=5",
    "--",
    *_PYTHON,
    "trainers.maml",
    *_SINUSOID,
    "--strategy=multi_worker",
  ],
}


class Run:
  """A run of a trainer in a session of its own, whose output goes to a file.

  Args:
    name: Key of `COMMANDS`.
    folder: Its workdir.
  """

  def __init__(self, name: str, folder: pathlib.Path):
    self.folder = folder
    self.log = folder.with_suffix(".log")
    self._read_from = self.log.stat().st_size if self.log.exists() else 0
    with open(self.log, "ab") as file:
      self.process = subprocess.Popen(
        [*COMMANDS[name], f"--workdir={folder}"],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.STDOUT,
        start_new_session=True,
      )

  @property
  def said(self) -> str:
    """What this run has written so far to standard output and error."""
    with open(self.log, encoding="utf-8", errors="replace") as file:
      file.seek(self._read_from)
      return file.read()

  def workers(self) -> dict[int, int]:
    """Returns the process of each worker that was started last."""
    found = re.findall(r"worker (\d) is process (\d+)", self.said)
    return {int(worker): int(process) for worker, process in found}

  def resumed_after(self) -> int | None:
    """Returns how many finished epochs the run says that it has found.

    Workers that were started again say so each time, and the last time counts.
    """
    found = re.findall(
      r"Resuming after (\d+) of|All (\d+) epochs are finished", self.said
    )
    return max(map(int, filter(None, found[-1]))) if found else None


def finished_epochs(folder: pathlib.Path) -> int:
  """Returns how many finished epochs the checkpoints in `folder` hold."""
  marks = (folder / "checkpoints").glob("epoch-*.npz.sha256")
  return max((int(mark.name[6:11]) for mark in marks), default=0)


def lost_epochs(run: Run, before: int, done: int) -> int:
  """Returns how many finished epochs are gone, or were not found by a run.

  Args:
    run: The run, which has ended, was killed, or lost some of its workers.
    before: Epochs that were finished when an earlier run was killed.
    done: Epochs in the checkpoints now.
  """
  found = run.resumed_after()
  if found is None:
    # A run that was killed early may have said nothing yet.
    found = 0 if run.process.returncode == 0 else before
  return max(0, before - min(found, done))


def processes_of(folder: pathlib.Path) -> list[int]:
  """Returns the processes that have `folder` in their command line."""
  found, word = [], os.fsencode(folder)
  for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    with contextlib.suppress(OSError):
      if word in path.read_bytes():
        found.append(int(path.parent.name))
  return found


def end_all(folder: pathlib.Path) -> None:
  """Kills the processes that have `folder` in their command line."""
  for process in processes_of(folder):
    with contextlib.suppress(ProcessLookupError):
      os.kill(process, signal.SIGKILL)


def fingerprints(folder: pathlib.Path) -> dict[str, Any]:
  """Returns what two runs of one command have in common, bit for bit.

  Returns:
    For each array of the checkpoints, each file of embeddings, the variables of
    the export, and the results, the SHA-256 of the content.
  """
  found: dict[str, Any] = {}
  # Which other epochs are kept depends on the last kill.
  paths = sorted((folder / "checkpoints").glob("*.npz"))
  last = f"epoch-{finished_epochs(folder):05d}.npz"
  for path in paths:
    if path.name == last or path.name.startswith("best"):
      with np.load(path) as arrays:
        for name in arrays:
          if name != "note":
            found[f"{path.name}/{name}"] = _digest(arrays[name].tobytes())
  for path in folder.glob("embeddings/*.pkl"):
    found[path.name] = _digest(path.read_bytes())
  if (folder / "saved_model").exists():
    # The file also holds the graph of objects, whose order is not fixed.
    export = tf.train.load_checkpoint(
      os.fspath(folder / "saved_model" / "variables" / "variables")
    )
    for name in export.get_variable_to_shape_map():
      if not name.startswith("_"):
        value = np.asarray(export.get_tensor(name))
        found[f"export/{name}"] = _digest(value.tobytes())
  for name in ("result.json", "pretrain.json"):
    if (folder / name).exists():
      values = json.loads((folder / name).read_text())
      found[name] = _digest(json.dumps(_without_clocks(values)).encode())
  return found


def differences(
  expected: dict[str, Any], found: dict[str, Any], folder: pathlib.Path
) -> list[str]:
  """Returns what differs from a run that was never disturbed.

  Args:
    expected: `fingerprints` of the run that was never disturbed.
    found: Those of the other one.
    folder: Its workdir, where nothing unfinished may be left.
  """
  wrong = [k for k in expected if found.get(k) != expected[k]]
  wrong += [
    f"left behind: {path.relative_to(folder)}"
    for path in folder.rglob("unfinished_*")
  ]
  return wrong


def _without_clocks(values: dict[str, Any]) -> dict[str, Any]:
  """Returns results without what differs from run to run."""
  history = {k: v for k, v in values["history"].items() if k != "seconds"}
  rest = {
    k: v
    for k, v in values.items()
    if k not in ("seconds", "command", "history")
  }
  return {**rest, "history": history}


def _digest(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()
