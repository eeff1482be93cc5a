"""Compares LEO on embeddings of Omniglot with methods that do not meta-learn.

  python -m trainers.pretrain --dataset=omniglot --workdir=runs/pretrained
  python -m benchmarks.embeddings    # resumes if stopped

Tasks have 20 ways and 1 shot of Vinyals' classes, and the test tasks are the
same for all contenders:

- the nearest class mean,
- a linear probe, which is a head that is fitted to the support set from zero,
- MAML on the head, and
- LEO.

Hyperparameters are chosen by accuracy on validation tasks. The command writes
`benchmarks/results/embeddings.json` after each contender.
"""

from collections.abc import Callable
import json
import pathlib

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared import reports
import tfmeta

_EMBEDDINGS = flags.DEFINE_string(
  "embeddings",
  "runs/pretrained/embeddings",
  "Folder of embeddings that trainers.pretrain wrote.",
)
_UPDATES = flags.DEFINE_integer("updates", 3000, "Updates of each learner.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 600, "Number of test tasks.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/embeddings.json", "JSON file to write."
)

WAYS = 20
META_BATCH = 12
VALIDATION_TASKS = 200

# Hyperparameters to choose from on validation tasks.
RATES = (0.3, 1.0, 3.0, 10.0, 30.0)
PROBE_OPTIONS = [
  {"inner_steps": 100, "inner_learning_rate": rate} for rate in RATES
]
MAML_OPTIONS = [
  {"inner_steps": 5, "inner_learning_rate": rate} for rate in RATES
]
LEO_OPTIONS = [
  {"dropout_rate": dropout, "kl_weight": weight}
  for dropout, weight in ((0.0, 1e-3), (0.3, 1e-3), (0.3, 1e-1))
]


def make_tasks(split: str, *, query_shots: int) -> tf.data.Dataset:
  """Returns an infinite data set of tasks."""
  spec = tfmeta.TaskSpec(ways=WAYS, shots=1, query_shots=query_shots)
  return tfmeta.data.embeddings(split, spec, data_dir=_EMBEDDINGS.value, seed=0)


def held_out_tasks(split: str) -> tf.data.Dataset:
  """Returns batches of all validation tasks or of all test tasks."""
  count = VALIDATION_TASKS if split == "validation" else _TEST_TASKS.value
  return make_tasks(split, query_shots=15).take(count).batch(20)


def make_head(*, use_bias: bool = True) -> keras.Model:
  """Returns a new linear classifier of embeddings."""
  keras.utils.set_random_seed(0)
  inputs, _ = make_tasks("train", query_shots=1).element_spec
  return tfmeta.models.embedding_head(
    inputs["query_x"].shape[-1], ways=WAYS, use_bias=use_bias
  )


def test_nearest_mean() -> dict:
  """Assigns each query to the class whose mean direction is nearest."""
  accuracies = []
  for inputs, labels in held_out_tasks("test").unbatch():
    support, query = (
      tf.math.l2_normalize(inputs[key], axis=-1)
      for key in ("support_x", "query_x")
    )
    means = tf.math.unsorted_segment_mean(support, inputs["support_y"], WAYS)
    nearest = tf.argmax(
      query @ tf.transpose(tf.math.l2_normalize(means, axis=-1)), axis=-1
    )
    accuracies.append(np.mean(nearest == tf.cast(labels, tf.int64)))
  mean, interval = tfmeta.metrics.mean_and_interval(accuracies)
  return {"accuracy": float(mean), "interval": float(interval)}


def make_probe(options: dict) -> tfmeta.MetaLearner:
  """Returns a learner whose head begins at zero and is not meta-trained."""
  model = make_head()
  model.set_weights([np.zeros_like(w) for w in model.get_weights()])
  return tfmeta.MAML(model, **options)


def train_maml(options: dict) -> tfmeta.MetaLearner:
  """Returns a trained MAML of the head."""
  return train(tfmeta.MAML(make_head(), **options))


def train_leo(options: dict) -> tfmeta.MetaLearner:
  """Returns a trained LEO."""
  return train(tfmeta.LEO(make_head(use_bias=False), num_latents=64, **options))


def train(learner: tfmeta.MetaLearner) -> tfmeta.MetaLearner:
  """Trains and returns `learner`."""
  rate = keras.optimizers.schedules.CosineDecay(1e-3, _UPDATES.value)
  learner.compile(keras.optimizers.Adam(rate), steps_per_execution=50)
  learner.fit(
    make_tasks("train", query_shots=15).batch(META_BATCH).prefetch(2),
    steps_per_epoch=_UPDATES.value,
    verbose=0,
  )
  return learner


def test_best(
  make: Callable[[dict], tfmeta.MetaLearner], choices: list[dict]
) -> dict:
  """Returns the test results of the best learner on validation tasks.

  Args:
    make: Function from hyperparameters to a learner that is ready to test.
    choices: Hyperparameters to choose from.
  """
  candidates = []
  for options in choices:
    learner = make(options)
    accuracy = tfmeta.evaluate(learner, held_out_tasks("validation")).mean
    print(f"  {options}: validation {accuracy:.4f}", flush=True)
    candidates.append((accuracy, options, learner))
  accuracy, options, learner = max(candidates, key=lambda entry: entry[0])
  test = tfmeta.evaluate(learner, held_out_tasks("test")).to_dict()
  return {"options": options, "validation": accuracy, **test}


CONTENDERS = {
  "nearest class mean": test_nearest_mean,
  "linear probe": lambda: test_best(make_probe, PROBE_OPTIONS),
  "MAML on the head": lambda: test_best(train_maml, MAML_OPTIONS),
  "LEO": lambda: test_best(train_leo, LEO_OPTIONS),
}


def main(_) -> None:
  """Tests the contenders that the report lacks."""
  output = pathlib.Path(_OUTPUT.value)
  report = {
    "command": reports.command("embeddings"),
    "updates": _UPDATES.value,
    "test_tasks": _TEST_TASKS.value,
    "runs": {},
  }
  if output.exists():
    report["runs"] = json.loads(output.read_text())["runs"]
  for name, test in CONTENDERS.items():
    if name not in report["runs"]:
      found = report["runs"][name] = test()
      reports.write(output, report)
      print(
        f"{name:20} {found['accuracy']:.2%} +- {found['interval']:.2%}",
        flush=True,
      )


if __name__ == "__main__":
  app.run(main)
