"""Measures learners on a frozen MobileNetV2, beside a linear probe.

  python -m benchmarks.frozen_backbone

The model is a MobileNetV2 with random, frozen weights and a trained dense
layer. The linear probe is the least that can be done: it computes the features
of all images of the tasks in one batch, and takes the inner steps on the dense
layer. Each learner has a process of its own and measures the probe there too.
The command writes `benchmarks/results/frozen_backbone.json`.
"""

from concurrent import futures
import multiprocessing
import pathlib
import statistics
import tempfile
import time
from typing import Any

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared import reports
import tfmeta

_LEARNERS = flags.DEFINE_list(
  "learners",
  ["MAML", "ANIL", "MetaSGD", "MAMLPlusPlus", "PLATIPUS", "EMAML", "BMAML"],
  "Classes of tfmeta to measure.",
)
_UPDATES = flags.DEFINE_integer("updates", 10, "Timed updates.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/frozen_backbone.json", "JSON file to write."
)

SIDE, WAYS, SHOTS, QUERY_SHOTS = 96, 5, 1, 15
TASKS, INNER_STEPS = 4, 5


def make_model() -> tuple[keras.Model, keras.Model]:
  """Returns a frozen backbone, and a classifier that uses it."""
  keras.utils.set_random_seed(0)
  shape = (SIDE, SIDE, 3)
  backbone = keras.applications.MobileNetV2(
    shape, alpha=0.35, include_top=False, weights=None, pooling="avg"
  )
  backbone.trainable = False
  layers = [keras.Input(shape), backbone, keras.layers.Dense(WAYS)]
  return backbone, keras.Sequential(layers)


def make_tasks() -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Returns a batch of tasks of random images."""
  random = np.random.default_rng(0)
  made = {}
  for name, shots in (("support", SHOTS), ("query", QUERY_SHOTS)):
    shape = (TASKS, WAYS * shots, SIDE, SIDE, 3)
    made[f"{name}_x"] = random.normal(size=shape).astype("float32")
    labels = np.arange(WAYS * shots, dtype="int32") % WAYS
    made[f"{name}_y"] = np.tile(labels, (TASKS, 1))
  labels = made.pop("query_y")
  return made, labels


def make_probe(backbone: keras.Model) -> Any:
  """Returns a function that takes the inner steps on features of all tasks."""
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

  @tf.function(autograph=False)
  def probe(support_x: Any, support_y: Any, query_x: Any) -> tf.Tensor:
    images = tf.concat([support_x, query_x], axis=1)
    flat = tf.reshape(images, [-1, SIDE, SIDE, 3])
    features = tf.reshape(backbone(flat), [TASKS, images.shape[1], -1])
    support = features[:, : WAYS * SHOTS]
    weights = tf.zeros([TASKS, features.shape[-1], WAYS])
    for _ in range(INNER_STEPS):
      with tf.GradientTape() as tape:
        tape.watch(weights)
        value = TASKS * loss(support_y, support @ weights)
      weights -= 0.01 * tape.gradient(value, weights)
    return features[:, WAYS * SHOTS :] @ weights

  return probe


def median_seconds(call: Any, count: int) -> float:
  """Returns the median of the seconds that a call takes."""
  seconds = []
  for _ in range(count):
    begin = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - begin)
  return statistics.median(seconds)


def measure(name: str, updates: int) -> dict[str, float]:
  """Returns the seconds that a learner takes, beside those of the probe."""
  backbone, model = make_model()
  inputs, labels = make_tasks()
  learner = getattr(tfmeta, name)(model, inner_steps=INNER_STEPS)
  learner.compile("adam")

  def update() -> None:
    learner.train_on_batch(inputs, labels)

  first = median_seconds(update, 1)
  probe, constants = (
    make_probe(backbone),
    tf.nest.map_structure(tf.constant, inputs),
  )

  def features() -> None:
    probe(**constants).numpy()

  features()
  found = {
    "first_update": first,
    "update": median_seconds(update, updates),
    "probe": median_seconds(features, updates),
  }
  found["updates_of_probe"] = found["update"] / found["probe"]
  with tempfile.TemporaryDirectory() as folder:
    found["export"] = median_seconds(lambda: learner.export(folder), 1)
  return found


def main(_) -> None:
  """Measures all learners, prints a table and writes JSON."""
  report: dict[str, Any] = {"command": reports.command("frozen_backbone")}
  report["learners"] = {}
  context = multiprocessing.get_context("spawn")
  for name in _LEARNERS.value:
    with futures.ProcessPoolExecutor(1, context) as pool:
      found = pool.submit(measure, name, _UPDATES.value).result()
    report["learners"][name] = found
    print(
      f"{name:13} first update {found['first_update']:6.2f} s   update "
      f"{found['update']:.3f} s, {found['updates_of_probe']:.2f} times the "
      f"probe   export {found['export']:6.2f} s",
      flush=True,
    )
  reports.write(pathlib.Path(_OUTPUT.value), report)


if __name__ == "__main__":
  app.run(main)
