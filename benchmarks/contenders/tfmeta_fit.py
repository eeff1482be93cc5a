"""tfmeta: `tfmeta.MAML` under Keras's `fit`."""

import keras
import tensorflow as tf

from benchmarks.contenders import measure
from benchmarks.contenders import workload
import tfmeta


def make_update(case: workload.Case) -> measure.Update:
  """Returns a function that trains for so many updates."""
  learner = _make_learner(case)
  inputs = workload.make_tasks(case)
  targets = inputs.pop("query_y")
  tasks = tf.data.Dataset.from_tensors((inputs, targets)).repeat()

  def update(count: int, tick: measure.Tick) -> float:
    short = count % measure.SHORT_UPDATES == 0
    steps = measure.SHORT_UPDATES if short else 1
    if steps != learner.steps_per_execution:
      learner.compile(learner.optimizer, steps_per_execution=steps)
    ticking = keras.callbacks.LambdaCallback(
      on_train_batch_end=lambda batch, logs: tick()
    )
    history = learner.fit(
      tasks, steps_per_epoch=count, callbacks=[ticking], verbose=0
    )
    return history.history["loss"][0]

  return update


def _make_learner(case: workload.Case) -> tfmeta.MAML:
  if case.ways is None:
    hidden = (workload.HIDDEN, workload.HIDDEN)
    model = tfmeta.models.mlp((1,), outputs=1, hidden=hidden, dtype=case.dtype)
  else:
    model = tfmeta.models.conv4(
      workload.IMAGE,
      ways=case.ways,
      filters=workload.FILTERS,
      dtype=case.dtype,
    )
  pairs = zip(
    model.trainable_variables, workload.make_weights(case), strict=True
  )
  for variable, value in pairs:
    variable.assign(value)
  learner = tfmeta.MAML(
    model,
    inner_steps=case.inner_steps,
    inner_learning_rate=case.inner_learning_rate,
    inner_loss="mse" if case.ways is None else None,
    first_order=case.first_order,
  )
  learner.compile(_make_optimizer(case))
  return learner


def _make_optimizer(case: workload.Case) -> keras.Optimizer:
  if not case.adam:
    return keras.optimizers.SGD(workload.SGD_LEARNING_RATE)
  return keras.optimizers.Adam(
    workload.ADAM_LEARNING_RATE, epsilon=workload.ADAM_EPSILON
  )


if __name__ == "__main__":
  measure.run(make_update)
