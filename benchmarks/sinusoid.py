"""MAML on sinusoids, beside joint training: the regression of the MAML paper.

  python -m benchmarks.sinusoid              # some minutes on two quiet cores

10 shots, 1 inner step of 0.01, 25 tasks per update, Adam 1e-3, 30,000 updates.
Expected: mean squared error on 600 test tasks at most 0.40 after 1 step and
0.15 after 10 steps; joint training stays above 1. The MAML paper has a plot
and no table of these figures.
"""

import json
import pathlib
import sys
import time

from absl import app
from absl import flags
import keras
import tensorflow as tf

from benchmarks import sinusoid_picture
import tfmeta

_UPDATES = flags.DEFINE_integer("updates", 30_000, "Outer updates.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the tasks and the weights.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/sinusoid", "Written: this .json and this .png."
)

SHOTS = 10
TEST_QUERIES = 100
TEST_TASKS = 600
META_BATCH = 25
INNER_LEARNING_RATE = 0.01
STEPS_AT_TEST = 10
TARGETS = {1: 0.40, 10: 0.15}


def train_maml(*, updates: int, seed: int) -> tfmeta.MAML:
  """MAML, evaluated after more steps than it is trained with."""
  keras.utils.set_random_seed(seed)
  learner = make_learner(tfmeta.models.mlp((1,), outputs=1))
  fit(learner, make_tasks(seed), updates)
  return learner


def train_jointly(*, updates: int, seed: int) -> tfmeta.MAML:
  """The same network, fitted to all tasks at once and fine-tuned like MAML."""
  keras.utils.set_random_seed(seed)
  model = tfmeta.models.mlp((1,), outputs=1)
  fit(model, make_tasks(seed).map(pool), updates)
  return make_learner(model)


def make_learner(model: keras.Model) -> tfmeta.MAML:
  """MAML with this model's weights as initial weights."""
  return tfmeta.MAML(
    model,
    inner_steps=1,
    inner_learning_rate=INNER_LEARNING_RATE,
    eval_inner_steps=STEPS_AT_TEST,
    inner_loss="mse",
  )


def make_tasks(seed: int) -> tf.data.Dataset:
  """Batches of training tasks, without end."""
  spec = tfmeta.TaskSpec(shots=SHOTS, query_shots=SHOTS)
  tasks = tfmeta.data.sinusoid("train", spec, seed=seed)
  return tasks.batch(META_BATCH).prefetch(tf.data.AUTOTUNE)


def pool(inputs: dict, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """All points of a batch of tasks, as if they were of one function."""
  x = tf.concat([inputs["support_x"], inputs["query_x"]], axis=1)
  y = tf.concat([inputs["support_y"], targets], axis=1)
  return tf.reshape(x, [-1, 1]), tf.reshape(y, [-1, 1])


def fit(model: keras.Model, data: tf.data.Dataset, updates: int) -> None:
  """Trains with Adam; many updates per call, because each is short."""
  per_execution = min(100, updates)
  epochs = max(1, updates // 3000)
  model.compile(
    keras.optimizers.Adam(1e-3),
    loss=None if isinstance(model, tfmeta.MetaLearner) else "mse",
    steps_per_execution=per_execution,
  )
  # One line per epoch: a bar would be redrawn at every call.
  steps = updates // epochs
  model.fit(
    data, steps_per_epoch=steps, epochs=epochs, shuffle=False, verbose=2
  )


def evaluate(learner: tfmeta.MAML, *, seed: int):
  """Result of the learner on the test tasks, the same ones for all."""
  spec = tfmeta.TaskSpec(shots=SHOTS, query_shots=TEST_QUERIES)
  tasks = tfmeta.data.sinusoid("test", spec, seed=seed)
  batch = min(100, TEST_TASKS)
  return tfmeta.evaluate(learner, tasks.batch(batch).take(TEST_TASKS // batch))


def main(_) -> None:
  """Trains, evaluates, writes the result and the picture."""
  output = pathlib.Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  results, seconds, learners = {}, {}, {}
  for name, train in (("MAML", train_maml), ("joint training", train_jointly)):
    begin = time.perf_counter()
    learners[name] = train(updates=_UPDATES.value, seed=_SEED.value)
    seconds[name] = time.perf_counter() - begin
    results[name] = evaluate(learners[name], seed=_SEED.value)
    print(f"{name}, {seconds[name]:.0f} seconds\n{results[name]}")
  sinusoid_picture.draw(results, learners, output.with_suffix(".png"))
  report = {
    "command": " ".join(["python -m benchmarks.sinusoid", *sys.argv[1:]]),
    "updates": _UPDATES.value,
    "seed": _SEED.value,
    "seconds": seconds,
    "targets": {str(steps): value for steps, value in TARGETS.items()},
    "results": {name: result.to_dict() for name, result in results.items()},
  }
  text = json.dumps(report, indent=2) + "\n"
  output.with_suffix(".json").write_text(text, encoding="utf-8")
  rows = results["MAML"].by_step()
  missed = [n for n, target in TARGETS.items() if rows[n]["mse"] > target]
  if missed:
    sys.exit(f"missed the target after {missed} steps")


if __name__ == "__main__":
  app.run(main)
