"""Functions drawn for five noisy points of a sinusoid or of a line.

  python -m benchmarks.sampled_functions

MAML, PLATIPUS, EMAML and BMAML train on tasks that are sinusoids or lines, with
noise of 0.3, so that five points often fit both. For test tasks, the error and
the likelihood are measured, with a noise around each draw that is chosen on
validation tasks, and how far draws are apart near the five points (within 0.5)
and far from them (2 and more): honest ones differ where nothing is known.
`benchmarks/results/sampled_functions.json` and `.png` are written.
"""

import json
import pathlib
import sys

from absl import app
from absl import flags
import keras
from matplotlib import figure
import numpy as np
import tensorflow as tf

from benchmarks.shared import sampled_predictions
import tfmeta

_UPDATES = flags.DEFINE_integer("updates", 3000, "Of each learner.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 300, "Tasks at the end.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/sampled_functions", "Written: .json and .png."
)

DRAWS = 5
NOISE = 0.3
META_BATCH = 25
GRID = np.linspace(-5, 5, 101, dtype="float32")[:, np.newaxis]
NEAR, FAR = 0.5, 2.0
SHOWN = (0, 1, 2, 3)  # Of the test tasks.
LEARNERS = {
  "MAML": (tfmeta.MAML, {"inner_learning_rate": 0.001}),
  "PLATIPUS": (
    tfmeta.PLATIPUS,
    {
      "inner_learning_rate": 0.001,
      "num_samples": DRAWS,
      "initial_scale": 0.1,
      "kl_weight": 0.01,
      "noise_stddev": NOISE,
    },
  ),
  "EMAML": (
    tfmeta.EMAML,
    {
      "inner_learning_rate": 0.001,
      "num_particles": DRAWS,
      "noise_stddev": NOISE,
    },
  ),
  "BMAML": (
    tfmeta.BMAML,
    {"inner_learning_rate": 1e-5, "num_particles": DRAWS, "meta_loss": "nll"},
  ),
}


def tasks(split: str) -> tf.data.Dataset:
  """Tasks of a split, without end."""
  spec = tfmeta.TaskSpec(shots=5, query_shots=20 if split == "train" else 100)
  return tfmeta.data.sinusoid_or_line(split, spec, seed=0, noise_stddev=NOISE)


def train(name: str) -> tfmeta.MetaLearner:
  """A learner after all its updates."""
  learner_class, options = LEARNERS[name]
  keras.utils.set_random_seed(0)
  model = tfmeta.models.mlp((1,), outputs=1, hidden=(40, 40, 40))
  learner = learner_class(model, inner_loss="mse", inner_steps=5, **options)
  rate = keras.optimizers.schedules.CosineDecay(1e-3, _UPDATES.value)
  learner.compile(
    keras.optimizers.Adam(rate, clipvalue=10.0), steps_per_execution=100
  )
  learner.fit(
    tasks("train").batch(META_BATCH).prefetch(2),
    steps_per_epoch=_UPDATES.value,
    verbose=0,
  )
  return learner


def spreads(drawn: np.ndarray, support_x: np.ndarray) -> dict[str, float]:
  """Mean standard deviation of draws near to support points and far."""
  distance = np.abs(GRID[:, 0] - support_x).min(axis=1)  # [T, 101]
  deviation = drawn.std(axis=1)
  return {
    "near": float(deviation[distance <= NEAR].mean()),
    "far": float(deviation[distance >= FAR].mean()),
  }


def draw(shown: dict[str, np.ndarray], batch, path: pathlib.Path) -> None:
  """A row for each task, a column for each learner."""
  inputs, query_y = batch
  canvas = figure.Figure(
    figsize=(3.6 * len(shown), 2.5 * len(SHOWN)), layout="constrained"
  )
  grid = canvas.subplots(
    len(SHOWN), len(shown), sharex=True, sharey="row", squeeze=False
  )
  for column, (name, drawn) in enumerate(shown.items()):
    grid[0, column].set_title(name)
    for row, number in enumerate(SHOWN):
      axes = grid[row, column]
      axes.plot(inputs["query_x"][number], query_y[number], ".", color="0.8")
      axes.plot(GRID, drawn[number].T, color="C0", linewidth=0.9, alpha=0.7)
      axes.plot(
        inputs["support_x"][number],
        inputs["support_y"][number],
        "^",
        color="C3",
      )
      axes.grid(alpha=0.3)
  canvas.suptitle(
    "five noisy points (red) of a sinusoid or a line (grey), and all draws"
  )
  canvas.savefig(path, dpi=110)


def predicted(learner: tfmeta.MetaLearner, batch):
  """Targets `[T, n]` and outputs of draws `[T, M, n]` for the queries."""
  inputs, query_y = batch
  keys = ("support_x", "support_y", "query_x")
  outputs, _ = sampled_predictions.outputs_of(
    learner, *(inputs[key].numpy() for key in keys)
  )
  return query_y.numpy()[..., 0], outputs


def measure(learner: tfmeta.MetaLearner, validation, test) -> dict[str, float]:
  """Error, and likelihood under the noise that is best on validation tasks.

  Also that of the mean of the draws, under its own: what draws are good for.
  """
  seen, (targets, outputs) = (predicted(learner, b) for b in (validation, test))
  errors = np.mean((targets - outputs.mean(axis=1)) ** 2, axis=1)
  mean, interval = tfmeta.metrics.mean_and_interval(errors)
  noise = sampled_predictions.chosen_noise(*seen)
  single = seen[0], seen[1].mean(axis=1, keepdims=True)
  noise_of_mean = sampled_predictions.chosen_noise(*single)
  return {
    "mse": float(mean),
    "interval": float(interval),
    "nll": sampled_predictions.mixture_loss(targets, outputs, noise),
    "noise": noise,
    "nll_of_mean": sampled_predictions.mixture_loss(
      targets, outputs.mean(axis=1, keepdims=True), noise_of_mean
    ),
    "noise_of_mean": noise_of_mean,
  }


def main(_) -> None:
  """Trains, measures and draws all learners."""
  output = pathlib.Path(_OUTPUT.value)
  count = _TEST_TASKS.value
  validation, test = (
    next(iter(tasks(split).batch(count))) for split in ("validation", "test")
  )
  report = {
    "command": " ".join(
      ["python -m benchmarks.sampled_functions", *sys.argv[1:]]
    ),
    "updates": _UPDATES.value,
    "test_tasks": count,
    "runs": {},
  }
  shown = {}
  for name in LEARNERS:
    learner = train(name)
    support = [test[0][key].numpy() for key in ("support_x", "support_y")]
    at = np.broadcast_to(GRID, (count, *GRID.shape))
    shown[name], _ = sampled_predictions.outputs_of(learner, *support, at)
    report["runs"][name] = {
      **measure(learner, validation, test),
      **spreads(shown[name], support[0]),
    }
    print(name, report["runs"][name], flush=True)
  output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
  draw(shown, test, output.with_suffix(".png"))


if __name__ == "__main__":
  app.run(main)
