"""Trains learners in the settings of their papers, and compares the figures.

  python -m benchmarks.reproduction --list
  python -m benchmarks.reproduction --rows=sinusoid_10shot_maml
  python -m benchmarks.reproduction              # all rows: days on two cores

Each row is one command of a trainer, which resumes where it was stopped; --list
prints the commands. Runs have the lowest priority. Finished runs are kept in
`benchmarks/results/reproduction`, with the trained learner of each Omniglot
row: `python -m trainers.evaluate --workdir=FOLDER` measures it again.

The command also writes the tables in `trainers/README.md` and the plot
`benchmarks/results/reproduction.png` from all results that are kept.
"""

import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
from typing import Any

from absl import app
from absl import flags
from matplotlib import figure

from benchmarks.shared import reports
from benchmarks.shared import reproduction_rows
from benchmarks.shared.reproduction_rows import Row

_ROWS = flags.DEFINE_list("rows", None, "Names of rows. Default: all rows.")
_LIST = flags.DEFINE_bool("list", False, "Print the rows and their commands.")
_RUNS = flags.DEFINE_string("runs", "runs/reproduction", "Folder of the runs.")

RESULTS = pathlib.Path("benchmarks/results/reproduction")
PAGE = pathlib.Path("trainers/README.md")
BEGIN, END = "<!-- reproduction -->", "<!-- end of reproduction -->"
STEPS = (0, 1, 5, 10)

# Long lists, with a number for each task or query.
_NOT_KEPT = ("per_task", "nll_per_task", "reliability", "selective_accuracy")


def run(row: Row, seed: int) -> None:
  """Trains one row with one seed and keeps its results.

  Args:
    row: The row.
    seed: Seed of the run. The learner of seed 0 is kept.
  """
  folder = pathlib.Path(_RUNS.value) / f"{row.name}_{seed}"
  command = row.command(seed, str(folder))
  subprocess.run([sys.executable, *command], check=True)
  with (folder / "result.json").open(encoding="utf-8") as file:
    result = json.load(file)
  if row.ensemble > 1:
    result |= _of_ensemble(row, folder)
  result = {k: v for k, v in result.items() if k not in _NOT_KEPT}
  result["command"] = " ".join(["python", *command])
  kept = RESULTS / row.name
  if seed == 0 and not row.regression:
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("flags.json", "best.keras", "learning_curve.png"):
      shutil.copy(folder / name, kept / name)
    result["sha256"] = digest(kept / "best.keras")
  reports.write(kept / f"result_{seed}.json", result)


def _of_ensemble(row: Row, folder: pathlib.Path) -> dict[str, Any]:
  """Returns the results of the best epochs of a run together."""
  how = (f"--workdir={folder}", f"--ensemble={row.ensemble}", "--tasks=1000")
  subprocess.run([sys.executable, "-m", "trainers.evaluate", *how], check=True)
  path = folder / f"evaluation_test_1000_ensemble_{row.ensemble}.json"
  return json.loads(path.read_text(encoding="utf-8"))


def digest(path: pathlib.Path) -> str:
  """Returns the SHA-256 of a file."""
  return hashlib.sha256(path.read_bytes()).hexdigest()


def kept_results(row: Row) -> list[dict[str, Any]]:
  """Returns the results of all seeds of a row that are kept."""
  paths = sorted((RESULTS / row.name).glob("result_*.json"))
  return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def figures_of(row: Row) -> dict[str, Any]:
  """Returns what the table shows of a row whose results are kept.

  Returns:
    `figure` and `interval`, means over seeds in the unit of the paper; `errors`
    by number of inner steps, for regressions; `reached`, whether the interval
    overlaps that of the paper or the figure is better; `hours` of one run.
  """
  results = kept_results(row)
  by_step = [
    {point["steps"]: point for point in result["by_step"]} for result in results
  ]
  metric, factor = ("mse", 1.0) if row.regression else ("accuracy", 100.0)
  # The published errors of sinusoids are those after one step.
  at = 1 if row.regression else results[0]["steps"]
  found, interval = (
    factor * statistics.mean(points[at][name] for points in by_step)
    for name in (metric, "interval")
  )
  return {
    "figure": found,
    "interval": interval,
    "errors": {
      steps: statistics.mean(points[steps][metric] for points in by_step)
      for steps in STEPS
      if all(steps in points for points in by_step)
    },
    "reached": _is_reached(row, found, interval),
    "hours": statistics.mean(r["seconds"] for r in results) / 3600,
    "normalization": results[0]["normalization"],
    "steps": at,
    "queries": results[0]["query_shots"],
    "seeds": len(results),
  }


def _is_reached(row: Row, found: float, interval: float) -> bool | None:
  if row.published is None:
    return None
  behind = found - row.published if row.regression else row.published - found
  return behind <= interval + (row.interval or 0.0)


