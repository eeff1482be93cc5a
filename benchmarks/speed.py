"""Speed and memory of MAML in tfmeta, beside an eager loop and PyTorch.

  python -m benchmarks.speed                 # needs two quiet cores
  python -m benchmarks.speed --quick         # a look

Each contender runs as a process of its own, all of them once per round, so
that what else the machine does hits them alike. benchmarks/README.md tells
what is measured.
"""

import json
import os
import pathlib
import platform
import sys

from absl import app
from absl import flags

from benchmarks import processes
from benchmarks import speed_report

_QUICK = flags.DEFINE_bool("quick", False, "One round of short runs.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Runs of each contender.")
_SECONDS = flags.DEFINE_float("seconds", 12.0, "About how long a run trains.")
_CASES = flags.DEFINE_list(
  "cases", ["sinusoid", "conv4", "conv4_first_order"], "What to train."
)
_TORCH_PYTHON = flags.DEFINE_string(
  "torch_python", sys.executable, "Interpreter that can import torch."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where TFDS has prepared Omniglot; None: glyphs alone."
)
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/speed.json", "Where the figures go."
)

CONTENDERS = ("tfmeta_fit", "tf_eager", "torch_func", "torch_loop")
MEMORY_TASKS = (8, 64)


def run_rounds(
  runner: processes.Runner, cases: list[str], *, rounds: int, seconds: float
) -> dict[str, dict[str, list[dict]]]:
  """Runs of each contender on each case, `{case: {contender: [figures]}}`."""
  runs = {case: {c: [] for c in runner.contenders} for case in cases}
  for number in range(rounds):
    for case in cases:
      for contender in runner.contenders:
        found = runner.run(contender, case=case, seconds=seconds)
        runs[case][contender].append(found)
        speed = found["tasks_per_second"]
        print(f"round {number} {case:18} {contender:11} {speed:9.2f} tasks/s")
  return runs


def run_checks(
  runner: processes.Runner, cases: list[str]
) -> dict[str, dict[str, list[float]]]:
  """Query losses of the first updates, `{case: {contender: losses}}`."""
  return {
    case: {
      contender: runner.run(contender, case=case, check=True)["losses"]
      for contender in runner.contenders
    }
    for case in cases
  }


def run_memory(runner: processes.Runner) -> dict[str, float]:
  """Peak memory of tfmeta's process in MiB by tasks per update."""
  return {
    str(tasks): runner.run("tfmeta_fit", case="conv4", tasks=tasks, seconds=0)[
      "peak_mib"
    ]
    for tasks in MEMORY_TASKS
  }


def run_data(
  runner: processes.Runner, data_dir: str | None, *, seconds: float
) -> dict[str, float]:
  """Tasks per second that the data sets deliver."""
  found = {}
  for dataset in ("glyphs", "omniglot") if data_dir else ("glyphs",):
    options = {"data_dir": data_dir} if dataset == "omniglot" else {}
    found[dataset] = runner.run(
      "data_pipeline", dataset=dataset, seconds=seconds, **options
    )["tasks_per_second"]
  return found


def _options() -> list[str]:
  """The flags of this run, but for those that say where things are."""
  places = ("--torch_python", "--data_dir", "--output")
  return [flag for flag in sys.argv[1:] if not flag.startswith(places)]


def main(_) -> None:
  """Runs everything, prints a report and writes it as JSON."""
  rounds, seconds = (
    (1, 2.0) if _QUICK.value else (_ROUNDS.value, _SECONDS.value)
  )
  runner = processes.Runner(CONTENDERS, torch_python=_TORCH_PYTHON.value)
  report = {
    "command": " ".join(["python -m benchmarks.speed", *_options()]),
    "machine": {"cpus": os.cpu_count(), "processor": platform.processor()},
    "load_before": os.getloadavg()[0],
    "versions": runner.versions(),
    "losses": run_checks(runner, _CASES.value),
    "runs": run_rounds(runner, _CASES.value, rounds=rounds, seconds=seconds),
    "memory_mib": run_memory(runner),
    "data_tasks_per_second": run_data(runner, _DATA_DIR.value, seconds=seconds),
  }
  report["summary"] = speed_report.summarize(report)
  print(speed_report.as_text(report))
  output = pathlib.Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
  print(f"written to {output}")
  if report["summary"]["disagreements"]:
    sys.exit("the contenders do not compute the same: see 'losses'")


if __name__ == "__main__":
  app.run(main)
