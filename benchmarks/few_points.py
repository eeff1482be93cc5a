"""Functions drawn for 1 to 10 points of a sinusoid or of a line.

  python -m benchmarks.few_points

PLATIPUS beside MAML with noise in its initial weights, of the very standard
deviations that PLATIPUS learned for its prior: put into a trained MAML, or
there all through its training. All have the same network, tasks and updates,
and MAML has an inner step more, for the step that shifts PLATIPUS's prior. A
batch has 1, 2, 5 or 10 support points, in turn. Numbers are in units of the
largest amplitude, of which noise is 0.06.

Four questions: are draws farther apart far from the points than near to them;
are they less so with more points; are both families among 20 draws for two
points that fit both; is the likelihood of test tasks better than with plain
noise, and the squared error as good (means over tasks, each with the 95 %
interval of the paired difference). The noise around a draw that likelihoods
take is chosen on validation tasks, for each learner and number of points.
`benchmarks/results/few_points.json` is written, and a table printed.
"""

import json
import pathlib
import sys
from typing import Any

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks import few_points_report
from benchmarks.shared import sampled_predictions
import tfmeta

_UPDATES = flags.DEFINE_integer("updates", 10_000, "Of each learner.")
_RATE = flags.DEFINE_float("inner_learning_rate", 0.01, "Of all learners.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 500, "For each of the shots.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/few_points.json", "Written."
)

SHOTS = (1, 2, 5, 10)
DRAWS = 20
VALIDATION_TASKS = 200
META_BATCH = 25
RANGES = {
  "amplitude": (0.1, 1.0),
  "slope": (-0.6, 0.6),
  "intercept": (-0.6, 0.6),
  "noise_stddev": 0.06,
}
# Better on validation tasks than a weight of 4e-4, the other that was tried.
PRIOR = {"kl_weight": 1e-2, "initial_scale": 0.1, "initial_shift_rate": 0.05}
STEPS = 4
GRID = np.linspace(-5, 5, 101, dtype="float32")[:, np.newaxis]
NEAR, FAR = 0.5, 2.0
# Of 0.5 x, and of a sinusoid through the origin.
AMBIGUOUS = (
  np.array([[-0.4], [0.4]], "float32"),
  np.array([[-0.2], [0.2]], "float32"),
)


def tasks(split: str, shots: int, seed: int = 0) -> tf.data.Dataset:
  """Tasks of a split, without end."""
  queries = 20 if split == "train" else 50
  spec = tfmeta.TaskSpec(shots=shots, query_shots=queries)
  return tfmeta.data.sinusoid_or_line(split, spec, seed=seed, **RANGES)


def train(learner: tfmeta.MetaLearner) -> tfmeta.MetaLearner:
  """The learner after all its updates."""
  rate = keras.optimizers.schedules.CosineDecay(2e-3, _UPDATES.value)
  learner.compile(
    keras.optimizers.Adam(rate, clipnorm=1.0), steps_per_execution=100
  )
  of_shots = [
    tasks("train", shots, seed).batch(META_BATCH)
    for seed, shots in enumerate(SHOTS)
  ]
  turns = tf.data.Dataset.range(len(SHOTS)).repeat()
  learner.fit(
    tf.data.Dataset.choose_from_datasets(of_shots, turns).prefetch(2),
    steps_per_epoch=_UPDATES.value,
    verbose=0,
  )
  return learner


def inner() -> dict[str, Any]:
  """What all learners have of the inner loop."""
  return {"inner_loss": "mse", "inner_learning_rate": _RATE.value}


def network() -> keras.Model:
  """A fresh network, the same for all, of the layers that the paper has."""
  keras.utils.set_random_seed(0)
  return tfmeta.models.mlp((1,), outputs=1, hidden=(100, 100, 100))


def platipus() -> tfmeta.PLATIPUS:
  """PLATIPUS, trained."""
  learner = tfmeta.PLATIPUS(
    network(), inner_steps=STEPS, num_samples=DRAWS, **inner(), **PRIOR
  )
  return train(learner)


