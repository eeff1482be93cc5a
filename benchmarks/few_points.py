"""Samples functions for 1 to 10 points of a sinusoid or of a line.

  python -m benchmarks.few_points

PLATIPUS is compared with two MAMLs that have noise in their initial weights,
with the standard deviations that PLATIPUS learned for its prior. All follow
the sum of the losses of the points, so more points push harder. One of them
was trained without that noise, the other with it. All have the same network,
tasks and updates. MAML has one inner step more, because PLATIPUS shifts its
prior by a gradient step. Batches have 1, 2, 5 or 10 support points in turn.
Targets are in units of the largest amplitude, and their noise is 0.06.

The command answers four questions:

- Do samples differ more far from the points than near to them?
- Do they differ less with more points?
- Are both families among 20 samples for two points that fit both?
- Are test tasks more likely than under MAML with noise, at the same error?

The noise around a sample, which likelihoods need, is chosen on validation tasks
for each learner and number of points. Differences between learners are paired
over tasks and have 95% intervals. The command writes
`benchmarks/results/few_points.json` and prints a table.
"""

import pathlib
from typing import Any

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared import noisy_maml
from benchmarks.shared import reports
from benchmarks.shared import sampled_predictions
import tfmeta

_UPDATES = flags.DEFINE_integer("updates", 10_000, "Updates of each learner.")
_RATE = flags.DEFINE_float(
  "inner_learning_rate",
  0.003,
  "Inner learning rate of all learners, for the sum over the points.",
)
_TEST_TASKS = flags.DEFINE_integer(
  "test_tasks", 500, "Test tasks for each number of points."
)
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/few_points.json", "JSON file to write."
)

SHOTS = (1, 2, 5, 10)
SAMPLES = 20
VALIDATION_TASKS = 200
META_BATCH = 25

# Arguments of `tfmeta.data.sinusoid_or_line`.
RANGES = {
  "amplitude": (0.1, 1.0),
  "slope": (-0.6, 0.6),
  "intercept": (-0.6, 0.6),
  "noise_stddev": 0.06,
}

# A `kl_weight` of 4e-4, the only other one that was tried, was worse on
# validation tasks.
PRIOR = {
  "kl_weight": 1e-2,
  "initial_scale": 0.1,
  "initial_prior_rate": 0.002,
  "initial_posterior_rate": 0.002,
}
STEPS = 4
GRID = np.linspace(-5, 5, 101, dtype="float32")[:, np.newaxis]

# Two points that fit the line 0.5 x and a sinusoid through the origin.
AMBIGUOUS = (
  np.array([[-0.4], [0.4]], "float32"),
  np.array([[-0.2], [0.2]], "float32"),
)


def make_tasks(split: str, shots: int, seed: int = 0) -> tf.data.Dataset:
  """Returns an infinite data set of tasks."""
  queries = 20 if split == "train" else 50
  spec = tfmeta.TaskSpec(shots=shots, query_shots=queries)
  return tfmeta.data.sinusoid_or_line(split, spec, seed=seed, **RANGES)


def train(learner: tfmeta.MetaLearner) -> tfmeta.MetaLearner:
  """Trains and returns `learner`."""
  rate = keras.optimizers.schedules.CosineDecay(2e-3, _UPDATES.value)
  learner.compile(
    keras.optimizers.Adam(rate, clipnorm=1.0), steps_per_execution=100
  )
  by_shots = [
    make_tasks("train", shots, seed).batch(META_BATCH)
    for seed, shots in enumerate(SHOTS)
  ]
  turns = tf.data.Dataset.range(len(SHOTS)).repeat()
  learner.fit(
    tf.data.Dataset.choose_from_datasets(by_shots, turns).prefetch(2),
    steps_per_epoch=_UPDATES.value,
    verbose=0,
  )
  return learner


def inner_options() -> dict[str, Any]:
  """Returns the constructor arguments that all learners share."""
  return {
    "inner_loss": "mse",
    "inner_loss_reduction": "sum",
    "inner_learning_rate": _RATE.value,
  }


def make_network() -> keras.Model:
  """Returns a new network with the hidden layers of the PLATIPUS paper.

  Its initial weights are the same in every call.
  """
  keras.utils.set_random_seed(0)
  return tfmeta.models.mlp((1,), outputs=1, hidden=(100, 100, 100))


def train_platipus() -> tfmeta.PLATIPUS:
  """Returns a trained PLATIPUS."""
  learner = tfmeta.PLATIPUS(
    make_network(),
    inner_steps=STEPS,
    num_samples=SAMPLES,
    **inner_options(),
    **PRIOR,
  )
  return train(learner)


def maml_with_noise_of(
  platipus: tfmeta.PLATIPUS, initial_from: tfmeta.MAML | None = None
) -> tfmeta.PLATIPUS:
  """Returns a MAML with constant noise in its initial weights.

  Args:
    platipus: Learner whose prior gives the standard deviations of the noise.
    initial_from: MAML trained without noise that gives the means. Without it,
      the result is untrained.
  """
  return noisy_maml.make(
    platipus,
    make_network(),
    inner_steps=STEPS + 1,
    initial_from=initial_from,
    num_samples=SAMPLES,
    **inner_options(),
  )


def held_out_tasks(shots: int) -> dict[str, np.ndarray]:
  """Returns the arrays of validation tasks followed by those of test tasks."""
  counts = {"validation": VALIDATION_TASKS, "test": _TEST_TASKS.value}
  parts = []
  for split, count in counts.items():
    inputs, query_y = next(iter(make_tasks(split, shots).batch(count)))
    parts.append({**inputs, "query_y": query_y})
  return {
    key: np.concatenate([part[key] for part in parts]) for key in parts[0]
  }


