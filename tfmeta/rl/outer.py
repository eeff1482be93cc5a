"""One step of training or measuring a learner that acts."""

import functools
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf

from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context
from tfmeta.core import random
from tfmeta.core import replicas
from tfmeta.core import task_map
from tfmeta.rl.episodes import Episodes
from tfmeta.rl.episodes import Example
from tfmeta.rl.episodes import mean_return

_IN_TRAINING = ("meta_loss", "divergence", "accepted")


class Collected(NamedTuple):
  """The episodes of a batch of tasks, before and after each inner step.

  Attributes:
    examples: K + 1 `Example`s `[T, B, H, ...]`. The first K are those of the
      inner steps; the adapted policies acted the last one.
    episodes: K + 1 `Episodes`.
    returns: `[T, K + 1]`, mean undiscounted returns.
  """

  examples: list[Example]
  episodes: list[Episodes]
  returns: tf.Tensor


def collect(
  learner: Any, tasks: Any, context: Context, steps: int | None = None
) -> Collected:
  """Acts, adapts to what was acted, and acts again, for a batch of tasks.

  Args:
    learner: A `PolicyLearner`.
    tasks: Structure of tensors `[T, ...]`.
    context: The training step, and as `index` the index of the first task.
    steps: Number of inner steps; by default that of the learner.
  """
  count = tf.shape(tf.nest.flatten(tasks)[0])[0]
  indices = replicas.task_indices(count, context.index)
  method = learner.task_map_method()
  weights = tf.nest.map_structure(
    lambda w: tf.broadcast_to(w, [count, *w.shape]), learner.initial_weights()
  )

  def adapt(
    phase: int, index: tf.Tensor, weights: Any, example: Example
  ) -> Any:
    scaled = learner.scaled(example, phase)
    return learner.inner_step(weights, scaled, context.replace(index=index))

  if steps is None:
    steps = int(learner.adaptations_for(context))
  episodes, examples = [], []
  for phase in range(steps + 1):
    seeds = _seeds(learner.seed, context, indices, phase)
    episodes.append(learner.roll_out(tasks, weights, seeds))
    examples.append(
      task_map.map_tasks(learner.example, (episodes[-1],), method)
    )
    if phase < steps:
      following = task_map.map_tasks(
        functools.partial(adapt, phase),
        (indices, weights, examples[-1]),
        method,
      )
      weights = tf.nest.map_structure(tf.stop_gradient, following)
  returns = [mean_return(one) for one in episodes]
  return Collected(examples, episodes, tf.stack(returns, axis=-1))


def _seeds(
  seed: int, context: Context, indices: tf.Tensor, phase: int
) -> tf.Tensor:
  """Returns the seeds `[T, 2]` of one phase of acting."""

  def of_task(index: tf.Tensor) -> tf.Tensor:
    return random.fold_in(context.replace(index=index).seed_from(seed), phase)

  return task_map.map_tasks(of_task, (indices,), "vectorize")


def train(learner: Any, tasks: Any) -> dict[str, Any]:
  """Makes one training step, and returns the metrics by name.

  Args:
    learner: A compiled `PolicyLearner`.
    tasks: Structure of tensors `[T, ...]`.
  """
  context = Context(training=True, step=learner.steps_made())
  collected = collect(learner, tasks, context)
  *support, query = collected.examples
  moved = learner.improve((support, query))
  return _report(learner, collected.returns, moved)


def test(learner: Any, tasks: Any) -> dict[str, Any]:
  """Measures a batch of tasks, and returns the metrics by name.

  All epochs see the same random numbers, and each task of an epoch sees its
  own.
  """
  measured = _value_of(learner.trackers["return"].count)
  first = tf.cast(replicas.sum_over_replicas(measured), tf.int32)
  context = EVALUATION.replace(index=first)
  return _report(learner, collect(learner, tasks, context).returns, {})


def new_trackers() -> dict[str, keras.metrics.Mean]:
  """Returns the metrics of a learner by name."""
  names = ("return", "return_before", *_IN_TRAINING)
  return {name: keras.metrics.Mean(name) for name in names}


def _report(
  learner: Any, returns: tf.Tensor, moved: dict[str, tf.Tensor]
) -> dict[str, Any]:
  """Updates and returns the metrics.

  Args:
    learner: A compiled `PolicyLearner`.
    returns: `[T, K + 1]`.
    moved: Metrics of the step of the optimizer; empty outside of training.
  """
  count = tf.shape(returns)[0]
  values = {"return": returns[:, -1], "return_before": returns[:, 0]}
  values = {
    name: replicas.mean_or_zero(value) for name, value in values.items()
  }
  values = {**values, "loss": -values["return"], **moved}
  trackers = [metric for metric in learner.metrics if metric.name in values]
  # Without this dependency, counts that are known when the step is traced would
  # grow in a step that finds no data.
  with tf.control_dependencies([returns]):
    for metric in trackers:
      metric.update_state(values[metric.name], sample_weight=count)
  return replicas.as_logs({metric.name: _mean(metric) for metric in trackers})


def _mean(metric: keras.metrics.Mean) -> tf.Tensor:
  """Returns the value of a metric over all replicas.

  Keras combines the replicas of metrics only where a step reports all metrics
  of the model.
  """
  parts = [_value_of(v) for v in (metric.total, metric.count)]
  return tf.math.divide_no_nan(*replicas.sum_over_replicas(parts))


def _value_of(variable: Any) -> tf.Tensor:
  """Returns the value of a variable, as a tensor on the replica's device.

  Several workers can add only tensors whose device is known, which that of a
  value just read is not.
  """
  return tf.identity(tf.convert_to_tensor(variable))
