"""Measures speed and memory of tfmeta, beside PyTorch, JAX and an eager loop.

  python -m benchmarks.speed                 # needs two idle cores
  python -m benchmarks.speed --quick         # one round of short runs
  python -m benchmarks.speed --parts=floor   # one part only

Each contender runs in its own process. A round runs every contender once, so
that other work on the machine affects all of them alike. The report keeps the
results of the last run for parts that are not measured.
benchmarks/results/speed.md explains what is measured.
"""

import functools
import json
import pathlib
import statistics
import sys
from typing import Any

from absl import app
from absl import flags
from matplotlib import figure

from benchmarks.contenders import processes
from benchmarks.shared import reports
from benchmarks.shared import workload

# Names of the contenders' modules and how plots call them.
CONTENDERS = {
  "tfmeta_fit": "tfmeta",
  "tf_eager": "TensorFlow, eager loop",
  "torch_func": "torch.func, vmap",
  "torch_loop": "PyTorch, autograd loop",
  "jax_vmap": "JAX, vmap and jit",
}
CONTENDER_CASES = ("sinusoid", "conv4", "conv4_first_order", "conv4_84")

# If losses differ by more, relatively, contenders do not compute the same.
LARGEST_DISAGREEMENT = 1e-4

LEARNER_CASES = ("sinusoid", "conv4", "conv4_84")
# Values of one field of the case `conv4`, while the others keep theirs.
GROWTH = {
  "tasks": (8, 32, 128),
  "inner_steps": (1, 3, 5, 10),
  "shots": (1, 5, 20),
  "filters": (16, 32, 64),
  "replicas": (1, 2),
}

FLOOR_CASES = ("conv4", "conv4_first_order", "conv4_84")
MEMORY_TASKS = (8, 64)

_MEDIANS = (
  "tasks_per_second",
  "cpu_seconds_per_task",
  "first_call_seconds",
  "peak_mib",
)


def compare(
  case: str,
  runner: processes.Runner,
  *,
  rounds: int,
  seconds: float,
  limit: float,
  **_,
) -> dict[str, Any]:
  """Runs all contenders on a case.

  Args:
    case: Name of the case.
    runner: Runner of the contenders.
    rounds: Runs of each contender.
    seconds: About how long a run trains.
    limit: Seconds after which a contender is stopped. It is then left out of
      later rounds.

  Returns:
    The `losses` of the first updates and the `runs`, by contender, and a list
    of messages about the contenders that were `given_up`.
  """
  losses, runs, given_up = {}, {}, {}
  both = {"case": case, "limit": limit}
  for name in runner.contenders:
    if found := _attempt(runner, given_up, name, check=True, **both):
      losses[name] = found["losses"]
  for number in range(rounds):
    for name in runner.contenders:
      if found := _attempt(runner, given_up, name, seconds=seconds, **both):
        runs.setdefault(name, []).append(found)
        _print_run(f"round {number} {case} {name}", found)
  return {"losses": losses, "runs": runs, "given_up": [*given_up.values()]}


def _attempt(
  runner: processes.Runner,
  given_up: dict[str, str],
  name: str,
  *,
  limit: float,
  **options: object,
) -> dict[str, Any] | None:
  """Runs a contender, or returns `None` if it is or was too slow."""
  if name in given_up:
    return None
  # tfmeta has no limit, because all others are compared with it.
  try:
    return runner.run(
      name, limit=None if name == processes.OURS else limit, **options
    )
  except processes.TooSlow as error:
    given_up[name] = str(error)
    print(error, flush=True)
    return None


def measure_learners(
  runner: processes.Runner, *, seconds: float, **_
) -> dict[str, Any]:
  """Runs every learner once on every case, and LEO on embeddings."""
  runs: dict[str, dict] = {case: {} for case in (*LEARNER_CASES, "embeddings")}
  pairs = [
    (case, name)
    for case in LEARNER_CASES
    for name in workload.LEARNERS
    if (case, name) not in workload.NOT_FOR
  ]
  for case, name in [*pairs, ("embeddings", "LEO")]:
    found = runner.run(
      processes.OURS, case=case, learner=name, seconds=seconds / 2
    )
    runs[case][name] = found
    _print_run(f"{case} {name}", found)
  return {"runs": runs}