def measure(learner: tfmeta.MetaLearner, shots: int) -> dict[str, Any]:
  """Returns the results on test tasks; lists have one number per task."""
  arrays = held_out_tasks(shots)
  queries = arrays["query_x"].shape[1]
  grid = np.broadcast_to(GRID, (len(arrays["query_x"]), *GRID.shape))
  # The grid is predicted in the same call as the queries, so that both have
  # the same samples.
  outputs, _ = sampled_predictions.predict_functions(
    learner,
    arrays["support_x"],
    arrays["support_y"],
    np.concatenate([arrays["query_x"], grid], axis=1),
  )
  targets = arrays["query_y"][..., 0]
  validation, test = slice(VALIDATION_TASKS), slice(VALIDATION_TASKS, None)
  noise = sampled_predictions.choose_noise(
    targets[validation], outputs[validation, :, :queries], scale=1.0
  )
  predicted = outputs[test, :, :queries]
  errors = (targets[test] - predicted.mean(axis=1)) ** 2
  return {
    **sampled_predictions.spread_by_distance(
      outputs[test, :, queries:], GRID, arrays["support_x"][test]
    ),
    "noise": noise,
    "mse": np.mean(errors, axis=1).tolist(),
    "nll": sampled_predictions.mixture_losses(
      targets[test], predicted, noise
    ).tolist(),
  }


def count_families(learner: tfmeta.MetaLearner) -> dict[str, int]:
  """Returns how many samples for the two points belong to each family.

  A sample belongs to one family if the best function of that family fits it
  with less than half the error of the best function of the other. Sinusoids
  have the period 2 pi.
  """
  outputs, _ = sampled_predictions.predict_functions(
    learner, *(part[np.newaxis] for part in (*AMBIGUOUS, GRID))
  )
  x = GRID[:, 0]
  bases = {
    "line": np.stack([np.ones_like(x), x], axis=1),
    "sinusoid": np.stack([np.sin(x), np.cos(x)], axis=1),
  }
  errors = {}
  for name, basis in bases.items():
    fitted = basis @ np.linalg.lstsq(basis, outputs[0].T, rcond=None)[0]
    errors[name] = np.mean((outputs[0].T - fitted) ** 2, axis=0)
  line, sinusoid = errors.values()
  return {
    "line": int(np.sum(line < sinusoid / 2)),
    "sinusoid": int(np.sum(sinusoid < line / 2)),
  }


def summarize(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Returns means over tasks and PLATIPUS's differences from the others.

  Args:
    runs: For each learner, its `families` and the results of `measure` by
      number of points.
  """
  summary = {}
  for name, by_shots in runs.items():
    summary[name] = {"families": by_shots["families"]}
    for shots in map(str, SHOTS):
      entry = dict(by_shots[shots])
      for metric in ("mse", "nll"):
        values = by_shots[shots][metric]
        entry[metric] = float(np.mean(values))
        entry[f"median_{metric}"] = float(np.median(values))
        if name != "PLATIPUS":
          ours = runs["PLATIPUS"][shots][metric]
          entry |= _compare(metric, ours, values)
      summary[name][shots] = entry
  return summary


def _compare(
  metric: str, ours: list[float], theirs: list[float]
) -> dict[str, Any]:
  """Returns the paired difference with its interval, and how often it helps."""
  difference = tfmeta.metrics.mean_and_interval(np.subtract(ours, theirs))
  return {
    f"{metric}_of_platipus_less_this": [float(part) for part in difference],
    f"share_of_tasks_where_platipus_has_less_{metric}": float(
      np.mean(np.less(ours, theirs))
    ),
  }


def format_table(summary: dict[str, Any]) -> str:
  """Formats a line for each learner and number of points."""
  lines = [f"{'':26} points    mse     nll (medians)   near    far  everywhere"]
  for name, by_shots in summary.items():
    for shots in map(str, SHOTS):
      entry = by_shots[shots]
      far = "    -" if entry["far"] is None else f"{entry['far']:.3f}"
      lines.append(
        f"{name:26} {shots:>6} {entry['mse']:6.3g} {entry['nll']:7.3g} "
        f"({entry['median_mse']:.3f} {entry['median_nll']:6.3f})  "
        f"{entry['near']:.3f}  {far}  {entry['everywhere']:.3f}"
      )
    lines.append(f"{name:26} families for two points: {by_shots['families']}")
  return "\n".join(lines)


def main(_) -> None:
  """Trains and measures the three learners and writes JSON."""
  platipus = train_platipus()
  maml = train(
    tfmeta.MAML(make_network(), inner_steps=STEPS + 1, **inner_options())
  )
  learners = {
    "PLATIPUS": platipus,
    "MAML, noise put in": maml_with_noise_of(platipus, maml),
    "MAML, trained with noise": train(maml_with_noise_of(platipus)),
  }
  runs = {
    name: {
      **{str(shots): measure(learner, shots) for shots in SHOTS},
      "families": count_families(learner),
    }
    for name, learner in learners.items()
  }
  report = {
    "command": reports.command("few_points", hide=("--output",)),
    "updates": _UPDATES.value,
    "test_tasks": _TEST_TASKS.value,
    "configuration": {
      **inner_options(),
      **PRIOR,
      "inner_steps": STEPS,
      "samples": SAMPLES,
    },
    "runs": summarize(runs),
  }
  reports.write(pathlib.Path(_OUTPUT.value), report)
  print(format_table(report["runs"]))


if __name__ == "__main__":
  app.run(main)
