"""tfmeta: trains `tfmeta.MAML`, or another learner, with Keras's `fit`."""

import time
from typing import Any

import keras
import tensorflow as tf

from benchmarks.contenders import measure
from benchmarks.shared import logical_cpus
from benchmarks.shared import workload
import tfmeta

# Constructor arguments that only some learners have.
OPTIONS: dict[str, dict[str, Any]] = {
  "MAMLPlusPlus": {"multi_step_epochs": 1, "steps_per_epoch": 10**6},
  "PLATIPUS": {"num_samples": 5},
  "EMAML": {"num_particles": 5},
  "BMAML": {"num_particles": 5},
}


def make_update(case: workload.Case) -> measure.Update:
  """Returns a function that makes a given number of updates."""
  # On CPUs, XLA makes small dense networks faster and convolutions slower.
  compiled = case.ways is None
  # Each task runs on one core, as in the trainers.
  if case.configured:
    tfmeta.configure(tasks=case.tasks)
  with logical_cpus.strategy_for(case.replicas).scope():
    learner = _make_learner(case)
    learner.compile(_make_optimizer(case), jit_compile=compiled)
  traced = _timed_tracing(learner)
  inputs = workload.make_tasks(case)
  targets = inputs.pop("query_y")
  tasks = tf.data.Dataset.from_tensors((inputs, targets)).repeat()

  def update(count: int, tick: measure.Tick) -> float:
    short = count % measure.SHORT_UPDATES == 0
    steps = measure.SHORT_UPDATES if short else 1
    if steps != learner.steps_per_execution:
      learner.compile(
        learner.optimizer, jit_compile=compiled, steps_per_execution=steps
      )
    ticking = keras.callbacks.LambdaCallback(
      on_train_batch_end=lambda batch, logs: tick()
    )
    history = learner.fit(
      tasks, steps_per_epoch=count, callbacks=[ticking], verbose=0
    )
    return history.history["loss"][0]

  update.traced = traced
  return update


def _timed_tracing(learner: tfmeta.MetaLearner) -> list[float]:
  """Returns a list that receives the seconds of each trace of the train step.

  Python runs the step only while TensorFlow traces it.
  """
  seconds: list[float] = []
  step = learner.train_step

  def timed(data: Any) -> Any:
    begin = time.perf_counter()
    logs = step(data)
    seconds.append(time.perf_counter() - begin)
    return logs

  object.__setattr__(learner, "train_step", timed)
  return seconds


def _make_learner(case: workload.Case) -> tfmeta.MetaLearner:
  model = _make_model(case)
  # LEO's head for embeddings keeps its own initial weights.
  if len(case.image) == 3:
    pairs = zip(
      model.trainable_variables, workload.make_weights(case), strict=True
    )
    for variable, value in pairs:
      variable.assign(value)
  return getattr(tfmeta, case.learner)(
    model,
    inner_loss="mse" if case.ways is None else None,
    **_options(case),
    **OPTIONS.get(case.learner, {}),
  )


def _options(case: workload.Case) -> dict[str, Any]:
  """Returns the arguments of inner steps that the learner takes."""
  if case.learner == "ProtoNet":
    return {}
  options: dict[str, Any] = {"inner_steps": case.inner_steps}
  if case.learner != "LEO":
    options["inner_learning_rate"] = case.inner_learning_rate
  if case.first_order:
    options["first_order"] = True
  return options


def _make_model(case: workload.Case) -> keras.Model:
  if case.ways is None:
    hidden = (workload.HIDDEN, workload.HIDDEN)
    return tfmeta.models.mlp((1,), outputs=1, hidden=hidden, dtype=case.dtype)
  if len(case.image) == 1:
    return tfmeta.models.embedding_head(
      case.image[0], ways=case.ways, use_bias=False
    )
  return tfmeta.models.conv4(
    case.image, ways=case.ways, filters=case.filters, dtype=case.dtype
  )


def _make_optimizer(case: workload.Case) -> keras.Optimizer:
  if not case.adam:
    return keras.optimizers.SGD(workload.SGD_LEARNING_RATE)
  return keras.optimizers.Adam(
    workload.ADAM_LEARNING_RATE, epsilon=workload.ADAM_EPSILON
  )


if __name__ == "__main__":
  measure.run(make_update)