def maml_with_noise_of(
  other: tfmeta.PLATIPUS, initial_from: tfmeta.MAML | None = None
) -> tfmeta.PLATIPUS:
  """MAML from initial weights with constant noise, that of a learned prior.

  It is a PLATIPUS whose means do not shift, whose scales are not learned and
  whose divergence does not count.

  Args:
    other: Whose noise it has.
    initial_from: Trained without noise; by default it has to be trained.
  """
  learner = tfmeta.PLATIPUS(
    network(),
    inner_steps=STEPS + 1,
    num_samples=DRAWS,
    kl_weight=0.0,
    initial_shift_rate=0.0,
    initial_from=initial_from,
    **inner(),
  )
  groups = (learner.prior_log_scales, learner.posterior_log_scales)
  for scales in groups:
    for own, learned in zip(scales, other.prior_log_scales, strict=True):
      own.assign(learned)
      own.trainable = False
  learner.prior_rate.trainable = learner.posterior_rate.trainable = False
  return learner


def held_out(shots: int) -> dict[str, np.ndarray]:
  """Arrays of validation tasks, and after them those of test tasks."""
  counts = {"validation": VALIDATION_TASKS, "test": _TEST_TASKS.value}
  parts = [
    next(iter(tasks(split, shots).batch(count)))
    for split, count in counts.items()
  ]
  inputs = [{**inputs, "query_y": query_y} for inputs, query_y in parts]
  return {k: np.concatenate([p[k] for p in inputs]) for k in inputs[0]}


def measure(learner: tfmeta.MetaLearner, shots: int) -> dict[str, Any]:
  """Figures on test tasks; lists have a number for each task."""
  arrays = held_out(shots)
  queries = arrays["query_x"].shape[1]
  grid = np.broadcast_to(GRID, (len(arrays["query_x"]), *GRID.shape))
  at = np.concatenate([arrays["query_x"], grid], axis=1)
  support = arrays["support_x"], arrays["support_y"]
  outputs, _ = sampled_predictions.outputs_of(learner, *support, at)
  targets = arrays["query_y"][..., 0]
  chosen, test = slice(VALIDATION_TASKS), slice(VALIDATION_TASKS, None)
  noise = sampled_predictions.chosen_noise(
    targets[chosen], outputs[chosen, :, :queries], scale=1.0
  )
  drawn = outputs[test, :, :queries]
  errors = (targets[test] - drawn.mean(axis=1)) ** 2
  return {
    **spreads(outputs[test, :, queries:], support[0][test]),
    "noise": noise,
    "mse": np.mean(errors, axis=1).tolist(),
    "nll": sampled_predictions.mixture_losses(
      targets[test], drawn, noise
    ).tolist(),
  }


def spreads(
  functions: np.ndarray, support_x: np.ndarray
) -> dict[str, float | None]:
  """Mean standard deviation of draws on the grid, near to points and far."""
  deviation = functions.std(axis=1)
  distance = np.abs(GRID[:, 0] - support_x).min(axis=1)
  far = deviation[distance >= FAR]
  return {
    "near": float(deviation[distance <= NEAR].mean()),
    "far": float(far.mean()) if len(far) else None,
    "everywhere": float(deviation.mean()),
  }


def families(learner: tfmeta.MetaLearner) -> dict[str, int]:
  """Of the draws for the two points, how many are clearly of each family.

  That is, the error of the best line is less than half of the error of the best
  sinusoid of period 2 pi, or the other way.
  """
  outputs, _ = sampled_predictions.outputs_of(
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


def main(_) -> None:
  """Trains and measures all three."""
  drawn = platipus()
  maml = train(tfmeta.MAML(network(), inner_steps=STEPS + 1, **inner()))
  learners = {
    "PLATIPUS": drawn,
    "MAML, noise put in": maml_with_noise_of(drawn, maml),
    "MAML, trained with noise": train(maml_with_noise_of(drawn)),
  }
  runs = {
    name: {
      **{str(shots): measure(learner, shots) for shots in SHOTS},
      "families": families(learner),
    }
    for name, learner in learners.items()
  }
  report = {
    "command": " ".join(["python -m benchmarks.few_points", *sys.argv[1:]]),
    "updates": _UPDATES.value,
    "test_tasks": _TEST_TASKS.value,
    "settings": {**inner(), **PRIOR, "inner_steps": STEPS, "draws": DRAWS},
    "runs": few_points_report.summary(runs),
  }
  pathlib.Path(_OUTPUT.value).write_text(json.dumps(report, indent=1) + "\n")
  print(few_points_report.table(report["runs"]))


if __name__ == "__main__":
  app.run(main)
