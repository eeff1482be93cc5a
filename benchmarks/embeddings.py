"""Compares LEO on embeddings with its generator and with simpler methods.

  python -m trainers.pretrain --dataset=omniglot --workdir=runs/pretrained
  python -m benchmarks.embeddings    # resumes if stopped

  python -m trainers.pretrain --dataset=mini_imagenet --held_out_classes=12
      --manual_dir=~/mini_imagenet --workdir=runs/photographs
  python -m benchmarks.embeddings --dataset=runs/photographs/embeddings
      --ways=5 --updates=20000 --choosing_updates=2000 --test_tasks=1000
      --output=benchmarks/results/embeddings_mini_imagenet.json

The test tasks are the same for all contenders:

- the nearest class mean, with and without subtracting the mean of all training
  embeddings,
- a linear probe, which is a head that is fitted to the support set from zero,
- MAML and Meta-SGD on the head,
- LEO's generator alone, trained without inner steps, and
- LEO.

Settings are chosen by accuracy on validation tasks, after --choosing_updates
updates each. The chosen one is trained for --updates updates and tested. The
command writes the JSON file after each contender.
"""

from collections.abc import Callable
import json
import os
import pathlib
import sys

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared import reports
import tfmeta

_DATASET = flags.DEFINE_string(
  "dataset",
  "runs/pretrained/embeddings",
  "Folder of embeddings that trainers.pretrain wrote.",
)
_WAYS = flags.DEFINE_integer("ways", 20, "Classes in a task.", lower_bound=2)
_SHOTS = flags.DEFINE_integer(
  "shots", 1, "Support examples of each class.", lower_bound=1
)
_UPDATES = flags.DEFINE_integer(
  "updates", 3000, "Updates of each learner.", lower_bound=1
)
_CHOOSING_UPDATES = flags.DEFINE_integer(
  "choosing_updates",
  None,
  "Updates after which a setting is chosen. Defaults to --updates.",
  lower_bound=1,
)
_TEST_TASKS = flags.DEFINE_integer(
  "test_tasks", 600, "Number of test tasks.", lower_bound=2
)
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/embeddings.json", "JSON file to write."
)

META_BATCH = 12
VALIDATION_TASKS = 200

# Settings to choose from on validation tasks.
RATES = (0.3, 1.0, 3.0, 10.0, 30.0)
PROBE_OPTIONS = [
  {"inner_steps": 100, "inner_learning_rate": rate} for rate in RATES
]
HEAD_OPTIONS = [
  {"inner_steps": 5, "inner_learning_rate": rate} for rate in RATES
]
LEO_OPTIONS = [
  {"dropout_rate": 0.0, "kl_weight": 1e-3},
  {"dropout_rate": 0.3, "kl_weight": 1e-3},
  {"dropout_rate": 0.3, "kl_weight": 1e-1},
  # The authors' values for miniImageNet with 1 shot, see trainers/leo.py. The
  # learning rate is that of the others, with which their `spread` gave NaN.
  {
    "dropout_rate": 0.307651,
    "kl_weight": 0.756143,
    "orthogonality": 0.188103,
    "l2": 3.623413e-10,
    "encoder_penalty": 5.756821e-6,
    "clipvalue": 0.1,
    "clipnorm": 0.1,
  },
]
WITHOUT_STEPS = {"inner_steps": 0, "finetuning_steps": 0}


def make_tasks(split: str, *, query_shots: int) -> tf.data.Dataset:
  """Returns an infinite data set of tasks."""
  spec = tfmeta.TaskSpec(
    ways=_WAYS.value, shots=_SHOTS.value, query_shots=query_shots
  )
  return tfmeta.data.embeddings(split, spec, data_dir=_DATASET.value, seed=0)


def held_out_tasks(split: str) -> tf.data.Dataset:
  """Returns batches of all validation tasks or of all test tasks."""
  count = VALIDATION_TASKS if split == "validation" else _TEST_TASKS.value
  return make_tasks(split, query_shots=15).take(count).batch(20)


def make_head(*, use_bias: bool = True) -> keras.Model:
  """Returns a new linear classifier of embeddings."""
  keras.utils.set_random_seed(0)
  inputs, _ = make_tasks("train", query_shots=1).element_spec
  return tfmeta.models.embedding_head(
    inputs["query_x"].shape[-1], ways=_WAYS.value, use_bias=use_bias
  )


def test_nearest_mean(*, centered: bool = False) -> dict:
  """Assigns each query to the class whose mean direction is nearest.

  Args:
    centered: Whether the mean of all training embeddings is first subtracted
      from each embedding.
  """
  center = 0.0
  if centered:
    values, _ = tfmeta.data.read_embeddings("train", _DATASET.value)
    center = values.mean(axis=0)
  accuracies = []
  for inputs, labels in held_out_tasks("test").unbatch():
    support, query = (
      tf.math.l2_normalize(inputs[key] - center, axis=-1)
      for key in ("support_x", "query_x")
    )
    means = tf.math.unsorted_segment_mean(
      support, inputs["support_y"], _WAYS.value
    )
    nearest = tf.argmax(
      query @ tf.transpose(tf.math.l2_normalize(means, axis=-1)), axis=-1
    )
    accuracies.append(float(np.mean(nearest == tf.cast(labels, tf.int64))))
  mean, interval = tfmeta.metrics.mean_and_interval(accuracies)
  return {
    "accuracy": float(mean),
    "interval": float(interval),
    "per_task": accuracies,
  }


def make_probe(options: dict, updates: int) -> tfmeta.MetaLearner:
  """Returns a learner whose head begins at zero and is not meta-trained."""
  del updates
  model = make_head()
  model.set_weights([np.zeros_like(w) for w in model.get_weights()])
  return tfmeta.MAML(model, **options)


