"""Whether draws cover both answers where a support set fits two.

  python -m benchmarks.ambiguous

Tasks of 2 ways and 1 shot whose examples are two glyphs side by side: by the
support set either half may be what tells the class, and in a query where the
halves are of different classes the two readings differ. A draw that takes the
half that counts is right everywhere, one that takes the other half is right in
half of the queries. Covered are test tasks where the best of five draws is
right in 90 % of the queries or more, and the worst in 60 % or less.
`benchmarks/results/ambiguous.json` is written.
"""

import json
import pathlib
import sys

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks import draws
import tfmeta

_UPDATES = flags.DEFINE_integer("updates", 1000, "Of each learner.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 200, "Tasks at the end.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/ambiguous.json", "Written."
)

DRAWS = 5
META_BATCH = 8
RIGHT, HALF_RIGHT = 0.9, 0.6
SPEC = tfmeta.TaskSpec(ways=2, shots=1, query_shots=12)
CHARACTERS = {"train": 400, "test": 100}
LEARNERS = {
  "MAML": (tfmeta.MAML, {}),
  "PLATIPUS": (
    tfmeta.PLATIPUS,
    {"num_samples": DRAWS, "initial_scale": 0.1, "kl_weight": 0.01},
  ),
  "EMAML": (tfmeta.EMAML, {"num_particles": DRAWS}),
}


def tasks(split: str) -> tf.data.Dataset:
  """Tasks of pairs of glyphs, without end."""
  drawn = tfmeta.data.glyph_drawings(CHARACTERS[split], 20, split=split)
  images = np.asarray(np.round(255 * np.asarray(drawn)), np.uint8)
  return tfmeta.data.ambiguous_pairs(images, SPEC)


def train(name: str) -> tfmeta.MetaLearner:
  """A learner after all its updates."""
  learner_class, options = LEARNERS[name]
  keras.utils.set_random_seed(0)
  model = tfmeta.models.conv4((28, 56, 1), ways=2, filters=16, pooling="stride")
  learner = learner_class(model, inner_learning_rate=0.4, **options)
  rate = keras.optimizers.schedules.CosineDecay(3e-3, _UPDATES.value)
  learner.compile(keras.optimizers.Adam(rate))
  learner.fit(
    tasks("train").batch(META_BATCH).prefetch(2),
    steps_per_epoch=_UPDATES.value,
    verbose=0,
  )
  return learner


def accuracies(learner: tfmeta.MetaLearner, test: tf.data.Dataset):
  """That of each draw, `[T, M]`."""

  @tf.function(autograph=False)
  def one_task(support_x, support_y, query_x, query_y):
    weights = learner.adapt(support_x, support_y)
    outputs = draws.samples_of(learner, weights, query_x)
    right = tf.equal(tf.argmax(outputs, axis=-1, output_type=tf.int32), query_y)
    return tf.reduce_mean(tf.cast(right, tf.float32), axis=-1)

  return np.stack(
    [one_task(*inputs.values(), query_y) for inputs, query_y in test]
  )


def measure(name: str) -> dict[str, float]:
  """Figures of a learner on test tasks."""
  learner = train(name)
  test = tasks("test").take(_TEST_TASKS.value)
  result = tfmeta.evaluate(learner, test.batch(25))
  found = accuracies(learner, test)
  best, worst = found.max(axis=1), found.min(axis=1)
  return {
    "accuracy": result.mean,
    "interval": result.interval,
    "nll": float(result.nll[-1]),
    "best_draw": float(best.mean()),
    "worst_draw": float(worst.mean()),
    "covered": float(np.mean((best >= RIGHT) & (worst <= HALF_RIGHT))),
  }


def main(_) -> None:
  """Measures all learners."""
  report = {
    "command": " ".join(["python -m benchmarks.ambiguous", *sys.argv[1:]]),
    "updates": _UPDATES.value,
    "test_tasks": _TEST_TASKS.value,
    "runs": {},
  }
  for name in LEARNERS:
    report["runs"][name] = measure(name)
    print(name, report["runs"][name], flush=True)
  pathlib.Path(_OUTPUT.value).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
  app.run(main)