def tables() -> str:
  """Returns the tables of all kept results, in Markdown."""
  accuracies = (
    "| row | learner | published | here | reached | protocol | hours | gap |",
    [_accuracy_line(row) for row in _rows(regression=False)],
  )
  errors = (
    "| row | learner | published, 1 step | before | 1 step | 5 steps | "
    "10 steps | reached | seeds | hours |",
    [_error_line(row) for row in _rows(regression=True)],
  )
  return "\n\n".join(
    "\n".join([head, "|" + " --- |" * (head.count("|") - 1), *lines])
    for head, lines in (accuracies, errors)
    if lines
  )


def _rows(*, regression: bool) -> list[Row]:
  """Returns the rows of one kind whose results are kept."""
  rows = [r for r in reproduction_rows.ROWS if r.regression == regression]
  return [row for row in rows if kept_results(row)]


def _accuracy_line(row: Row) -> str:
  found = figures_of(row)
  protocol = (
    f"{found['normalization']}, inner steps: {found['steps']}, "
    f"queries per class: {found['queries']}"
  )
  cells = [
    f"`{row.name}`",
    row.learner,
    _published(row, ".1f"),
    f"{found['figure']:.2f} ± {found['interval']:.2f}",
    _yes_or_no(found["reached"]),
    protocol,
    f"{found['hours']:.1f}",
    "" if found["reached"] else row.gap,
  ]
  return f"| {' | '.join(cells)} |"


def _error_line(row: Row) -> str:
  found = figures_of(row)
  errors = {steps: f"{e:.3f}" for steps, e in found["errors"].items()}
  errors[1] = f"{found['figure']:.3f} ± {found['interval']:.3f}"
  cells = [
    f"`{row.name}`",
    row.learner,
    _published(row, ".2f"),
    *[errors.get(steps, "") for steps in STEPS],
    _yes_or_no(found["reached"]),
    str(found["seeds"]),
    f"{found['hours']:.2f}",
  ]
  return f"| {' | '.join(cells)} |"


def _published(row: Row, form: str) -> str:
  if row.published is None:
    return "a plot only" if row.regression else ""
  interval = f" ± {row.interval:{form}}" if row.interval else ""
  return f"{row.published:{form}}{interval} {row.source}"


def _yes_or_no(reached: bool | None) -> str:
  return {None: "", True: "yes", False: "no"}[reached]


def page_with_tables(page: str) -> str:
  """Returns the page with its tables replaced by those of the kept results."""
  before, rest = page.split(BEGIN)
  _, after = rest.split(END)
  return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def plot(path: pathlib.Path) -> None:
  """Plots the published figures beside those of the kept results.

  Args:
    path: PNG file to write.
  """
  titles = {False: "accuracy in percent", True: "squared error after one step"}
  panels = [
    (title, rows)
    for regression, title in titles.items()
    if (rows := _rows(regression=regression))
  ]
  height = 1.5 + 0.35 * max(len(rows) for _, rows in panels)
  canvas = figure.Figure((5.5 * len(panels), height), layout="constrained")
  axes = canvas.subplots(1, len(panels), squeeze=False)[0]
  for axis, (title, rows) in zip(axes, panels, strict=True):
    _plot_rows(axis, rows)
    axis.locator_params(axis="x", nbins=5)
    axis.set_xlabel(title)
  handles = axes[0].get_legend_handles_labels()
  canvas.legend(*handles, loc="outside upper center", ncols=2)
  canvas.savefig(path, dpi=120)


def _plot_rows(axis: Any, rows: list[Row]) -> None:
  for place, row in enumerate(rows):
    found, first = figures_of(row), place == 0
    axis.errorbar(
      found["figure"],
      place,
      xerr=found["interval"],
      fmt="o",
      color="tab:blue",
      label="tfmeta" if first else None,
    )
    if row.published is not None:
      axis.errorbar(
        row.published,
        place,
        xerr=row.interval,
        fmt="s",
        color="tab:gray",
        label="paper" if first else None,
      )
  names = [row.name for row in rows]
  axis.set_yticks(range(len(rows)), names, fontsize="small")
  axis.set_ylim(len(rows) - 0.5, -0.5)
  axis.grid(axis="x", alpha=0.3)


def chosen_rows(names: list[str] | None) -> list[Row]:
  """Returns the rows with the given names, or all rows.

  Raises:
    ValueError: If there is no row of a name.
  """
  known = {row.name: row for row in reproduction_rows.ROWS}
  wrong = sorted(set(names or ()) - set(known))
  if wrong:
    raise ValueError(
      "--rows must be names that --list prints. Received: " + ", ".join(wrong)
    )
  return [known[name] for name in names or known]


def main(_) -> None:
  """Trains the rows, and writes the tables and the plot."""
  try:
    rows = chosen_rows(_ROWS.value)
  except ValueError as error:
    sys.exit(str(error))
  if _LIST.value:
    for row in rows:
      print(row.name, "python", *row.command(0, f"runs/{row.name}"))
    return
  os.nice(19)
  for row in rows:
    for seed in range(row.seeds):
      if not (RESULTS / row.name / f"result_{seed}.json").exists():
        run(row, seed)
      page = page_with_tables(PAGE.read_text(encoding="utf-8"))
      PAGE.write_text(page, encoding="utf-8")
      plot(RESULTS.with_suffix(".png"))


if __name__ == "__main__":
  app.run(main)