def measure_growth(
  runner: processes.Runner, *, seconds: float, **_
) -> dict[str, Any]:
  """Runs MAML once for every value in `GROWTH`."""
  runs: dict[str, dict] = {}
  for field, values in GROWTH.items():
    runs[field] = {}
    for value in values:
      options = {field: value}
      found = runner.run(
        processes.OURS, case="conv4", seconds=seconds / 2, **options
      )
      runs[field][str(value)] = found
      _print_run(f"{field}={value}", found)
  return {"runs": runs}


def measure_floor(
  runner: processes.Runner, *, rounds: int, seconds: float, **_
) -> dict[str, Any]:
  """Measures a task's convolutions and products alone, and the whole task."""
  runs: dict[str, list] = {case: [] for case in FLOOR_CASES}
  for _round in range(rounds):
    for case in FLOOR_CASES:
      alone = runner.run("floor", case=case)
      whole = runner.run(processes.OURS, case=case, seconds=seconds)
      runs[case].append({"alone": alone, "whole": whole})
      print(_floor_line(case, _floor_share(runs[case][-1])), flush=True)
  return {"runs": runs}


def measure_memory(runner: processes.Runner, **_) -> dict[str, Any]:
  """Measures the peak memory in MiB, by tasks per update."""
  peaks = {
    str(tasks): runner.run(
      processes.OURS, case="conv4", tasks=tasks, seconds=0
    )["peak_mib"]
    for tasks in MEMORY_TASKS
  }
  return {"peak_mib": peaks}


def measure_data(
  runner: processes.Runner, *, data_dir: str | None, seconds: float, **_
) -> dict[str, Any]:
  """Measures how many tasks per second the data sets deliver."""
  found = {}
  for dataset in workload.CONSUMERS:
    if dataset == "omniglot" and not data_dir:
      continue
    options = {"data_dir": data_dir} if dataset == "omniglot" else {}
    found[dataset] = runner.run(
      "data_pipeline", dataset=dataset, seconds=seconds, **options
    )["tasks_per_second"]
  return {"tasks_per_second": found}


PARTS = {
  **{
    f"contenders/{case}": functools.partial(compare, case)
    for case in CONTENDER_CASES
  },
  "learners": measure_learners,
  "growth": measure_growth,
  "floor": measure_floor,
  "memory": measure_memory,
  "data": measure_data,
}

_QUICK = flags.DEFINE_bool("quick", False, "Run one round of short runs.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Runs of each contender.")
_SECONDS = flags.DEFINE_float(
  "seconds", 12.0, "About how many seconds a run trains."
)
_LIMIT = flags.DEFINE_float(
  "limit", 240.0, "Seconds after which a contender is stopped and left out."
)
_PARTS = flags.DEFINE_list("parts", list(PARTS), "Parts to measure.")
flags.register_validator(
  "parts",
  lambda parts: set(parts) <= set(PARTS),
  f"The parts are {', '.join(PARTS)}.",
)
_PEERS_PYTHON = flags.DEFINE_string(
  "peers_python",
  sys.executable,
  "Python interpreter that can import torch and jax.",
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir",
  None,
  "Folder in which TFDS has prepared Omniglot. Without it, the part `data` "
  "measures glyphs only.",
)
_OUTPUT = flags.DEFINE_string(
  "output",
  "benchmarks/results/speed.json",
  "JSON file to write. The plots go to a .png file of the same name.",
)


def _print_run(what: str, found: dict[str, float]) -> None:
  print(
    f"{what:40} {found['tasks_per_second']:9.2f} tasks/s  "
    f"{1000 * found['cpu_seconds_per_task']:8.2f} CPU ms per task",
    flush=True,
  )


