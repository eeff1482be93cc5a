"""Measures what each ingredient of MAML++ adds on Omniglot in the same time.

  python -m benchmarks.ablation --minutes=6     # for each of nine learners

The tasks have 20 ways and 1 shot of Vinyals' classes. All learners train a
conv-4 with one seed for the CPU time that two cores have in `--minutes`. A
short trial shows how many updates that is. The budget is CPU time rather than
wall time, so that other work on the machine takes nothing from a learner. It
does not include tracing and validation.

The command writes `benchmarks/results/ablation.json` and `.png` after every
learner, and skips the learners that the file already has.
"""

import json
import math
import pathlib
import sys
import time

from absl import app
from absl import flags
import keras
from matplotlib import figure
import numpy as np
import tensorflow as tf

from benchmarks.shared import reports
import tfmeta

_MINUTES = flags.DEFINE_float(
  "minutes", 6.0, "Minutes that each learner trains on two cores."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir",
  None,
  "Folder in which TFDS keeps Omniglot. Defaults to TFDS's own.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the tasks and the weights.")
_FILTERS = flags.DEFINE_integer("filters", 32, "Filters of each convolution.")
_TEST_TASKS = flags.DEFINE_integer("test_tasks", 600, "Number of test tasks.")
_OUTPUT = flags.DEFINE_string(
  "output",
  "benchmarks/results/ablation",
  "File to write, without the endings .json and .png.",
)

WAYS = 20
CORES = 2
META_BATCH = 4
VALIDATION_TASKS = 40
EPOCHS = 20
LEARNING_RATE = 1e-3
FINAL_LEARNING_RATE = 1e-5

# The authors' settings train with multi-step losses for 10 of 100 epochs, which
# is 2 of 20.
MULTI_STEP_EPOCHS = 2
# The released code has no first-order epochs. The paper is said to have 50 of
# 150, which is a third of 20.
FIRST_ORDER_EPOCHS = 7

# Arguments that turn MAML++ into MAML. Scales and shifts of normalization are
# not adapted, which follows the authors' settings for MAML.
MAML = {
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
  "+ per-step normalization (transductive)": PER_STEP,
  "+ derivative order": {"first_order_epochs": FIRST_ORDER_EPOCHS},
  "+ cosine annealing": {"annealed": True},
  "all (transductive)": ALL,
  "all (running statistics)": {**ALL, "normalization": "per_step_running"},
}


class TrainingClock(keras.callbacks.Callback):
  """Clock of each epoch's training, without validation and the first trace.

  Attributes:
    seconds: Wall-clock seconds of each epoch.
    cpu_seconds: CPU seconds of each epoch.
  """

  def __init__(self):
    super().__init__()
    self.seconds = []
    self.cpu_seconds = []

  def on_epoch_begin(self, epoch, logs=None) -> None:
    """Starts the clock."""
    self._begin = time.perf_counter(), time.process_time()

  def on_train_batch_end(self, batch, logs=None) -> None:
    """Restarts the clock after the very first update, which is traced."""
    if batch == 0 and not self.seconds:
      self.on_epoch_begin(0)

  def on_test_begin(self, logs=None) -> None:
    """Stops the clock, because validation follows the last update."""
    begin, cpu_begin = self._begin
    self.seconds.append(time.perf_counter() - begin)
    self.cpu_seconds.append(time.process_time() - cpu_begin)


def make_learner(
  steps_per_epoch: int, *, annealed: bool = False, **options
) -> tfmeta.MAMLPlusPlus:
  """Returns a compiled learner.

  Args:
    steps_per_epoch: Updates per epoch, which decide when its phases begin.
    annealed: Whether the outer learning rate follows a cosine decay.
    **options: Constructor arguments that turn on ingredients of MAML++.
  """
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
    **{"inner_learning_rate": 0.1, **MAML, **options},
  )
  rate = keras.optimizers.schedules.CosineDecay(
    LEARNING_RATE,
    EPOCHS * steps_per_epoch,
    alpha=FINAL_LEARNING_RATE / LEARNING_RATE,
  )
  optimizer = keras.optimizers.Adam(rate if annealed else LEARNING_RATE)
  learner.compile(optimizer, metrics=["accuracy"])
  return learner


def make_tasks(split: str, *, query_shots: int) -> tf.data.Dataset:
  """Returns an infinite data set of tasks."""
  spec = tfmeta.TaskSpec(ways=WAYS, shots=1, query_shots=query_shots)
  return tfmeta.data.omniglot(
    split, spec, seed=_SEED.value, data_dir=_DATA_DIR.value
  )