def train_maml(options: dict, updates: int) -> tfmeta.MetaLearner:
  """Returns a trained MAML of the head."""
  return train(tfmeta.MAML(make_head(), **options), updates)


def train_meta_sgd(options: dict, updates: int) -> tfmeta.MetaLearner:
  """Returns a trained Meta-SGD of the head."""
  return train(tfmeta.MetaSGD(make_head(), **options), updates)


def train_leo(options: dict, updates: int) -> tfmeta.MetaLearner:
  """Returns a trained LEO."""
  head = make_head(use_bias=False)
  return train(tfmeta.LEO(head, num_latents=64, **options), updates)


def train(learner: tfmeta.MetaLearner, updates: int) -> tfmeta.MetaLearner:
  """Trains and returns `learner`."""
  rate = keras.optimizers.schedules.CosineDecay(1e-3, updates)
  executed = next(n for n in (50, 10, 5, 2, 1) if updates % n == 0)
  learner.compile(keras.optimizers.Adam(rate), steps_per_execution=executed)
  learner.fit(
    make_tasks("train", query_shots=15).batch(META_BATCH).prefetch(2),
    steps_per_epoch=updates,
    verbose=0,
  )
  return learner


def test_best(
  make: Callable[[dict, int], tfmeta.MetaLearner], choices: list[dict]
) -> dict:
  """Returns the test results of the best setting on validation tasks.

  Args:
    make: Function from a setting and the number of updates to a learner that is
      ready to test.
    choices: Settings to choose from.
  """
  updates = _UPDATES.value
  choosing = _CHOOSING_UPDATES.value or updates
  candidates = []
  for options in choices:
    learner = make(options, choosing)
    accuracy = tfmeta.evaluate(learner, held_out_tasks("validation")).mean
    print(f"  {options}: validation {accuracy:.4f}", flush=True)
    candidates.append((accuracy, options, learner))
  # NaN, from a diverged learner, compares as neither larger nor smaller.
  accuracy, options, learner = max(
    candidates, key=lambda entry: np.nan_to_num(entry[0], nan=-1.0)
  )
  if choosing != updates:
    learner = make(options, updates)
  test = tfmeta.evaluate(learner, held_out_tasks("test")).to_dict()
  return {"options": options, "validation": accuracy, **test}


CONTENDERS = {
  "nearest class mean": test_nearest_mean,
  "nearest class mean, centered": lambda: test_nearest_mean(centered=True),
  "linear probe": lambda: test_best(make_probe, PROBE_OPTIONS),
  "MAML on the head": lambda: test_best(train_maml, HEAD_OPTIONS),
  "Meta-SGD on the head": lambda: test_best(train_meta_sgd, HEAD_OPTIONS),
  "LEO's generator alone": lambda: test_best(
    train_leo, [{**options, **WITHOUT_STEPS} for options in LEO_OPTIONS]
  ),
  "LEO": lambda: test_best(train_leo, LEO_OPTIONS),
}


def differences(runs: dict, name: str) -> dict:
  """Compares a contender with each other one, task by task.

  Args:
    runs: Results of the contenders, by their names.
    name: Name of a contender.

  Returns:
    For each other contender, the mean of the differences in accuracy, above 0
    if `name` is better, and its 95% interval. Earlier versions did not keep the
    tasks of all contenders.
  """
  found = {}
  for other, run in runs.items():
    if other != name and "per_task" in run:
      pairs = np.subtract(runs[name]["per_task"], run["per_task"])
      mean, interval = tfmeta.metrics.mean_and_interval(pairs)
      found[other] = {"accuracy": float(mean), "interval": float(interval)}
  return found


def kept_runs(output: pathlib.Path, settings: dict) -> dict:
  """Returns the results in a file of an earlier start, by contender.

  Raises:
    ValueError: If they have other settings.
  """
  if not output.exists():
    return {}
  found = json.loads(output.read_text(encoding="utf-8"))
  for name, value in settings.items():
    # Earlier versions did not write all settings.
    if found.get(name, value) != value:
      raise ValueError(
        f"`{name}` must be {found[name]}, as in {output}, or `output` must be "
        f"another file. Received: {name}={value}"
      )
  return found["runs"]


def checked_settings() -> dict:
  """Returns the settings on which all results depend.

  Raises:
    ValueError: If there are no embeddings.
  """
  # The home of an unknown user stays as it is, and is no folder.
  if not os.path.isdir(os.path.expanduser(_DATASET.value)):
    raise ValueError(
      "`dataset` must be a folder of embeddings, which `python -m "
      f"trainers.pretrain` writes. Received: dataset={_DATASET.value!r}"
    )
  return {
    "ways": _WAYS.value,
    "shots": _SHOTS.value,
    "updates": _UPDATES.value,
    "choosing_updates": _CHOOSING_UPDATES.value or _UPDATES.value,
    "test_tasks": _TEST_TASKS.value,
  }


def main(_) -> None:
  """Tests the contenders that the report lacks."""
  output = pathlib.Path(_OUTPUT.value)
  try:
    settings = checked_settings()
    runs = kept_runs(output, settings)
  except ValueError as error:
    sys.exit(str(error))
  report = {"command": reports.command("embeddings"), **settings, "runs": runs}
  for name, test in CONTENDERS.items():
    if name not in runs:
      found = runs[name] = test()
      if "LEO" in runs:
        report["LEO_minus"] = differences(runs, "LEO")
      reports.write(output, report)
      print(
        f"{name:28} {found['accuracy']:.2%} +- {found['interval']:.2%}",
        flush=True,
      )


if __name__ == "__main__":
  app.run(main)
