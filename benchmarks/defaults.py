"""Measures what threads and kernels cost a user's program, beside a trainer.

  python -m benchmarks.defaults

MAML trains with `fit`, each run in a process of its own: as a program does that
says nothing about threads, with `tfmeta.configure()`, as the trainers do, and
with the environment variables that do the same. A round runs each of them once.
The command writes `benchmarks/results/defaults.json`.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Any

from absl import app
from absl import flags

from benchmarks.shared import reports

_ROUNDS = flags.DEFINE_integer("rounds", 3, "Runs of each way.")
_SECONDS = flags.DEFINE_float("seconds", 6.0, "How long a run trains, about.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/defaults.json", "JSON file to write."
)

CASES = ("conv4", "sinusoid")

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_THREADS = "TF_NUM_INTRAOP_THREADS"

# For each way: whether it calls `tfmeta.configure`, and its environment.
WAYS: dict[str, tuple[int, dict[str, str]]] = {
  "a program": (0, {}),
  "tfmeta.configure()": (1, {}),
  "a trainer": (1, {_ONEDNN: "1"}),
  "environment variables": (0, {_ONEDNN: "1", _THREADS: "1"}),
  "a program, oneDNN off": (0, {_ONEDNN: "0"}),
  "tfmeta.configure(), oneDNN off": (1, {_ONEDNN: "0"}),
}


def run(case: str, configured: int, given: dict[str, str]) -> dict[str, float]:
  """Returns the measurements of one run."""
  others = {k: v for k, v in os.environ.items() if k not in (_ONEDNN, _THREADS)}
  module = "benchmarks.contenders.tfmeta_fit"
  done = subprocess.run(
    [
      *(sys.executable, "-m", module, f"--case={case}"),
      *(f"--configured={configured}", f"--seconds={_SECONDS.value}"),
    ],
    env={**others, "TF_CPP_MIN_LOG_LEVEL": "3", **given},
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(done.stdout.strip().splitlines()[-1])


def main(_) -> None:
  """Measures all ways, prints a table and writes JSON."""
  runs: dict[str, dict[str, list]] = {case: {} for case in CASES}
  for _round in range(_ROUNDS.value):
    for case in CASES:
      for way, (configured, given) in WAYS.items():
        found = run(case, configured, given)
        runs[case].setdefault(way, []).append(found)
  report: dict[str, Any] = {"command": reports.command("defaults")}
  report["cpu_milliseconds_per_task"] = medians = {
    case: {
      way: 1000 * statistics.median(f["cpu_seconds_per_task"] for f in found)
      for way, found in ways.items()
    }
    for case, ways in runs.items()
  }
  report["runs"] = runs
  for case, ways in medians.items():
    for way, value in ways.items():
      print(f"{case:9} {way:32} {value:8.3f} CPU ms per task")
  reports.write(pathlib.Path(_OUTPUT.value), report)


if __name__ == "__main__":
  app.run(main)