def summarize(parts: dict) -> dict:
  """Returns medians over rounds and the ratios computed from them.

  Args:
    parts: Results of the parts, by name. Parts may be missing.
  """
  summary: dict = {"disagreements": []}
  if compared := _compared_cases(parts):
    losses = {case: found["losses"] for case, found in compared.items()}
    summary["disagreements"] = _disagreements(losses)
    summary["cases"] = {
      case: _medians(found["runs"]) for case, found in compared.items()
    }
  if "floor" in parts:
    summary["share_of_floor"] = {
      case: statistics.median(map(_floor_share, rounds))
      for case, rounds in parts["floor"]["runs"].items()
    }
  if "memory" in parts:
    first, last = parts["memory"]["peak_mib"].values()
    summary["memory_growth"] = last / first - 1
  cases = summary.get("cases", {})
  delivered = parts.get("data", {"tasks_per_second": {}})["tasks_per_second"]
  summary["data_over_learner"] = {
    name: speed
    / cases[workload.CONSUMERS[name]][processes.OURS]["tasks_per_second"]
    for name, speed in delivered.items()
    if workload.CONSUMERS[name] in cases
  }
  return summary


def _compared_cases(parts: dict) -> dict[str, dict]:
  """Returns the results of `compare`, by case."""
  return {
    name.removeprefix("contenders/"): found
    for name, found in parts.items()
    if name.startswith("contenders/")
  }


def _disagreements(losses: dict) -> list[str]:
  """Returns a message for each contender whose losses differ from tfmeta's."""
  found = []
  for case, contenders in losses.items():
    for name, values in contenders.items():
      pairs = zip(contenders[processes.OURS], values, strict=True)
      worst = max(abs(a - b) / abs(a) for a, b in pairs)
      # The comparison is negated, so that NaN counts as a disagreement.
      if not worst <= LARGEST_DISAGREEMENT:
        found.append(
          f"{case}: losses of {name} and {processes.OURS} differ by {worst:.1e}"
        )
  return found


def _medians(contenders: dict[str, list[dict]]) -> dict[str, dict]:
  medians = {
    name: {key: statistics.median(run[key] for run in runs) for key in _MEDIANS}
    for name, runs in contenders.items()
  }
  ours = medians[processes.OURS]["tasks_per_second"]
  for found in medians.values():
    found["tfmeta_is_faster_by"] = ours / found["tasks_per_second"]
  return medians


def _floor_share(found: dict[str, dict]) -> float:
  key = "cpu_seconds_per_task"
  return found["alone"][key] / found["whole"][key]


def _floor_line(case: str, share: float) -> str:
  return f"{case}: convolutions and products take {share:.0%} of the CPU time"


def as_text(report: dict) -> str:
  """Formats a report as tables."""
  parts, summary = report["parts"], report["summary"]
  lines = [
    f"{'case':18} {'contender':12} {'tasks/s':>9} {'tfmeta is':>10} "
    f"{'CPU ms/task':>12} {'first call':>11} {'peak memory':>12}"
  ]
  for case, medians in summary.get("cases", {}).items():
    for name, found in medians.items():
      lines.append(_line(case, name, found, found["tfmeta_is_faster_by"]))
  for found in _compared_cases(parts).values():
    lines += found["given_up"]
  for part in ("learners", "growth"):
    for row, runs in parts.get(part, {}).get("runs", {}).items():
      lines += [_line(row, name, found) for name, found in runs.items()]
  for case, share in summary.get("share_of_floor", {}).items():
    lines.append(_floor_line(case, share))
  if "memory_growth" in summary:
    lines.append(f"memory, 8 to 64 tasks: {summary['memory_growth']:+.1%}")
  for name, ratio in summary.get("data_over_learner", {}).items():
    consumer = workload.CONSUMERS[name]
    lines.append(f"{name} delivers {ratio:,.1f} times what {consumer} consumes")
  return "\n".join([*lines, *summary["disagreements"]])


def _line(
  case: str, name: str, found: dict, faster_by: float | None = None
) -> str:
  faster = "" if faster_by is None else f"{faster_by:9.2f}x"
  traced = found.get("trace_seconds")
  tracing = "" if traced is None else f", tracing {traced:4.1f} s"
  return (
    f"{case:18} {name:12} {found['tasks_per_second']:9.2f} {faster:>10} "
    f"{1000 * found['cpu_seconds_per_task']:12.2f} "
    f"{found['first_call_seconds']:9.1f} s {found['peak_mib']:8.0f} MiB"
    f"{tracing}"
  )


