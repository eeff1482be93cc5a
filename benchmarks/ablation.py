"""What each ingredient of MAML++ buys, in the same time, on Omniglot.

  python -m benchmarks.ablation --minutes=6     # for each of nine learners

20 ways, 1 shot, Vinyals' classes, conv-4, one seed. Each learner trains with as
much CPU time as two cores have in so many minutes, its own tracing and the
validation left out; how many updates that is, a first look at its speed tells.
CPU time and not wall time, so that other work on the machine takes nothing from
a learner. `benchmarks/results/ablation.json` and `.png` are written after every
learner, and those that are there already are not trained again.
"""

import json
import math
import pathlib
import sys
import time

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks import ablation_picture
from benchmarks import epoch_clock
import tfmeta

_MINUTES = flags.DEFINE_float(
  "minutes", 6.0, "Training time of each learner, on two cores."
)
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
CORES = 2
META_BATCH = 4
VALIDATION_TASKS = 40
EPOCHS = 20
LEARNING_RATE = 1e-3
FINAL_LEARNING_RATE = 1e-5
# Of 20: the share of the released settings, 10 of 100 epochs; and a third,
# for what the paper is said to have, 50 of 150 (the released code has none).
MULTI_STEP_EPOCHS = 2
FIRST_ORDER_EPOCHS = 7

# As the authors' settings for MAML, which adapt no scales and shifts either.
OFF = {
  "multi_step_epochs": 0,
  "learn_rates": False,
  "adapt_normalization": False,
  "normalization": "transductive",
}
PER_STEP = {"normalization": "per_step_transductive"}
ALL = {
  **PER_STEP,
  "multi_step_epochs": MULTI_STEP_EPOCHS,
  "learn_rates": True,
  "first_order_epochs": FIRST_ORDER_EPOCHS,
  "annealed": True,
}
VARIANTS = {
  "MAML": {},
  "MAML, inner rate 0.5": {"inner_learning_rate": 0.5},
  "+ multi-step loss": {"multi_step_epochs": MULTI_STEP_EPOCHS},
  "+ learned rates": {"learn_rates": True},
  "+ normalisation per step (transductive)": PER_STEP,
  "+ derivative order": {"first_order_epochs": FIRST_ORDER_EPOCHS},
  "+ cosine annealing": {"annealed": True},
  "all (transductive)": ALL,
  "all (running statistics)": {**ALL, "normalization": "per_step_running"},
}


def make_learner(
  steps_per_epoch: int, *, annealed: bool = False, **options
) -> tfmeta.MAMLPlusPlus:
  """A compiled learner with the switches that `options` turns on."""
  keras.utils.set_random_seed(_SEED.value)
  model = tfmeta.models.conv4(
    (28, 28, 1),
    ways=WAYS,
    filters=_FILTERS.value,
    pooling="stride",
    momentum=0.9,
  )
  learner = tfmeta.MAMLPlusPlus(
    model,
    inner_steps=5,
    steps_per_epoch=steps_per_epoch,
    seed=_SEED.value,
    **{"inner_learning_rate": 0.1, **OFF, **options},
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


def seconds_of_phases(data: tf.data.Dataset, options: dict) -> dict[int, float]:
  """CPU seconds of an update, by the epoch that its phase begins with."""
  learner = make_learner(1000, **options)
  found = {}
  for start in [0, *learner.phase_starts]:
    learner.optimizer.iterations.assign(start)
    learner.fit(data, steps_per_epoch=2, verbose=0)
    few, more = (_cpu_seconds(learner, data, steps) for steps in (4, 34))
    found[start // 1000] = (more - few) / 30  # Without the start of `fit`.
  return found


def _cpu_seconds(learner, data, steps) -> float:
  begin = time.process_time()
  learner.fit(data, steps_per_epoch=steps, verbose=0)
  return time.process_time() - begin


def steps_in(cpu_seconds: float, phases: dict[int, float]) -> int:
  """Steps per epoch with which all epochs take so long."""
  starts = [*phases]
  lengths = np.diff([*starts, EPOCHS])
  one_step_each = float(np.dot(lengths, [*phases.values()]))
  return max(1, round(cpu_seconds / one_step_each))


def run(options: dict) -> dict:
  """Trains and tests one learner; its curve and its figures."""
  data = tasks("train", query_shots=1).batch(META_BATCH).prefetch(2)
  validation = tasks("validation", query_shots=5).take(VALIDATION_TASKS)
  phases = seconds_of_phases(data, options)
  steps = steps_in(60 * _MINUTES.value * CORES, phases)
  learner, clock = make_learner(steps, **options), epoch_clock.Clock()
  history = learner.fit(
    data,
    steps_per_epoch=steps,
    epochs=EPOCHS,
    validation_data=validation.batch(20).cache(),
    callbacks=[clock],
    verbose=2,
  ).history
  return {
    "options": options,
    "updates": steps * EPOCHS,
    "cpu_seconds_per_update": phases,
    "cpu_seconds": clock.cpu_seconds,
    "seconds": clock.seconds,
    "history": {k: [*map(_finite, v)] for k, v in history.items()},
    "test": test(learner),
  }


def test(learner: tfmeta.MAMLPlusPlus) -> dict | None:
  """Figures on test tasks, or nothing if its predictions are no numbers."""
  last = tasks("test", query_shots=5).take(_TEST_TASKS.value).batch(20)
  try:
    result = tfmeta.evaluate(learner, last)
  except ValueError as error:
    print(error, flush=True)
    return None
  print(result, flush=True)
  return result.to_dict()


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None


def header() -> dict:
  """The settings of a report, which all its runs have in common."""
  return {
    "command": " ".join(["python -m benchmarks.ablation", *sys.argv[1:]]),
    "minutes": _MINUTES.value,
    "seed": _SEED.value,
    "filters": _FILTERS.value,
    "test_tasks": _TEST_TASKS.value,
  }


def begun(output: pathlib.Path) -> dict:
  """The report to go on with, or a new one.

  Raises:
    ValueError: If the runs that are there had other settings.
  """
  if not output.exists():
    return {**header(), "runs": {}}
  report = json.loads(output.read_text())
  here = {k: v for k, v in header().items() if k != "command"}
  there = {k: report[k] for k in here}
  if there != here:
    raise ValueError(
      f"The runs in {output} had other settings, {there}: remove the file, or "
      f"choose another --output. Received: {here}"
    )
  return report


def main(_) -> None:
  """Runs what has not been run yet; writes the figures and the picture."""
  output = pathlib.Path(_OUTPUT.value).with_suffix(".json")
  output.parent.mkdir(parents=True, exist_ok=True)
  report = begun(output)
  for name, options in VARIANTS.items():
    if name not in report["runs"]:
      print(name, flush=True)
      report["runs"][name] = run(options)
      output.write_text(json.dumps(report, indent=1) + "\n")
      ablation_picture.draw(report["runs"], output.with_suffix(".png"))


if __name__ == "__main__":
  app.run(main)
