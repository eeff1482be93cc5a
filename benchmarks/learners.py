"""Trains every learner on the same small benchmark, for the reader's choice.

  python -m benchmarks.learners
  python -m benchmarks.learners --learners=maml,bmaml

Every trainer runs with its own defaults on Omniglot, 5 ways and 1 shot, with
the same network and the same number of training tasks. The command prints a
table and adds what it measured to `benchmarks/results/learners.json`. LEO and
fine-tuning are left out, because they start from another, trained network.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

from absl import app
from absl import flags

from benchmarks.shared import reports

TRAINERS = (
  "proto_net",
  "maml",
  "fomaml",
  "anil",
  "meta_sgd",
  "maml_plus_plus",
  "reptile",
  "imaml",
  "platipus",
  "emaml",
  "bmaml",
)

_LEARNERS = flags.DEFINE_list("learners", list(TRAINERS), "Trainers to run.")
_DATASET = flags.DEFINE_string("dataset", "omniglot", "Data set of the tasks.")
_EPOCHS = flags.DEFINE_integer("epochs", 8, "Epochs of 1,000 tasks.")
_RUNS = flags.DEFINE_string("runs", "runs/learners", "Folder of the runs.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/learners.json", "JSON file to write."
)

# The same network and the same tasks for all.
SAME = (
  "--pooling=stride",
  "--filters=32",
  "--ways=5",
  "--shots=1",
  "--meta_batch_size=8",
  "--steps_per_epoch=125",
  "--validation_tasks=50",
  "--eval_tasks=600",
)
KEPT = ("accuracy", "interval", "nll", "ece", "steps", "normalization")


def train(trainer: str) -> dict[str, Any]:
  """Runs a trainer to its end in a process of its own.

  Args:
    trainer: Name of a module of `trainers`.

  Returns:
    Accuracy, `interval` (95%), negative log-likelihood and calibration error on
    600 test tasks; `cpu_minutes` of the whole command, and `peak_mib`, its
    largest resident size.
  """
  folder = pathlib.Path(_RUNS.value, trainer)
  shutil.rmtree(folder, ignore_errors=True)
  own = (f"--dataset={_DATASET.value}", f"--epochs={_EPOCHS.value}")
  process = subprocess.Popen(
    [
      *(sys.executable, "-m", f"trainers.{trainer}", *SAME, *own),
      f"--workdir={folder}",
    ]
  )
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    sys.exit(f"trainers.{trainer} failed: see its message above.")
  result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
  return {
    **{name: result[name] for name in KEPT},
    "cpu_minutes": (usage.ru_utime + usage.ru_stime) / 60,
    # Linux counts kibibytes here.
    "peak_mib": usage.ru_maxrss / 1024,
  }


def line_of(trainer: str, found: dict[str, Any]) -> str:
  """Returns a line of the table, in Markdown.

  Args:
    trainer: Name of the trainer.
    found: What `train` returns.
  """
  cells = (
    f"`{trainer}`",
    f"{found['steps']}",
    f"{100 * found['accuracy']:.1f} ± {100 * found['interval']:.1f}",
    f"{found['nll']:.2f}",
    f"{found['ece']:.3f}",
    f"{found['cpu_minutes']:.1f}",
    f"{found['peak_mib'] / 1024:.1f}",
  )
  return f"| {' | '.join(cells)} |"


def main(_) -> None:
  """Trains the learners, prints a table, and writes JSON."""
  path = pathlib.Path(_OUTPUT.value)
  report: dict[str, Any] = {"learners": {}}
  if path.exists():
    report = json.loads(path.read_text(encoding="utf-8"))
  for trainer in _LEARNERS.value:
    machine = reports.machine()
    report["learners"][trainer] = {
      **train(trainer),
      "command": reports.command("learners"),
      "machine": machine,
    }
    reports.write(path, report)
  for trainer, found in report["learners"].items():
    print(line_of(trainer, found))


if __name__ == "__main__":
  app.run(main)