def plot(report: dict, path: pathlib.Path) -> None:
  """Plots the speed of all contenders and how the cost of a task grows.

  Args:
    report: The report, as `main` writes it.
    path: PNG file to write.
  """
  cases = report["summary"].get("cases", {})
  growth = report["parts"].get("growth", {}).get("runs", {})
  rows = [
    (plot_one, found)
    for plot_one, found in ((_plot_case, cases), (_plot_growth, growth))
    if found
  ]
  columns = max((len(found) for _, found in rows), default=1)
  size = (3.2 * columns + 1, 2.8 * max(len(rows), 1))
  canvas = figure.Figure(figsize=size, layout="constrained")
  grid = canvas.subplots(max(len(rows), 1), columns, squeeze=False)
  for axes in grid.flat:
    axes.set_visible(False)
  for row, (plot_one, found) in zip(grid, rows, strict=False):
    for axes, (name, runs) in zip(row, found.items(), strict=False):
      axes.set_visible(True)
      plot_one(axes, name, runs)
  for axes in grid[0, 1:] if cases else ():
    axes.set_yticklabels([])
  canvas.savefig(path, dpi=110)


def _plot_case(axes, case: str, medians: dict[str, dict]) -> None:
  """Plots one bar per contender, in the same order for all cases."""
  speeds = [
    medians.get(name, {}).get("tasks_per_second") for name in CONTENDERS
  ]
  colors = ["C0" if name == processes.OURS else "0.7" for name in CONTENDERS]
  lengths = [speed or 0 for speed in speeds]
  bars = axes.barh([*CONTENDERS.values()], lengths, color=colors)
  axes.bar_label(bars, labels=[_bar_label(s) for s in speeds], padding=3)
  axes.set(title=case, xlabel="tasks per second")
  axes.set_xlim(0, 1.4 * max(lengths))
  axes.invert_yaxis()


def _bar_label(speed: float | None) -> str:
  if speed is None:
    return "not finished in time"
  return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def _plot_growth(axes, field: str, runs: dict[str, dict]) -> None:
  costs = [1000 * found["cpu_seconds_per_task"] for found in runs.values()]
  values = [int(value) for value in runs]
  label = "tasks per update" if field == "tasks" else field.replace("_", " ")
  axes.plot(values, costs, "o-")
  axes.set(
    title=f"conv4: cost by {label}",
    xlabel=label,
    ylabel="CPU milliseconds per task",
    xlim=(0, 1.1 * max(values)),
    ylim=(0, 1.1 * max(costs)),
  )
  if len(values) == 2:
    axes.set_xticks(values)
  axes.grid(alpha=0.3)


def measure(report: dict, output: pathlib.Path) -> None:
  """Adds the results of all parts that the flags name to `report`.

  Args:
    report: The report, as `main` writes it.
    output: JSON file to write after each part.
  """
  runner = processes.Runner([*CONTENDERS], peers_python=_PEERS_PYTHON.value)
  options = {
    "rounds": 1 if _QUICK.value else _ROUNDS.value,
    "seconds": 2.0 if _QUICK.value else _SECONDS.value,
    "limit": _LIMIT.value,
    "data_dir": _DATA_DIR.value,
  }
  places = ("--peers_python", "--data_dir", "--output")
  for part in _PARTS.value:
    report["parts"][part] = {
      "command": reports.command("speed", hide=places),
      "machine": reports.machine(),
      "commit": reports.commit(processes.ROOT),
      "versions": runner.versions(),
      **PARTS[part](runner, **options),
    }
    report["summary"] = summarize(report["parts"])
    reports.write(output, report)


def main(_) -> None:
  """Measures, prints a report, and writes it as JSON and as plots."""
  output = pathlib.Path(_OUTPUT.value)
  report = {"parts": {}}
  if output.exists():
    report["parts"] = json.loads(output.read_text(encoding="utf-8"))["parts"]
  measure(report, output)
  print(as_text(report))
  plot(report, output.with_suffix(".png"))
  print(f"Wrote {output} and {output.with_suffix('.png')}.")
  if report["summary"]["disagreements"]:
    sys.exit("The contenders do not compute the same: see 'losses'.")


if __name__ == "__main__":
  app.run(main)
