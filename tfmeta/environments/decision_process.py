"""Environments that are tables: small enough to enumerate."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import random
from tfmeta.data import sampler
from tfmeta.environments import base


@keras.saving.register_keras_serializable("tfmeta")
class DecisionProcess(base.Environment):
  """A Markov decision process, given by tables of probabilities and rewards.

  Episodes start in state 0 and last for the whole horizon. An observation is
  the one-hot vector of the state. All episodes of a small process can be
  enumerated, so that returns and their derivatives are known exactly.

  Args:
    states: Integer >= 1. Number of states.
    choices: Integer >= 2. Number of choices in each state.
    horizon: Integer >= 1. Number of steps.
    transitions: Probabilities `[states, choices, states]` of the next state,
      the same for all tasks. By default, each task samples its own, uniform
      among all distributions.
    rewards: `[states, choices]`, the same for all tasks. By default, each task
      samples its own from the standard normal distribution.
    dtype: Type of observations and rewards. Defaults to `"float32"`.

  Raises:
    ValueError: If a size is too small, or a table has a wrong shape or rows
      that are no probabilities.
  """

  discrete = True

  def __init__(
    self,
    states: int,
    choices: int,
    *,
    horizon: int,
    transitions: Any = None,
    rewards: Any = None,
    dtype: str = "float32",
  ):
    self.states = arguments.check_integer("states", states, least=1)
    self.actions = arguments.check_integer("choices", choices, least=2)
    self.horizon = arguments.check_integer("horizon", horizon, least=1)
    self.dtype = arguments.check_choice("dtype", dtype, ("float32", "float64"))
    self.observation_shape = (states,)
    self.transitions = _table(
      "transitions", transitions, (states, choices, states)
    )
    self.rewards = _table("rewards", rewards, (states, choices))
    _check_probabilities(self.transitions)

  def task_spec(self) -> dict[str, tf.TensorSpec]:
    shape = [self.states, self.actions]
    return {
      "transitions": tf.TensorSpec([*shape, self.states], self.dtype),
      "rewards": tf.TensorSpec(shape, self.dtype),
    }

  def sample_task(self, key: tf.Tensor) -> base.Task:
    spec = self.task_spec()
    first, second = sampler.split_key(key, 2)
    given = {"transitions": self.transitions, "rewards": self.rewards}
    # Normalized exponential variables are uniform among all distributions.
    uniform = sampler.uniform(first, spec["transitions"].shape, 1e-6, 1.0)
    sampled = {
      "transitions": -tf.math.log(uniform),
      "rewards": sampler.normal(second, spec["rewards"].shape),
    }
    task = {
      name: tf.cast(sampled[name] if table is None else table, self.dtype)
      for name, table in given.items()
    }
    total = tf.reduce_sum(task["transitions"], axis=-1, keepdims=True)
    return {**task, "transitions": task["transitions"] / total}

  def reset(
    self, tasks: base.Task, episodes: int, seeds: tf.Tensor
  ) -> tuple[Any, tf.Tensor]:
    states = tf.zeros([tf.shape(tasks["rewards"])[0], episodes], tf.int32)
    return (states, tf.cast(seeds, tf.int32)), self._observed(states)

  def step(
    self, tasks: base.Task, state: Any, actions: tf.Tensor
  ) -> tuple[Any, tf.Tensor, tf.Tensor, tf.Tensor]:
    states, seeds = state
    places = tf.stack([states, actions], axis=-1)
    rewards = tf.gather_nd(tasks["rewards"], places, batch_dims=1)
    rows = tf.gather_nd(tasks["transitions"], places, batch_dims=1)
    draws, seeds = _uniform_and_seeds(seeds, tf.shape(states)[1])
    below = tf.cumsum(rows, axis=-1) <= tf.cast(draws, rows.dtype)[..., None]
    # Rounding may leave the last sum below 1.
    following = tf.minimum(
      tf.reduce_sum(tf.cast(below, tf.int32), axis=-1), self.states - 1
    )
    ended = tf.zeros_like(following, tf.bool)
    return (following, seeds), self._observed(following), rewards, ended

  def get_config(self) -> dict[str, Any]:
    tables = {"transitions": self.transitions, "rewards": self.rewards}
    return {
      "states": self.states,
      "choices": self.actions,
      "horizon": self.horizon,
      **{k: None if v is None else v.tolist() for k, v in tables.items()},
      "dtype": self.dtype,
    }

  def _observed(self, states: tf.Tensor) -> tf.Tensor:
    return tf.one_hot(states, self.states, dtype=self.dtype)


@keras.saving.register_keras_serializable("tfmeta")
class Bandit(base.Environment):
  """A bandit with one good arm, which differs from task to task.

  An episode is one pull of an arm. The good arm pays 1 and the others 0, with
  Gaussian noise. The observation is the constant 1.

  Args:
    arms: Integer >= 2. Number of arms. Defaults to 2.
    noise_stddev: Number >= 0. Standard deviation of the noise on the rewards.
      Defaults to 0.
  """

  observation_shape = (1,)
  discrete = True
  horizon = 1

  def __init__(self, arms: int = 2, *, noise_stddev: float = 0.0):
    self.actions = arguments.check_integer("arms", arms, least=2)
    self.noise_stddev = arguments.check_number(
      "noise_stddev", noise_stddev, least=0
    )

  def task_spec(self) -> dict[str, tf.TensorSpec]:
    return {"good_arm": tf.TensorSpec([], tf.int32)}

  def sample_task(self, key: tf.Tensor) -> base.Task:
    return {"good_arm": sampler.uniform_integers(key, [], self.actions)}

  def reset(
    self, tasks: base.Task, episodes: int, seeds: tf.Tensor
  ) -> tuple[Any, tf.Tensor]:
    count = tf.shape(tasks["good_arm"])[0]
    return tf.cast(seeds, tf.int32), tf.ones([count, episodes, 1])

  def step(
    self, tasks: base.Task, state: Any, actions: tf.Tensor
  ) -> tuple[Any, tf.Tensor, tf.Tensor, tf.Tensor]:
    good = tf.equal(actions, tasks["good_arm"][:, tf.newaxis])
    draws, state = _uniform_and_seeds(state, tf.shape(actions)[1])
    noise = self.noise_stddev * tf.math.ndtri(draws)
    rewards = tf.cast(good, tf.float32) + noise
    ended = tf.ones_like(good)
    return state, tf.ones([*tf.unstack(tf.shape(good)), 1]), rewards, ended

  def get_config(self) -> dict[str, Any]:
    return {"arms": self.actions, "noise_stddev": self.noise_stddev}


def _uniform_and_seeds(
  seeds: tf.Tensor, episodes: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns uniform numbers `[T, B]` of this step, and seeds of the next."""

  def of_task(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    draws = random.uniform([episodes], random.fold_in(seed, 0), tf.float32)
    return draws, random.fold_in(seed, 1)

  return tf.vectorized_map(of_task, seeds)


def _table(name: str, values: Any, shape: tuple[int, ...]) -> Any:
  """Returns a table as an array, after checking its shape."""
  if values is None:
    return None
  table = np.asarray(values, np.float64)
  if table.shape != shape or not np.isfinite(table).all():
    raise ValueError(
      f"`{name}` must be finite numbers of shape {shape}. Received: shape "
      f"{table.shape}"
    )
  return table


def _check_probabilities(transitions: Any) -> None:
  if transitions is None:
    return
  sums = transitions.sum(axis=-1)
  if (transitions < 0).any() or not np.allclose(sums, 1.0):
    raise ValueError(
      "`transitions` must hold probabilities, which are not negative and add "
      f"up to 1 over the next states. Received: sums {sums.tolist()}"
    )
