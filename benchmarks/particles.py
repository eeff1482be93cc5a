"""Compares MAML, EMAML, BMAML and PLATIPUS on few sinusoids.

  python -m benchmarks.particles --rates    # once, to choose inner rates
  python -m benchmarks.particles            # 48 runs; resumes if stopped

The protocol is that of the BMAML paper: amplitude, phase and frequency vary,
there are 100 or 1000 training tasks of 5 or 10 points, and test targets have no
noise. All learners have the same network, updates and tasks; a seed decides the
initial weights and the order of tasks.

Likelihoods are those of the mixture of all samples, with the noise around a
sample that is best on validation tasks. BMAML's is also reported with the noise
that it learned. The command writes `benchmarks/results/particles.json` after
every run and prints a table at the end.
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
from benchmarks.shared import reports
from benchmarks.shared import sampled_predictions
import tfmeta

_UPDATES = flags.DEFINE_integer("updates", 5000, "Updates of each learner.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 1000, "Number of test tasks.")
_RATES = flags.DEFINE_bool(
  "rates",
  False,
  "Prints the validation errors of several inner learning rates instead.",
)
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/particles.json", "JSON file to write."
)

TASKS = (100, 1000)
SHOTS = (5, 10)
VALIDATION_TASKS = 200

# Entries of a report that must be equal if runs are added to it.
CONFIGURATION = ("updates", "test_tasks", "inner_rates")

# Entries of a run that the table shows.
METRICS = ("mse", "mse_of_samples", "nll")

# Inner learning rates to try. BMAML's objective is a sum, those of the others
# are means.
RATES = (0.003, 0.01, 0.03, 0.1)
BMAML_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
RATES_UPDATES = 2000


def predict(
  learner: tfmeta.MetaLearner, split: str, shots: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Predicts the query targets of held-out tasks.

  Args:
    learner: A trained learner.
    split: `"validation"` or `"test"`.
    shots: Support points of a task.
    count: Number of tasks T.

  Returns:
    Targets `[T, n]`, outputs of all samples `[T, M, n]`, and the standard
    deviations of the learner's own noise `[T, M]`.
  """
  tasks = bmaml_sinusoids.held_out_tasks(split, shots, count)
  keys = ("support_x", "support_y", "query_x")
  outputs, noise = sampled_predictions.predict_functions(
    learner, *(tasks[key] for key in keys)
  )
  return tasks["query_y"][..., 0], outputs, noise


def run(name: str, tasks: int, shots: int, seed: int) -> dict[str, float]:
  """Trains a learner and returns its errors and likelihoods on test tasks."""
  learner = bmaml_sinusoids.train(
    name, tasks, shots, seed=seed, updates=_UPDATES.value
  )
  validation = predict(learner, "validation", shots, VALIDATION_TASKS)
  noise = sampled_predictions.choose_noise(*validation[:2])
  targets, outputs, own_noise = predict(
    learner, "test", shots, _TEST_TASKS.value
  )
  found = {
    "mse": sampled_predictions.squared_error(targets, outputs),
    "mse_of_samples": float(np.mean((targets[:, np.newaxis] - outputs) ** 2)),
    "nll": sampled_predictions.mixture_loss(targets, outputs, noise),
    "noise": noise,
  }
  if name == "BMAML":
    found["nll_with_learned_noise"] = sampled_predictions.mixture_loss(
      targets, outputs, own_noise
    )
  return found


def try_rates() -> None:
  """Prints the validation error of each inner rate after a short training."""
  for name in bmaml_sinusoids.LEARNERS:
    for rate in BMAML_RATES if name == "BMAML" else RATES:
      learner = bmaml_sinusoids.train(
        name, TASKS[1], SHOTS[1], seed=0, updates=RATES_UPDATES, rate=rate
      )
      found = predict(learner, "validation", SHOTS[1], VALIDATION_TASKS)
      error = sampled_predictions.squared_error(*found[:2])
      print(f"{name:18} {rate:7} {error:.3f}", flush=True)
      keras.utils.clear_session()


def format_table(runs: dict[str, dict]) -> str:
  """Formats means over seeds with 95% intervals of Student's t."""
  lines = [
    "tasks  shots  learner             squared error    of samples      NLL"
  ]
  for tasks, shots, name in itertools.product(
    TASKS, SHOTS, bmaml_sinusoids.LEARNERS
  ):
    found = [
      runs[key]
      for seed in range(_SEEDS.value)
      if (key := f"{name}/{tasks}/{shots}/{seed}") in runs
    ]
    cells = [
      _format_cell([entry[metric] for entry in found]) for metric in METRICS
    ]
    lines.append(f"{tasks:5}  {shots:5}  {name:18}  " + "  ".join(cells))
  return "\n".join(lines)


def _format_cell(values: list[float]) -> str:
  # Quantiles of Student's t by the number of seeds.
  quantile = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(values), 1.96)
  spread = np.std(values, ddof=1) if len(values) > 1 else math.nan
  width = quantile * spread / math.sqrt(len(values))
  return f"{np.mean(values):7.3f} +- {width:6.3f}"


def load_report(output: pathlib.Path) -> dict:
  """Returns the report to continue, or a new one.

  The command ends if the runs in the file had another configuration.
  """
  report = {
    "command": reports.command("particles"),
    "updates": _UPDATES.value,
    "test_tasks": _TEST_TASKS.value,
    "inner_rates": bmaml_sinusoids.RATES,
    "runs": {},
  }
  if output.exists():
    before = json.loads(output.read_text())
    there = {key: before[key] for key in CONFIGURATION}
    here = {key: report[key] for key in CONFIGURATION}
    if there != here:
      sys.exit(
        f"The runs in {output} had {there}; remove the file or choose another "
        f"--output. Received: {here}"
      )
    report["runs"] = before["runs"]
  return report


def compare() -> None:
  """Does the runs that the report lacks and prints the table."""
  output = pathlib.Path(_OUTPUT.value)
  report = load_report(output)
  for seed, tasks, shots, name in itertools.product(
    range(_SEEDS.value), TASKS, SHOTS, bmaml_sinusoids.LEARNERS
  ):
    key = f"{name}/{tasks}/{shots}/{seed}"
    if key not in report["runs"]:
      report["runs"][key] = run(name, tasks, shots, seed)
      print(key, report["runs"][key], flush=True)
      reports.write(output, report)
      keras.utils.clear_session()
  print(format_table(report["runs"]))


def main(_) -> None:
  """Compares the learners, or tries inner rates if `--rates` is set."""
  if _RATES.value:
    try_rates()
  else:
    compare()


if __name__ == "__main__":
  app.run(main)
