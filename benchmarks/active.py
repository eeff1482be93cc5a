"""Measures active learning on sinusoids: asking where samples disagree most.

  python -m benchmarks.active

Learners that predict with several samples train on sinusoids whose amplitude,
phase and frequency vary. For each test function they first see 3 points. They
then ask for 7 more points, one after another, out of a pool of 60: either the
point at which the variance of their samples is largest, or a random point.

The command writes the squared error by the number of known points, as a mean
over test functions, to `benchmarks/results/active.json` and `.png`.
"""

import pathlib

from absl import app
from absl import flags
from matplotlib import figure
import numpy as np

from benchmarks.shared import bmaml_sinusoids
from benchmarks.shared import reports
from benchmarks.shared import sampled_predictions
import tfmeta

_UPDATES = flags.DEFINE_integer("updates", 5000, "Updates of each learner.")
_FUNCTIONS = flags.DEFINE_integer("functions", 300, "Number of test functions.")
_OUTPUT = flags.DEFINE_string(
  "output",
  "benchmarks/results/active",
  "File to write, without the endings .json and .png.",
)

FIRST_POINTS, QUESTIONS, POOL = 3, 7, 60
LEARNERS = ("EMAML", "BMAML", "PLATIPUS")
TRAINING_TASKS, SHOTS = 1000, 5

# Labels of the two ways to choose the next point, and whether the learner asks.
CHOICES = {"most uncertain point": True, "random point": False}
COLORS = {"most uncertain point": "C3", "random point": "0.5"}


def measure_errors(
  learner: tfmeta.MetaLearner, tasks: dict[str, np.ndarray], *, asks: bool
) -> np.ndarray:
  """Returns squared errors `[T, QUESTIONS + 1]` as more points become known.

  Args:
    learner: A trained learner.
    tasks: Test functions; their support sets are the pools to choose from.
    asks: Whether the learner chooses the points. Otherwise they are random.
  """
  pool_x, pool_y = tasks["support_x"], tasks["support_y"]
  predicted_x = np.concatenate([pool_x, tasks["query_x"]], axis=1)
  random = np.random.default_rng(0)
  known = np.zeros(pool_x.shape[:2], bool)
  known[:, :FIRST_POINTS] = True
  errors = []
  for count in range(FIRST_POINTS, FIRST_POINTS + QUESTIONS + 1):
    # All functions have the same number of known points, so indices stack.
    indices = np.stack([np.flatnonzero(one) for one in known])[..., np.newaxis]
    support = [np.take_along_axis(t, indices, axis=1) for t in (pool_x, pool_y)]
    outputs, _ = sampled_predictions.predict_functions(
      learner, *support, predicted_x
    )
    residuals = outputs[..., POOL:].mean(axis=1) - tasks["query_y"][..., 0]
    errors.append(np.mean(residuals**2, axis=1))
    if count < FIRST_POINTS + QUESTIONS:
      variance = outputs[..., :POOL].var(axis=1)
      score = variance if asks else random.random(known.shape)
      # Scores are not negative, so a known point is never chosen again.
      chosen = np.where(known, -1.0, score).argmax(axis=1)
      known[np.arange(len(known)), chosen] = True
  return np.stack(errors, axis=1)


def run(name: str, tasks: dict[str, np.ndarray]) -> dict[str, dict]:
  """Trains a learner and returns its two error curves."""
  learner = bmaml_sinusoids.train(
    name, TRAINING_TASKS, SHOTS, seed=0, updates=_UPDATES.value
  )
  curves = {}
  for label, asks in CHOICES.items():
    errors = measure_errors(learner, tasks, asks=asks)
    mean, interval = tfmeta.metrics.mean_and_interval(errors)
    curves[label] = {"mean": mean.tolist(), "interval": interval.tolist()}
    print(f"{name:10} {label:22}", *(f"{m:.3f}" for m in mean), flush=True)
  return curves


def plot(runs: dict[str, dict], functions: int, path: pathlib.Path) -> None:
  """Plots the error curves of each learner.

  Args:
    runs: The results of `run`, by learner.
    functions: Number of test functions.
    path: PNG file to write.
  """
  canvas = figure.Figure(figsize=(4 * len(runs), 3.9), layout="constrained")
  grid = canvas.subplots(1, len(runs), sharey=True, squeeze=False)[0]
  points = np.arange(FIRST_POINTS, FIRST_POINTS + QUESTIONS + 1)
  for axes, (name, curves) in zip(grid, runs.items(), strict=True):
    for label, curve in curves.items():
      mean, interval = np.array(curve["mean"]), np.array(curve["interval"])
      axes.plot(points, mean, "o-", color=COLORS[label], label=label)
      axes.fill_between(
        points,
        mean - interval,
        mean + interval,
        color=COLORS[label],
        alpha=0.2,
      )
    axes.set(title=name, xlabel="known points", ylim=(0, None))
    axes.grid(alpha=0.3)
  grid[0].set_ylabel("mean squared error")
  grid[0].legend(title="next point")
  canvas.suptitle(
    f"Error as points become known, {functions} test functions, 95% interval"
  )
  canvas.savefig(path, dpi=120)


def main(_) -> None:
  """Runs all learners and writes JSON and plots."""
  output = pathlib.Path(_OUTPUT.value)
  tasks = bmaml_sinusoids.held_out_tasks("test", POOL, _FUNCTIONS.value)
  report = {
    "command": reports.command("active"),
    "updates": _UPDATES.value,
    "functions": _FUNCTIONS.value,
    "runs": {name: run(name, tasks) for name in LEARNERS},
  }
  reports.write(output.with_suffix(".json"), report)
  plot(report["runs"], report["functions"], output.with_suffix(".png"))


if __name__ == "__main__":
  app.run(main)
