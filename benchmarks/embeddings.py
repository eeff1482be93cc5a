"""LEO on embeddings of Omniglot, beside what does without meta-learning.

  python -m trainers.pretrain --dataset=omniglot --workdir=runs/pretrained
  python -m benchmarks.embeddings    # goes on if stopped

20 ways, 1 shot, Vinyals' classes, the same test tasks for all: the nearest mean
of a class, a linear probe (a head fitted to the support set from 0), MAML on
the head, and LEO. What a contender leaves open is chosen by its accuracy on
validation tasks. `benchmarks/results/embeddings.json` is written after each.
"""

import json
import pathlib
import sys

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

import tfmeta

_EMBEDDINGS = flags.DEFINE_string(
  "embeddings", "runs/pretrained/embeddings", "Of trainers.pretrain."
)
_UPDATES = flags.DEFINE_integer("updates", 3000, "Of each learner.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 600, "Tasks at the end.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/embeddings.json", "Written."
)

WAYS = 20
META_BATCH = 12
VALIDATION_TASKS = 200

RATES = (0.3, 1.0, 3.0, 10.0, 30.0)
PROBES = [{"inner_steps": 100, "inner_learning_rate": r} for r in RATES]
HEADS = [{"inner_steps": 5, "inner_learning_rate": r} for r in RATES]
LATENTS = [
  {"dropout_rate": dropout, "kl_weight": weight}
  for dropout, weight in ((0.0, 1e-3), (0.3, 1e-3), (0.3, 1e-1))
]


def tasks(split: str, *, query_shots: int) -> tf.data.Dataset:
  """Tasks of a split, without end."""
  spec = tfmeta.TaskSpec(ways=WAYS, shots=1, query_shots=query_shots)
  return tfmeta.data.embeddings(split, spec, data_dir=_EMBEDDINGS.value, seed=0)


def held_out(split: str) -> tf.data.Dataset:
  """Batches of tasks to choose by, or to test on."""
  count = VALIDATION_TASKS if split == "validation" else _TEST_TASKS.value
  return tasks(split, query_shots=15).take(count).batch(20)


def head(*, use_bias: bool = True) -> keras.Model:
  """A linear classifier of embeddings, fresh."""
  keras.utils.set_random_seed(0)
  features = tasks("train", query_shots=1).element_spec[0]["query_x"].shape[-1]
  return tfmeta.models.embedding_head(features, ways=WAYS, use_bias=use_bias)


def nearest_mean() -> dict:
  """Each query is taken for the class whose mean direction is nearest."""
  accuracies = []
  for inputs, labels in held_out("test").unbatch():
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


def probe(options: dict) -> tfmeta.MetaLearner:
  """A head that begins at 0, not trained."""
  model = head()
  model.set_weights([np.zeros_like(w) for w in model.get_weights()])
  return tfmeta.MAML(model, **options)


def maml(options: dict) -> tfmeta.MetaLearner:
  """MAML on the head, trained."""
  return trained(tfmeta.MAML(head(), **options))


def leo(options: dict) -> tfmeta.MetaLearner:
  """LEO, trained."""
  return trained(tfmeta.LEO(head(use_bias=False), num_latents=64, **options))


def trained(learner: tfmeta.MetaLearner) -> tfmeta.MetaLearner:
  """The learner after all its updates."""
  rate = keras.optimizers.schedules.CosineDecay(1e-3, _UPDATES.value)
  learner.compile(keras.optimizers.Adam(rate), steps_per_execution=50)
  learner.fit(
    tasks("train", query_shots=15).batch(META_BATCH).prefetch(2),
    steps_per_epoch=_UPDATES.value,
    verbose=0,
  )
  return learner


def best_of(make, choices: list[dict]) -> dict:
  """Test figures of the choice that is best on validation tasks."""
  found = []
  for options in choices:
    learner = make(options)
    accuracy = tfmeta.evaluate(learner, held_out("validation")).mean
    print(f"  {options}: validation {accuracy:.4f}", flush=True)
    found.append((accuracy, options, learner))
  accuracy, options, learner = max(found, key=lambda entry: entry[0])
  test = tfmeta.evaluate(learner, held_out("test")).to_dict()
  return {"options": options, "validation": accuracy, **test}


CONTENDERS = {
  "nearest class mean": nearest_mean,
  "linear probe": lambda: best_of(probe, PROBES),
  "MAML on the head": lambda: best_of(maml, HEADS),
  "LEO": lambda: best_of(leo, LATENTS),
}


def main(_) -> None:
  """Runs all contenders."""
  output = pathlib.Path(_OUTPUT.value)
  report = {
    "command": " ".join(["python -m benchmarks.embeddings", *sys.argv[1:]]),
    "updates": _UPDATES.value,
    "test_tasks": _TEST_TASKS.value,
    "runs": {},
  }
  if output.exists():
    report["runs"] = json.loads(output.read_text())["runs"]
  for name, run in CONTENDERS.items():
    if name in report["runs"]:
      continue
    found = report["runs"][name] = run()
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(
      f"{name:20} {found['accuracy']:.2%} +- {found['interval']:.2%}",
      flush=True,
    )


if __name__ == "__main__":
  app.run(main)
