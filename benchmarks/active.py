"""Active learning on sinusoids: asking where the draws disagree most.

  python -m benchmarks.active

Learners that predict with several draws are trained on sinusoids (amplitude,
phase and frequency vary). Of a test function they first see 3 points, and then
ask for one after the other, out of 60: the one at which the variance of their
draws is largest, or any. The squared error by the number of points, as a mean
over test functions, goes to `benchmarks/results/active.json` and `.png`.
"""

import json
import pathlib
import sys

from absl import app
from absl import flags
from matplotlib import figure
import numpy as np

from benchmarks.shared import bmaml_sinusoids
from benchmarks.shared import sampled_predictions
import tfmeta

_UPDATES = flags.DEFINE_integer("updates", 5000, "Of each learner.")
_TEST_TASKS = flags.DEFINE_integer("functions", 300, "Test functions.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/active", "Written: this .json and .png."
)

FIRST, QUESTIONS, POOL = 3, 7, 60
LEARNERS = ("EMAML", "BMAML", "PLATIPUS")
TRAINING_TASKS, SHOTS = 1000, 5


def errors(
  learner: tfmeta.MetaLearner, tasks: dict[str, np.ndarray], *, asks: bool
) -> np.ndarray:
  """Squared errors `[T, QUESTIONS + 1]` as more points become known."""
  pool_x, pool_y = tasks["support_x"], tasks["support_y"]
  seen_x = np.concatenate([pool_x, tasks["query_x"]], axis=1)
  random = np.random.default_rng(0)
  known = np.zeros(pool_x.shape[:2], bool)
  known[:, :FIRST] = True
  found = []
  for count in range(FIRST, FIRST + QUESTIONS + 1):
    rows = np.stack([np.flatnonzero(one) for one in known])[..., np.newaxis]
    support = [np.take_along_axis(t, rows, axis=1) for t in (pool_x, pool_y)]
    outputs, _ = sampled_predictions.outputs_of(learner, *support, seen_x)
    away = outputs[..., POOL:].mean(axis=1) - tasks["query_y"][..., 0]
    found.append(np.mean(away**2, axis=1))
    if count < FIRST + QUESTIONS:
      variance = outputs[..., :POOL].var(axis=1)
      worth = variance if asks else random.random(known.shape)
      next_row = np.where(known, -1.0, worth).argmax(axis=1)
      known[np.arange(len(known)), next_row] = True
  return np.stack(found, axis=1)


def draw(runs: dict[str, dict], path: pathlib.Path) -> None:
  """Error curves, a plot for each learner."""
  canvas = figure.Figure(figsize=(4 * len(runs), 3.6), layout="constrained")
  grid = canvas.subplots(1, len(runs), sharey=True, squeeze=False)[0]
  points = np.arange(FIRST, FIRST + QUESTIONS + 1)
  for axes, (name, curves) in zip(grid, runs.items(), strict=True):
    for (label, curve), color in zip(
      curves.items(), ("C3", "0.5"), strict=True
    ):
      mean, interval = np.array(curve["mean"]), np.array(curve["interval"])
      axes.plot(points, mean, "o-", color=color, label=label)
      axes.fill_between(
        points, mean - interval, mean + interval, color=color, alpha=0.2
      )
    axes.set(title=name, xlabel="points known", ylim=(0, None))
    axes.grid(alpha=0.3)
  grid[0].set_ylabel("squared error")
  grid[0].legend()
  canvas.savefig(path, dpi=120)


def run(name: str, tasks: dict[str, np.ndarray]) -> dict[str, dict]:
  """Trains a learner; its two error curves."""
  learner = bmaml_sinusoids.train(
    name, TRAINING_TASKS, SHOTS, seed=0, updates=_UPDATES.value
  )
  curves = {}
  for label, asks in (("the most uncertain point", True), ("any point", False)):
    values = errors(learner, tasks, asks=asks)
    mean, interval = tfmeta.metrics.mean_and_interval(values)
    curves[label] = {"mean": mean.tolist(), "interval": interval.tolist()}
    print(f"{name:10} {label:26}", *(f"{m:.3f}" for m in mean), flush=True)
  return curves


def main(_) -> None:
  """Runs all learners."""
  output = pathlib.Path(_OUTPUT.value)
  tasks = bmaml_sinusoids.held_out("test", POOL, _TEST_TASKS.value)
  report = {
    "command": " ".join(["python -m benchmarks.active", *sys.argv[1:]]),
    "updates": _UPDATES.value,
    "functions": _TEST_TASKS.value,
    "runs": {name: run(name, tasks) for name in LEARNERS},
  }
  output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
  draw(report["runs"], output.with_suffix(".png"))


if __name__ == "__main__":
  app.run(main)