def measure_phases(data: tf.data.Dataset, options: dict) -> dict[int, float]:
  """Returns the CPU seconds of an update in each phase of training.

  Args:
    data: Batches of training tasks.
    options: Arguments of `make_learner`.

  Returns:
    CPU seconds by the epoch that the phase begins with.
  """
  learner = make_learner(1000, **options)
  found = {}
  for start in [0, *learner.phase_starts]:
    learner.optimizer.iterations.assign(start)
    learner.fit(data, steps_per_epoch=2, verbose=0)
    # The difference leaves out the time that starting `fit` takes.
    few, more = (_cpu_seconds(learner, data, steps) for steps in (4, 34))
    found[start // 1000] = (more - few) / 30
  return found


def _cpu_seconds(learner, data, steps) -> float:
  begin = time.process_time()
  learner.fit(data, steps_per_epoch=steps, verbose=0)
  return time.process_time() - begin


def steps_within(cpu_seconds: float, phases: dict[int, float]) -> int:
  """Returns the updates per epoch with which training takes `cpu_seconds`.

  Args:
    cpu_seconds: CPU time of all epochs together.
    phases: The result of `measure_phases`.
  """
  starts = [*phases]
  lengths = np.diff([*starts, EPOCHS])
  one_step_each = float(np.dot(lengths, [*phases.values()]))
  return max(1, round(cpu_seconds / one_step_each))


def run(options: dict) -> dict:
  """Trains and tests one learner and returns its entry in the report."""
  data = make_tasks("train", query_shots=1).batch(META_BATCH).prefetch(2)
  validation = make_tasks("validation", query_shots=5).take(VALIDATION_TASKS)
  phases = measure_phases(data, options)
  steps = steps_within(60 * _MINUTES.value * CORES, phases)
  learner, clock = make_learner(steps, **options), TrainingClock()
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
    # The loss of a diverged learner is NaN, which JSON does not have.
    "history": {
      key: [value if math.isfinite(value) else None for value in values]
      for key, values in history.items()
    },
    "test": test(learner),
  }


def test(learner: tfmeta.MAMLPlusPlus) -> dict | None:
  """Returns the results on test tasks, or `None` if predictions are NaN."""
  tasks = make_tasks("test", query_shots=5).take(_TEST_TASKS.value).batch(20)
  try:
    result = tfmeta.evaluate(learner, tasks)
  except ValueError as error:
    print(error, flush=True)
    return None
  print(result, flush=True)
  return result.to_dict()


def plot(runs: dict, path: pathlib.Path) -> None:
  """Plots validation accuracy over time and test accuracy with its interval.

  Args:
    runs: Entries of the report, by name of the learner.
    path: PNG file to write.
  """
  canvas = figure.Figure(figsize=(13, 5), layout="constrained")
  left, right = canvas.subplots(1, 2, width_ratios=[3, 2])
  for number, (name, entry) in enumerate(runs.items()):
    style = "--" if name.startswith("MAML") else "-"
    left.plot(
      np.cumsum(entry["cpu_seconds"]) / 60,
      entry["history"]["val_accuracy"],
      style,
      label=name,
      color=f"C{number}",
    )
    _plot_test(right, number, entry["test"])
  left.set(
    xlabel="CPU minutes of training",
    ylabel="accuracy",
    title=f"{VALIDATION_TASKS} validation tasks",
  )
  left.legend(fontsize="small", loc="lower right", bbox_to_anchor=(1, 0.05))
  labels = [
    f"{name}\n{entry['updates']} updates" for name, entry in runs.items()
  ]
  right.set_yticks(range(len(runs)), labels)
  right.set_ylim(len(runs) - 0.5, -0.5)
  tested = [entry["test"] for entry in runs.values() if entry["test"]]
  tasks = max((result["tasks"] for result in tested), default=0)
  right.set(xlabel="accuracy", title=f"{tasks} test tasks, 95% interval")
  for axes in (left, right):
    axes.grid(alpha=0.3)
  canvas.suptitle(
    "20-way 1-shot Omniglot: MAML and ingredients of MAML++, about equal CPU "
    "time, one seed"
  )
  canvas.savefig(path, dpi=120)


def _plot_test(axes, number: int, result: dict | None) -> None:
  """Plots one test accuracy, or says that there is none."""
  color = f"C{number}"
  if result:
    axes.errorbar(
      result["accuracy"], number, xerr=result["interval"], fmt="o", color=color
    )
  else:
    axes.text(
      0.02,
      number,
      "predictions are NaN",
      color=color,
      va="center",
      transform=axes.get_yaxis_transform(),
    )


def load_report(output: pathlib.Path) -> dict:
  """Returns the report to continue, or a new one.

  The command ends if the runs in the file had other flags.
  """
  configuration = {
    "minutes": _MINUTES.value,
    "seed": _SEED.value,
    "filters": _FILTERS.value,
    "test_tasks": _TEST_TASKS.value,
  }
  if not output.exists():
    command = reports.command("ablation")
    return {"command": command, **configuration, "runs": {}}
  report = json.loads(output.read_text())
  before = {key: report[key] for key in configuration}
  if before != configuration:
    sys.exit(
      f"The runs in {output} had the flags {before}; remove the file or choose "
      f"another --output. Received: {configuration}"
    )
  return report


def main(_) -> None:
  """Runs the learners that the report lacks and writes JSON and plots."""
  output = pathlib.Path(_OUTPUT.value).with_suffix(".json")
  report = load_report(output)
  for name, options in VARIANTS.items():
    if name not in report["runs"]:
      print(name, flush=True)
      report["runs"][name] = run(options)
      reports.write(output, report)
      plot(report["runs"], output.with_suffix(".png"))


if __name__ == "__main__":
  app.run(main)
