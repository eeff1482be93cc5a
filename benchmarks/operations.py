"""Measures which operations an update of MAML spends its time on.

  python -m benchmarks.operations

TensorFlow's profiler records when each operation begins and ends, while one
thread runs them all. The command prints a table for each case and writes
`benchmarks/results/operations.json`.
"""

import collections
from concurrent import futures
import multiprocessing
import os
import pathlib
import tempfile
from typing import Any

from absl import app
from absl import flags
import tensorflow as tf

from benchmarks.contenders import tfmeta_fit
from benchmarks.shared import profiles
from benchmarks.shared import reports
from benchmarks.shared import workload

_CASES = flags.DEFINE_list(
  "cases", ["conv4", "conv4_first_order", "conv4_84"], "Cases of `speed`."
)
_UPDATES = flags.DEFINE_integer("updates", 5, "Updates to record.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/operations.json", "JSON file to write."
)


def record(name: str, updates: int) -> dict[str, Any]:
  """Trains with TensorFlow's profiler.

  Args:
    name: Name of a case of `speed`.
    updates: Number of updates to record.

  Returns:
    Milliseconds per task: `kinds`, by kind, and `operations`, by name, for
    those that take at least 0.05 ms.
  """
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  case = workload.CASES[name]
  update = tfmeta_fit.make_update(case)
  update(2, lambda: None)
  with tempfile.TemporaryDirectory() as folder:
    with tf.profiler.experimental.Profile(folder):
      update(updates, lambda: None)
    seconds = profiles.seconds_by_operation(folder)
  kinds: collections.Counter = collections.Counter()
  factor = 1e3 / updates / case.tasks
  for operation, value in seconds.items():
    kinds[profiles.kind_of(operation)] += factor * value
  operations = {n: factor * value for n, value in seconds.most_common()}
  kept = {n: value for n, value in operations.items() if value >= 0.05}
  return {"kinds": dict(kinds.most_common()), "operations": kept}


def main(_) -> None:
  """Records every case in its own process, prints tables and writes JSON."""
  # TensorFlow reads this when a process imports it; `speed` sets it too.
  os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
  report: dict[str, Any] = {
    "command": reports.command("operations"),
    "machine": reports.machine(),
    "tensorflow": tf.__version__,
    "cases": {},
  }
  context = multiprocessing.get_context("spawn")
  for case in _CASES.value:
    with futures.ProcessPoolExecutor(1, context) as pool:
      found = pool.submit(record, case, _UPDATES.value).result()
    report["cases"][case] = found
    total = sum(found["kinds"].values())
    print(f"{case}: {total:.0f} ms per task")
    for kind, value in found["kinds"].items():
      print(f"  {kind:14} {value:7.1f} ms  {value / total:4.0%}", flush=True)
  reports.write(pathlib.Path(_OUTPUT.value), report)


if __name__ == "__main__":
  app.run(main)
