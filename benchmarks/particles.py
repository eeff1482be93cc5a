"""MAML, EMAML, BMAML and PLATIPUS on few sinusoids, by error and likelihood.

  python -m benchmarks.particles --rates    # once, to choose inner rates
  python -m benchmarks.particles            # 48 runs; goes on if stopped

The protocol of the BMAML paper: amplitude, phase and frequency vary, there are
100 or 1000 training tasks, of 5 or 10 points each; test targets have no noise.
All learners have the same network, updates and tasks; a seed gives the weights
and the order of tasks. Likelihoods are those of the mixture of all draws, with
the noise around a draw that is best on validation tasks; that of BMAML also
with the noise it learned. `benchmarks/results/particles.json` is written after
every run, and a table is printed at the end.
"""

import itertools
import json
import math
import pathlib
import sys

from absl import app
from absl import flags
import keras
import numpy as np

from benchmarks.shared import bmaml_sinusoids
from benchmarks.shared import sampled_predictions

_UPDATES = flags.DEFINE_integer("updates", 5000, "Of each learner.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 1000, "Tasks at the end.")
_RATES = flags.DEFINE_bool(
  "rates", False, "Tries inner rates instead, by validation error."
)
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/particles.json", "Written."
)

TASKS = (100, 1000)
SHOTS = (5, 10)
VALIDATION_TASKS = 200
# Of a report, that all its runs share.
SETTINGS = ("updates", "test_tasks", "inner_rates")
KINDS = ("mse", "mse_of_draws", "nll")
# Inner rates: of the log-posterior, and of the squared error.
TRIED = {"BMAML": (1e-4, 3e-4, 1e-3, 3e-3), "": (0.003, 0.01, 0.03, 0.1)}
TRIED_UPDATES = 2000


def predicted(learner, split: str, shots: int, count: int):
  """Targets `[T, n]`, outputs of draws `[T, M, n]` and their own noise."""
  tasks = bmaml_sinusoids.held_out(split, shots, count)
  keys = ("support_x", "support_y", "query_x")
  outputs, noise = sampled_predictions.outputs_of(
    learner, *(tasks[key] for key in keys)
  )
  return tasks["query_y"][..., 0], outputs, noise


def run(name: str, tasks: int, shots: int, seed: int) -> dict[str, float]:
  """Errors and likelihoods on test tasks."""
  learner = bmaml_sinusoids.train(
    name, tasks, shots, seed=seed, updates=_UPDATES.value
  )
  seen = predicted(learner, "validation", shots, VALIDATION_TASKS)
  chosen = sampled_predictions.chosen_noise(*seen[:2])
  targets, outputs, own = predicted(learner, "test", shots, _TEST_TASKS.value)
  found = {
    "mse": sampled_predictions.squared_error(targets, outputs),
    "mse_of_draws": float(np.mean((targets[:, np.newaxis] - outputs) ** 2)),
    "nll": sampled_predictions.mixture_loss(targets, outputs, chosen),
    "noise": chosen,
  }
  if name == "BMAML":
    found["nll_with_learned_noise"] = sampled_predictions.mixture_loss(
      targets, outputs, own
    )
  return found


def try_rates() -> None:
  """Prints validation errors of inner rates, after short runs."""
  for name in bmaml_sinusoids.LEARNERS:
    for rate in TRIED[name if name in TRIED else ""]:
      learner = bmaml_sinusoids.train(
        name, TASKS[1], SHOTS[1], seed=0, updates=TRIED_UPDATES, rate=rate
      )
      seen = predicted(learner, "validation", SHOTS[1], VALIDATION_TASKS)
      print(
        f"{name:18} {rate:7} {sampled_predictions.squared_error(*seen[:2]):.3f}",
        flush=True,
      )
      keras.utils.clear_session()


def table(runs: dict[str, dict]) -> str:
  """Means over seeds, with 95 % intervals of Student's t."""
  lines = [
    "tasks  shots  learner             squared error      of draws      NLL"
  ]
  for tasks, shots, name in itertools.product(
    TASKS, SHOTS, bmaml_sinusoids.LEARNERS
  ):
    found = [
      runs[key]
      for seed in range(_SEEDS.value)
      if (key := f"{name}/{tasks}/{shots}/{seed}") in runs
    ]
    cells = [_cell([run[kind] for run in found]) for kind in KINDS]
    lines.append(f"{tasks:5}  {shots:5}  {name:18}  " + "  ".join(cells))
  return "\n".join(lines)


def _cell(values: list[float]) -> str:
  factor = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(values), 1.96)
  spread = np.std(values, ddof=1) if len(values) > 1 else math.nan
  width = factor * spread / math.sqrt(len(values))
  return f"{np.mean(values):7.3f} +- {width:6.3f}"


def compare() -> None:
  """Runs what has not been run yet."""
  output = pathlib.Path(_OUTPUT.value)
  report = {
    "command": " ".join(["python -m benchmarks.particles", *sys.argv[1:]]),
    "updates": _UPDATES.value,
    "test_tasks": _TEST_TASKS.value,
    "inner_rates": bmaml_sinusoids.RATES,
    "runs": {},
  }
  if output.exists():
    before = json.loads(output.read_text())
    if any(before[key] != report[key] for key in SETTINGS):
      raise ValueError(
        f"{output} holds runs of other settings; remove it, or give another "
        "--output."
      )
    report["runs"] = before["runs"]
  for seed, tasks, shots, name in itertools.product(
    range(_SEEDS.value), TASKS, SHOTS, bmaml_sinusoids.LEARNERS
  ):
    key = f"{name}/{tasks}/{shots}/{seed}"
    if key not in report["runs"]:
      report["runs"][key] = run(name, tasks, shots, seed)
      print(key, report["runs"][key], flush=True)
      output.write_text(json.dumps(report, indent=1) + "\n")
      keras.utils.clear_session()
  print(table(report["runs"]))


def main(_) -> None:
  """Runs what the flags say."""
  try_rates() if _RATES.value else compare()


if __name__ == "__main__":
  app.run(main)
