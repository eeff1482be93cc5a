"""Measures memory and time of a meta-gradient through many inner steps.

  python -m benchmarks.inner_memory

MAML keeps all inner steps of a task for the outer gradient. With
`recompute_steps=True`, it computes each step again. IMAML needs the last
weights only. Each run has a process of its own. The command writes
`benchmarks/results/inner_memory.json`.
"""

import json
import pathlib
import resource
import subprocess
import sys
import time
from typing import Any

from absl import app
from absl import flags
import keras

from benchmarks.shared import reports
from benchmarks.shared import workload
import tfmeta

_STEPS = flags.DEFINE_list("steps", ["1", "5", "10", "50"], "Inner steps.")
_UPDATES = flags.DEFINE_integer("updates", 5, "Timed updates of each run.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/inner_memory.json", "JSON file to write."
)
_RUN = flags.DEFINE_string(
  "run", None, "Name of a learner: makes one run and prints JSON."
)

# The class and its constructor arguments, by the name of a learner.
LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
  "MAML": ("MAML", {}),
  "MAML, steps recomputed": ("MAML", {"recompute_steps": True}),
  "IMAML": ("IMAML", {}),
}


def measure(name: str, steps: int, updates: int) -> dict[str, float]:
  """Returns the time of an update and the peak memory of this process."""
  tfmeta.configure(verbose=False)
  case = workload.CASES["conv4"]
  algorithm, options = LEARNERS[name]
  model = tfmeta.models.conv4(case.image, ways=5, filters=case.filters)
  learner = getattr(tfmeta, algorithm)(model, inner_steps=steps, **options)
  learner.compile(keras.optimizers.Adam())
  inputs = workload.make_tasks(case)
  targets = inputs.pop("query_y")
  before = _peak_mib()
  begin = time.perf_counter()
  learner.train_on_batch(inputs, targets)
  first = time.perf_counter() - begin
  begin = time.process_time()
  for _ in range(updates):
    learner.train_on_batch(inputs, targets)
  seconds = (time.process_time() - begin) / updates / case.tasks
  return {
    "first_update_seconds": first,
    "cpu_milliseconds_per_task": 1000 * seconds,
    "peak_mib": _peak_mib(),
    "peak_mib_before": before,
  }


def _peak_mib() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(name: str, steps: str) -> dict[str, float]:
  """Returns the measurements of one run in a process of its own."""
  module = "benchmarks.inner_memory"
  done = subprocess.run(
    [
      *(sys.executable, "-m", module, f"--run={name}", f"--steps={steps}"),
      f"--updates={_UPDATES.value}",
    ],
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def main(_) -> None:
  """Measures all learners, prints a table and writes JSON."""
  if _RUN.value:
    found = measure(_RUN.value, int(_STEPS.value[0]), _UPDATES.value)
    print(json.dumps(found))
    return
  report: dict[str, Any] = {"command": reports.command("inner_memory")}
  report["learners"] = {name: {} for name in LEARNERS}
  for steps in _STEPS.value:
    for name, rows in report["learners"].items():
      rows[steps] = found = run(name, steps)
      print(
        f"{name:23} {steps:>3} steps  {found['peak_mib']:6.0f} MiB, "
        f"{found['peak_mib'] - found['peak_mib_before']:5.0f} by training   "
        f"{found['cpu_milliseconds_per_task']:7.1f} CPU ms per task   "
        f"first update {found['first_update_seconds']:5.1f} s",
        flush=True,
      )
  reports.write(pathlib.Path(_OUTPUT.value), report)


if __name__ == "__main__":
  app.run(main)
