"""Samples functions for five noisy points of a sinusoid or of a line.

  python -m benchmarks.sampled_functions

MAML, PLATIPUS, EMAML and BMAML train on tasks that are sinusoids or lines with
noise of 0.3, so that five points often fit both. The command measures, on test
tasks,

- the squared error and the likelihood, with a noise around each sample that is
  chosen on validation tasks, and
- how far samples differ near the five points (within 0.5) and far from them (2
  or more). Samples should differ where nothing is known.

It writes `benchmarks/results/sampled_functions.json` and `.png`.
"""

import pathlib

from absl import app
from absl import flags
import keras
from matplotlib import figure
import numpy as np
import tensorflow as tf

from benchmarks.shared import reports
from benchmarks.shared import sampled_predictions
import tfmeta

_UPDATES = flags.DEFINE_integer("updates", 3000, "Updates of each learner.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 300, "Number of test tasks.")
_OUTPUT = flags.DEFINE_string(
  "output",
  "benchmarks/results/sampled_functions",
  "File to write, without the endings .json and .png.",
)

SAMPLES = 5
NOISE = 0.3
META_BATCH = 25
GRID = np.linspace(-5, 5, 101, dtype="float32")[:, np.newaxis]

# Indices of the test tasks in the plot.
SHOWN = (0, 1, 2, 3)

LEARNERS = {
  "MAML": (tfmeta.MAML, {"inner_learning_rate": 0.001}),
  "PLATIPUS": (
    tfmeta.PLATIPUS,
    {
      "inner_learning_rate": 0.001,
      "inner_loss_reduction": "mean",
      "initial_prior_rate": 0.01,
      "initial_posterior_rate": 0.01,
      "num_samples": SAMPLES,
      "initial_scale": 0.1,
      "kl_weight": 0.01,
      "noise_stddev": NOISE,
    },
  ),
  "EMAML": (
    tfmeta.EMAML,
    {
      "inner_learning_rate": 0.001,
      "num_particles": SAMPLES,
      "noise_stddev": NOISE,
    },
  ),
  "BMAML": (
    tfmeta.BMAML,
    {"inner_learning_rate": 1e-5, "num_particles": SAMPLES, "meta_loss": "nll"},
  ),
}


def make_tasks(split: str) -> tf.data.Dataset:
  """Returns an infinite data set of tasks."""
  spec = tfmeta.TaskSpec(shots=5, query_shots=20 if split == "train" else 100)
  return tfmeta.data.sinusoid_or_line(split, spec, seed=0, noise_stddev=NOISE)


def train(name: str) -> tfmeta.MetaLearner:
  """Returns a trained learner."""
  learner_class, options = LEARNERS[name]
  keras.utils.set_random_seed(0)
  model = tfmeta.models.mlp((1,), outputs=1, hidden=(40, 40, 40))
  learner = learner_class(model, inner_loss="mse", inner_steps=5, **options)
  rate = keras.optimizers.schedules.CosineDecay(1e-3, _UPDATES.value)
  learner.compile(
    keras.optimizers.Adam(rate, clipvalue=10.0), steps_per_execution=100
  )
  learner.fit(
    make_tasks("train").batch(META_BATCH).prefetch(2),
    steps_per_epoch=_UPDATES.value,
    verbose=0,
  )
  return learner


def predict(learner: tfmeta.MetaLearner, batch):
  """Returns query targets `[T, n]` and outputs of all samples `[T, M, n]`."""
  inputs, query_y = batch
  keys = ("support_x", "support_y", "query_x")
  outputs, _ = sampled_predictions.predict_functions(
    learner, *(inputs[key].numpy() for key in keys)
  )
  return query_y.numpy()[..., 0], outputs


def measure(learner: tfmeta.MetaLearner, validation, test) -> dict[str, float]:
  """Returns the errors and likelihoods of a learner on test tasks.

  The mean over samples is scored like a single sample, with a noise of its own.
  The difference between both likelihoods shows what the samples add.

  Args:
    learner: A trained learner.
    validation: Batch of tasks on which the noise is chosen.
    test: Batch of tasks to measure on.
  """
  seen = predict(learner, validation)
  targets, outputs = predict(learner, test)
  errors = np.mean((targets - outputs.mean(axis=1)) ** 2, axis=1)
  mean, interval = tfmeta.metrics.mean_and_interval(errors)
  noise = sampled_predictions.choose_noise(*seen)
  noise_of_mean = sampled_predictions.choose_noise(
    seen[0], seen[1].mean(axis=1, keepdims=True)
  )
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


def plot(functions: dict[str, np.ndarray], batch, path: pathlib.Path) -> None:
  """Plots all samples, with a row for each task and a column for each learner.

  Args:
    functions: Outputs on the grid `[T, M, 101]`, by learner.
    batch: The test tasks.
    path: PNG file to write.
  """
  inputs, query_y = batch
  canvas = figure.Figure(
    figsize=(3.6 * len(functions), 2.5 * len(SHOWN)), layout="constrained"
  )
  grid = canvas.subplots(
    len(SHOWN), len(functions), sharex=True, sharey="row", squeeze=False
  )
  for column, (name, outputs) in enumerate(functions.items()):
    grid[0, column].set_title(name)
    grid[-1, column].set_xlabel("x")
    for row, number in enumerate(SHOWN):
      axes = grid[row, column]
      axes.plot(inputs["query_x"][number], query_y[number], ".", color="0.8")
      axes.plot(GRID, outputs[number].T, color="C0", linewidth=0.9, alpha=0.7)
      axes.plot(
        inputs["support_x"][number],
        inputs["support_y"][number],
        "^",
        color="C3",
      )
      axes.grid(alpha=0.3)
  canvas.suptitle(
    "Functions that each learner samples (blue) for five noisy points (red) of "
    "a sinusoid or a line (gray)"
  )
  canvas.savefig(path, dpi=110)


def main(_) -> None:
  """Trains, measures and plots all learners."""
  output = pathlib.Path(_OUTPUT.value)
  count = _TEST_TASKS.value
  validation, test = (
    next(iter(make_tasks(split).batch(count)))
    for split in ("validation", "test")
  )
  report = {
    "command": reports.command("sampled_functions"),
    "updates": _UPDATES.value,
    "test_tasks": count,
    "runs": {},
  }
  functions = {}
  for name in LEARNERS:
    learner = train(name)
    support = [test[0][key].numpy() for key in ("support_x", "support_y")]
    x = np.broadcast_to(GRID, (count, *GRID.shape))
    outputs, _ = sampled_predictions.predict_functions(learner, *support, x)
    functions[name] = outputs
    report["runs"][name] = {
      **measure(learner, validation, test),
      **sampled_predictions.spread_by_distance(outputs, GRID, support[0]),
    }
    print(name, report["runs"][name], flush=True)
  reports.write(output.with_suffix(".json"), report)
  plot(functions, test, output.with_suffix(".png"))


if __name__ == "__main__":
  app.run(main)
