"""Acts episodes: the episodes of all tasks run in lock-step, in one graph."""

from typing import Any

import tensorflow as tf

from tfmeta.core import random
from tfmeta.core import task_map
from tfmeta.rl.episodes import Episodes

# Streams of random numbers of a phase of acting.
_RESET, _ACT = 0, 1


def roll_out(
  learner: Any, tasks: Any, weights: list[tf.Tensor], seeds: tf.Tensor
) -> Episodes:
  """Acts `learner.episodes` episodes of each task.

  Args:
    learner: A `PolicyLearner`.
    tasks: Structure of tensors `[T, ...]`, the tasks.
    weights: Tensors `[T, ...]`, the weights of the policy for each task.
    seeds: Integers `[T, 2]`. The episodes of a task depend on its seed only.

  Returns:
    Episodes `[T, B, H, ...]`.
  """
  environment, count = learner.environment, learner.episodes
  noise = _for_each_seed(
    lambda seed: learner.actions.noise(
      random.fold_in(seed, _ACT), environment.horizon, count
    ),
    seeds,
  )
  resets = _for_each_seed(lambda seed: random.fold_in(seed, _RESET), seeds)
  state, observations = environment.reset(tasks, count, resets)

  def step(time: tf.Tensor, state: Any, observations: tf.Tensor) -> Any:
    parameters = task_map.map_tasks(
      learner.action_parameters,
      (weights, observations),
      learner.task_map_method(),
    )
    actions = learner.actions.sample(parameters, noise[:, time])
    state, following, rewards, ended = environment.step(tasks, state, actions)
    row = (observations, actions, rewards, parameters)
    return state, following, ended, row

  row = _run(step, state, observations, environment.horizon)
  observations, actions, rewards, parameters, mask = row
  return Episodes(observations, actions, rewards, mask, parameters)


def _for_each_seed(fn: Any, seeds: tf.Tensor) -> tf.Tensor:
  return task_map.map_tasks(fn, (seeds,), "vectorize")


def _run(
  step: Any, state: Any, observations: tf.Tensor, horizon: int
) -> list[tf.Tensor]:
  """Runs `step` over the horizon, and returns the rows as `[T, B, H, ...]`.

  The last row is the mask. Rewards past the end of an episode become 0.
  """
  # One traced function tells the shapes of a row and is the body of the loop.
  body = tf.function(step, autograph=False)
  traced = body.get_concrete_function(tf.constant(0), state, observations)
  shapes = traced.structured_outputs[-1]
  alive = tf.ones(tf.shape(observations)[:2], tf.bool)
  arrays = [
    tf.TensorArray(t.dtype, size=horizon, element_shape=t.shape)
    for t in (*shapes, shapes[2])
  ]

  def advance(
    time: tf.Tensor, state: Any, observations: Any, alive: Any, arrays: Any
  ) -> Any:
    state, following, ended, row = body(time, state, observations)
    mask = tf.cast(alive, row[2].dtype)
    rewards = tf.where(alive, row[2], tf.zeros_like(row[2]))
    row = (*row[:2], rewards, *row[3:], mask)
    arrays = [a.write(time, t) for a, t in zip(arrays, row, strict=True)]
    return time + 1, state, following, alive & ~ended, arrays

  *_, arrays = tf.while_loop(
    lambda time, *_: time < horizon,
    advance,
    (tf.constant(0), state, observations, alive, arrays),
    # A simulator outside of the graph makes one step after the other.
    parallel_iterations=1,
    maximum_iterations=horizon,
  )
  return [_time_last(a.stack(), horizon) for a in arrays]


def _time_last(rows: tf.Tensor, horizon: int) -> tf.Tensor:
  """Turns `[H, T, B, ...]` into `[T, B, H, ...]`."""
  rows = tf.ensure_shape(rows, [horizon, *rows.shape[1:]])
  return tf.transpose(rows, [1, 2, 0, *range(3, rows.shape.rank)])
