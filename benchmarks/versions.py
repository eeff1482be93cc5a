"""Measures the speed of every learner, beside an earlier version of tfmeta.

  git worktree add ../earlier 5944acb
  python -m benchmarks.versions --earlier=../earlier

Each learner trains with its default arguments on the cases of `speed`. A round
runs it in a process with the earlier version and in one with this version. The
command writes `benchmarks/results/versions.json`.
"""

import pathlib
import statistics
from typing import Any

from absl import app
from absl import flags

from benchmarks.contenders import processes
from benchmarks.shared import reports
from benchmarks.shared import workload

_EARLIER = flags.DEFINE_string(
  "earlier", None, "Checkout of an earlier commit.", required=True
)
_CASES = flags.DEFINE_list("cases", ["sinusoid", "conv4"], "Cases of `speed`.")
_LEARNERS = flags.DEFINE_list(
  "learners", list(workload.LEARNERS), "Classes of tfmeta to measure."
)
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Runs of each version.")
_SECONDS = flags.DEFINE_float("seconds", 3.0, "About how long a run trains.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/versions.json", "JSON file to write."
)

KEPT = ("cpu_seconds_per_task", "first_call_seconds", "peak_mib")


def measure(
  runners: dict[str, processes.Runner], case: str, learner: str
) -> dict[str, Any]:
  """Returns the medians over rounds of both versions, and all runs.

  The versions take turns in going first. A version that lacks the learner is
  left out.
  """
  runs: dict[str, list[dict]] = {version: [] for version in runners}
  for number in range(_ROUNDS.value):
    for version, runner in list(runners.items())[:: 1 - 2 * (number % 2)]:
      options = {"case": case, "learner": learner, "seconds": _SECONDS.value}
      try:
        found = runner.run(processes.OURS, **options)
      except RuntimeError as error:
        if f"has no attribute {learner!r}" not in str(error):
          raise
        continue
      runs[version].append({key: found[key] for key in KEPT})
  medians = {
    version: {key: statistics.median(run[key] for run in each) for key in KEPT}
    for version, each in runs.items()
    if each
  }
  return {"medians": medians, "runs": runs}


def line_of(case: str, learner: str, medians: dict[str, dict]) -> str:
  """Returns a line of the table that is printed."""
  parts = [
    f"{version}: {1000 * found['cpu_seconds_per_task']:8.3f} CPU ms a task, "
    f"first update {found['first_call_seconds']:5.1f} s"
    for version, found in medians.items()
  ]
  if len(medians) == 2:
    old, new = (found["cpu_seconds_per_task"] for found in medians.values())
    parts.append(f"ratio {new / old:.2f}")
  return f"{case:10} {learner:13} " + "   ".join(parts)


def main(_) -> None:
  """Measures all learners with both versions, and writes JSON."""
  roots = {
    "earlier": pathlib.Path(_EARLIER.value).resolve(),
    "now": processes.ROOT,
  }
  runners = {
    version: processes.Runner([processes.OURS], root=root)
    for version, root in roots.items()
  }
  report: dict[str, Any] = {
    "command": reports.command("versions", hide=["--earlier"]),
    "commits": {
      version: reports.commit(root) for version, root in roots.items()
    },
    "machine": reports.machine(),
    "cases": {},
  }
  for case in _CASES.value:
    report["cases"][case] = {}
    for learner in _LEARNERS.value:
      if (case, learner) in workload.NOT_FOR:
        continue
      found = measure(runners, case, learner)
      report["cases"][case][learner] = found
      print(line_of(case, learner, found["medians"]), flush=True)
      reports.write(pathlib.Path(_OUTPUT.value), report)


if __name__ == "__main__":
  app.run(main)
