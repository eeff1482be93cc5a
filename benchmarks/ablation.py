"""What each ingredient of MAML++ buys, in the same time, on Omniglot.

  python -m benchmarks.ablation --minutes=8     # for each of eight learners

20 ways, 1 shot, Vinyals' classes, conv-4. Each learner trains for so long, its
own tracing and the validation left out; how many updates that is, a first look
at its speed tells. `benchmarks/results/ablation.json` and `.png` are written
after every learner, and those that are there already are not trained again.
"""

import json
import pathlib
import sys
import time

from absl import app
from absl import flags
import keras
import tensorflow as tf

from benchmarks import ablation_picture
import tfmeta

_MINUTES = flags.DEFINE_float("minutes", 8.0, "Training time of each learner.")
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where TFDS keeps Omniglot; its own default if not given."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the tasks and the weights.")
_FILTERS = flags.DEFINE_integer("filters", 32, "Of each convolution.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 600, "Tasks at the end.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/ablation", "Written: this .json and this .png."
)

WAYS = 20
META_BATCH = 8
VALIDATION_TASKS = 40
EPOCHS = 20
LEARNING_RATE = 1e-3
FINAL_LEARNING_RATE = 1e-5
# Shares of the training, as in the published settings: 10 of 100 epochs, and
# the paper's 50 of 150.
MULTI_STEP_EPOCHS = 2
FIRST_ORDER_EPOCHS = 7

OFF = {
  "multi_step_epochs": 0,
  "learn_rates": False,
  "adapt_normalization": True,
  "normalization": "transductive",
}
# Normalisation that is per step is not adapted, as in the released code.
PER_STEP = {
  "normalization": "per_step_transductive",
  "adapt_normalization": False,
}
ALL = {
  **PER_STEP,
  "multi_step_epochs": MULTI_STEP_EPOCHS,
  "learn_rates": True,
  "first_order_epochs": FIRST_ORDER_EPOCHS,
  "annealed": True,
}
VARIANTS = {
  "MAML": {},
  "+ multi-step loss": {"multi_step_epochs": MULTI_STEP_EPOCHS},
  "+ learned rates": {"learn_rates": True},
  "+ per-step normalisation": PER_STEP,
  "+ derivative order": {"first_order_epochs": FIRST_ORDER_EPOCHS},
  "+ cosine annealing": {"annealed": True},
  "all": ALL,
  "all, running statistics": {**ALL, "normalization": "per_step_running"},
}


def make_learner(
  steps_per_epoch: int, *, annealed: bool = False, **options
) -> tfmeta.MAMLPlusPlus:
  """A compiled learner with the switches that `options` turns on."""
  keras.utils.set_random_seed(_SEED.value)
  model = tfmeta.models.conv4(
    (28, 28, 1), ways=WAYS, filters=_FILTERS.value, pooling="stride"
  )
  for layer in model.layers:  # PyTorch's 0.1 is 0.9 in Keras.
    if isinstance(layer, keras.layers.BatchNormalization):
      layer.momentum = 0.9
  learner = tfmeta.MAMLPlusPlus(
    model,
    inner_steps=5,
    inner_learning_rate=0.1,
    steps_per_epoch=steps_per_epoch,
    seed=_SEED.value,
    **{**OFF, **options},
  )
  rate = keras.optimizers.schedules.CosineDecay(
    LEARNING_RATE,
    EPOCHS * steps_per_epoch,
    alpha=FINAL_LEARNING_RATE / LEARNING_RATE,
  )
  optimizer = keras.optimizers.Adam(rate if annealed else LEARNING_RATE)
  learner.compile(optimizer, metrics=["accuracy"])
  return learner


def tasks(split: str, *, query_shots: int) -> tf.data.Dataset:
  """Tasks of a split, without end."""
  spec = tfmeta.TaskSpec(ways=WAYS, shots=1, query_shots=query_shots)
  return tfmeta.data.omniglot(
    split, spec, seed=_SEED.value, data_dir=_DATA_DIR.value
  )


def steps_in(seconds: float, data: tf.data.Dataset, options: dict) -> int:
  """Steps per epoch with which all epochs take so long."""
  learner = make_learner(1000, **options)
  learner.fit(data, steps_per_epoch=2, verbose=0)
  starts = [0, *learner.phase_starts]
  total = 0.0
  for start, end in zip(starts, [*starts[1:], 1000 * EPOCHS], strict=True):
    learner.optimizer.iterations.assign(start)
    learner.fit(data, steps_per_epoch=1, verbose=0)
    begin = time.perf_counter()
    learner.fit(data, steps_per_epoch=8, verbose=0)
    total += (time.perf_counter() - begin) / 8 * (end - start) / (1000 * EPOCHS)
  return max(1, round(seconds / total / EPOCHS))


class Clock(keras.callbacks.Callback):
  """Times the epochs without their validation, and the first step's tracing."""

  def __init__(self):
    super().__init__()
    self.seconds = []

  def on_epoch_begin(self, epoch, logs=None) -> None:
    """Starts it."""
    self._begin = time.perf_counter()

  def on_train_batch_end(self, batch, logs=None) -> None:
    """Starts it anew after the very first step."""
    if batch == 0 and not self.seconds:
      self._begin = time.perf_counter()

  def on_test_begin(self, logs=None) -> None:
    """Stops it: validation ends an epoch."""
    self.seconds.append(time.perf_counter() - self._begin)


def run(options: dict) -> dict:
  """Trains and tests one learner; its curve and its figures."""
  data = tasks("train", query_shots=1).batch(META_BATCH).prefetch(2)
  validation = tasks("validation", query_shots=5).take(VALIDATION_TASKS)
  steps = steps_in(60 * _MINUTES.value, data, options)
  learner, clock = make_learner(steps, **options), Clock()
  history = learner.fit(
    data,
    steps_per_epoch=steps,
    epochs=EPOCHS,
    validation_data=validation.batch(20).cache(),
    callbacks=[clock],
    verbose=2,
  ).history
  test = tasks("test", query_shots=5).take(_TEST_TASKS.value).batch(20)
  result = tfmeta.evaluate(learner, test)
  print(result, flush=True)
  return {
    "options": options,
    "updates": steps * EPOCHS,
    "seconds": clock.seconds,
    "history": history,
    "test": result.to_dict(),
  }


def main(_) -> None:
  """Runs what has not been run yet; writes the figures and the picture."""
  output = pathlib.Path(_OUTPUT.value).with_suffix(".json")
  output.parent.mkdir(parents=True, exist_ok=True)
  report = {
    "command": " ".join(["python -m benchmarks.ablation", *sys.argv[1:]]),
    "minutes": _MINUTES.value,
    "seed": _SEED.value,
    "filters": _FILTERS.value,
    "runs": {},
  }
  if output.exists():
    report["runs"] = json.loads(output.read_text())["runs"]
  for name, options in VARIANTS.items():
    if name not in report["runs"]:
      print(name, flush=True)
      report["runs"][name] = run(options)
      output.write_text(json.dumps(report, indent=1) + "\n")
      ablation_picture.draw(report["runs"], output.with_suffix(".png"))


if __name__ == "__main__":
  app.run(main)
