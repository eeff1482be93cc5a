"""Simulators that run outside of the graph, as environments."""

import abc
from collections.abc import Callable
import itertools
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta import packages
from tfmeta.environments import base

# Runs of all simulators are numbered, to notice when one disturbs another.
_runs = itertools.count(1)


class Simulator(base.Environment, abc.ABC):
  """An environment whose episodes a NumPy program simulates.

  The program is called once per time step for all episodes of all tasks. XLA
  and TPUs cannot compile it, and an instance can serve one run at a time.

  A subclass sets the attributes of `Environment` and writes `sample`, `start`,
  `advance` and `get_config`.

  Attributes:
    seconds: How long `start` and `advance` have run so far.
  """

  in_graph = False
  seconds = 0.0
  _run = 0

  @abc.abstractmethod
  def sample(self, rng: np.random.Generator) -> dict[str, Any]:
    """Returns a task: arrays by name, each with the same shape in all tasks."""

  @abc.abstractmethod
  def start(
    self, tasks: dict[str, np.ndarray], episodes: int, seeds: np.ndarray
  ) -> np.ndarray:
    """Starts B episodes of each task.

    Args:
      tasks: Arrays `[T, ...]` by name.
      episodes: The number B of episodes.
      seeds: Integers `[T, 2]`.

    Returns:
      Observations `[T, B, *observation_shape]`.
    """

  @abc.abstractmethod
  def advance(
    self, actions: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Makes one step of all episodes.

    Args:
      actions: Floats `[T, B, actions]` in [-1, 1], or integers `[T, B]`.

    Returns:
      Observations `[T, B, *observation_shape]`, rewards `[T, B]`, and booleans
      `[T, B]`: whether the episode ends with this step.
    """

  def task_spec(self) -> dict[str, tf.TensorSpec]:
    return {
      name: tf.TensorSpec(value.shape, value.dtype)
      for name, value in self._sampled(np.zeros(2, np.int64)).items()
    }

  def sample_task(self, key: tf.Tensor) -> base.Task:
    spec = self.task_spec()
    values = tf.numpy_function(
      lambda key: list(self._sampled(key).values()),
      [key],
      [s.dtype for s in spec.values()],
      stateful=False,
    )
    for value, one in zip(values, spec.values(), strict=True):
      value.set_shape(one.shape)
    return dict(zip(spec, values, strict=True))

  def reset(
    self, tasks: base.Task, episodes: int, seeds: tf.Tensor
  ) -> tuple[Any, tf.Tensor]:
    names = list(tasks)

    def start(seeds: np.ndarray, *values: np.ndarray) -> Any:
      self._run, self._steps = next(_runs), 0
      named = dict(zip(names, values, strict=True))
      found = self._timed(self.start, named, episodes, seeds)
      self._check("observations", found)
      return np.int64(self._run), found.astype(np.float32)

    run, observations = tf.numpy_function(
      start, [seeds, *tasks.values()], [tf.int64, tf.float32]
    )
    run.set_shape([])
    return run, self._shaped(observations, tasks, episodes)

  def step(
    self, tasks: base.Task, state: Any, actions: tf.Tensor
  ) -> tuple[Any, tf.Tensor, tf.Tensor, tf.Tensor]:
    types = [tf.float32, tf.float32, tf.bool]
    found = tf.numpy_function(self._advance, [state, actions], types)
    observations, rewards, ended = found
    episodes = actions.shape[1]
    count = next(iter(tasks.values())).shape[0]
    for value in (rewards, ended):
      value.set_shape([count, episodes])
    observations = self._shaped(observations, tasks, episodes)
    return state, observations, rewards, ended

  def _timed(self, method: Callable[..., Any], *arguments: Any) -> Any:
    began = time.perf_counter()
    try:
      return method(*arguments)
    finally:
      self.seconds += time.perf_counter() - began

  def _advance(self, run: np.ndarray, actions: np.ndarray) -> Any:
    if run != self._run:
      raise ValueError(
        "A simulator serves one run at a time: make another environment for "
        f"another thread. Received: a step of run {run} in run {self._run}"
      )
    self._steps += 1
    observations, rewards, ended = self._timed(self.advance, actions)
    self._check("observations", observations)
    self._check("rewards", rewards)
    return (
      observations.astype(np.float32),
      rewards.astype(np.float32),
      ended.astype(bool),
    )

  def _sampled(self, key: np.ndarray) -> dict[str, np.ndarray]:
    sampled = self.sample(np.random.default_rng(key.astype(np.uint64)))
    return {name: np.asarray(value) for name, value in sampled.items()}

  def _shaped(self, observations: Any, tasks: base.Task, episodes: Any) -> Any:
    count = next(iter(tasks.values())).shape[0]
    observations.set_shape([count, episodes, *self.observation_shape])
    return observations

  def _check(self, name: str, values: np.ndarray) -> None:
    if np.isfinite(values).all():
      return
    task, episode, *_ = np.argwhere(~np.isfinite(values))[0]
    raise ValueError(
      f"A simulator must return finite {name}. Received: "
      f"{values[task, episode]} in task {task}, episode {episode}, step "
      f"{self._steps}"
    )


def from_gymnasium(
  make: Callable[[], Any],
  *,
  horizon: int,
  sample_task: Callable[[np.random.Generator], Any],
  action_scale: float = 1.0,
) -> "GymnasiumEnvironment":
  """Returns an environment made of a Gymnasium environment with tasks.

  Args:
    make: Function without arguments that returns a `gymnasium.Env` with a
      method `set_task(task)`, as those of Meta-World and learn2learn have. It
      is called once for each episode that runs at the same time. Register it
      with `keras.saving.register_keras_serializable` to save learners.
    horizon: Integer >= 1. The largest number of steps of an episode.
    sample_task: Function from a `numpy.random.Generator` to a task: an array, a
      number, or a dictionary of such, with the same shapes in all tasks.
    action_scale: Float > 0. Actions of the policy are clipped to
      [-action_scale, action_scale] and mapped to the bounds of the action
      space. The released code of MAML has 1, ProMP's has 10. Defaults to 1.0.

  Raises:
    ImportError: If Gymnasium is not installed.
    TypeError: If `make` does not return an environment with `set_task`.
    ValueError: If a space is not supported.
  """
  return GymnasiumEnvironment(
    make, horizon=horizon, sample_task=sample_task, action_scale=action_scale
  )


@keras.saving.register_keras_serializable("tfmeta")
class GymnasiumEnvironment(Simulator):
  """A Gymnasium environment with tasks; see `from_gymnasium`.

  Observations are flat: a box of any shape becomes a vector. An episode ends
  where Gymnasium terminates or truncates it, and is never reset in between.

  Args:
    make: Function that returns a `gymnasium.Env` with `set_task`.
    horizon: Integer >= 1. The largest number of steps of an episode.
    sample_task: Function from a `numpy.random.Generator` to a task.
    action_scale: Float > 0. Defaults to 1.0.
  """

  def __init__(
    self,
    make: Callable[[], Any],
    *,
    horizon: int,
    sample_task: Callable[[np.random.Generator], Any],
    action_scale: float = 1.0,
  ):
    self.horizon = arguments.check_integer("horizon", horizon, least=1)
    self.action_scale = arguments.check_number(
      "action_scale", action_scale, above=0
    )
    for name, value in (("make", make), ("sample_task", sample_task)):
      if not callable(value):
        raise TypeError(f"`{name}` must be a function. Received: {value!r}")
    self.make = make
    self.task_sampler = sample_task
    self._environments: list[Any] = [self._made()]
    first = self._environments[0]
    self.observation_shape = (_size_of_observations(first.observation_space),)
    self.discrete, self.actions = _kind_of_actions(first.action_space)

  def sample(self, rng: np.random.Generator) -> dict[str, Any]:
    task = self.task_sampler(rng)
    return task if isinstance(task, dict) else {"task": np.asarray(task)}

  def start(
    self, tasks: dict[str, np.ndarray], episodes: int, seeds: np.ndarray
  ) -> np.ndarray:
    count = len(seeds)
    while len(self._environments) < count * episodes:
      self._environments.append(self._made())
    self._ended = np.zeros([count, episodes], bool)
    shape = (count, episodes, *self.observation_shape)
    self._last = np.zeros(shape, np.float32)
    for index, episode in np.ndindex(count, episodes):
      environment = self._environments[index * episodes + episode]
      environment.unwrapped.set_task(_task_of(tasks, index))
      words = np.append(seeds[index], episode).astype(np.uint32)
      seed = int(np.random.SeedSequence(words).generate_state(1)[0])
      observation, _ = environment.reset(seed=seed)
      self._last[index, episode] = np.ravel(observation)
    return self._last.copy()

  def advance(
    self, actions: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rewards = np.zeros(self._ended.shape, np.float32)
    for index, episode in zip(*np.nonzero(~self._ended), strict=True):
      place = index * self._ended.shape[1] + episode
      observation, reward, terminated, truncated, _ = self._environments[
        place
      ].step(self._mapped(actions[index, episode]))
      self._last[index, episode] = np.ravel(observation)
      rewards[index, episode] = reward
      self._ended[index, episode] = terminated or truncated
    return self._last.copy(), rewards, self._ended.copy()

  def get_config(self) -> dict[str, Any]:
    serialize = keras.saving.serialize_keras_object
    return {
      "make": serialize(self.make),
      "horizon": self.horizon,
      "sample_task": serialize(self.task_sampler),
      "action_scale": self.action_scale,
    }

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "GymnasiumEnvironment":
    config = dict(config)
    for key in ("make", "sample_task"):
      config[key] = keras.saving.deserialize_keras_object(config[key])
    return cls(**config)

  def _made(self) -> Any:
    environment = self.make()
    gymnasium = packages.gymnasium()
    if not isinstance(environment, gymnasium.Env) or not callable(
      getattr(environment.unwrapped, "set_task", None)
    ):
      raise TypeError(
        "`make` must return a gymnasium.Env with a method set_task(task), "
        "which makes the environment that of a task. Received: "
        f"{environment!r}"
      )
    return environment

  def _mapped(self, action: np.ndarray) -> Any:
    """Maps an action of the policy to the bounds of the action space."""
    space = self._environments[0].action_space
    if self.discrete:
      return int(action) + int(space.start)
    share = np.clip(action / self.action_scale, -1, 1) / 2 + 0.5
    mapped = space.low + share.reshape(space.shape) * (space.high - space.low)
    return mapped.astype(space.dtype)


def _task_of(tasks: dict[str, np.ndarray], index: int) -> Any:
  """Returns one task as `sample_task` has made it."""
  if list(tasks) == ["task"]:
    return tasks["task"][index]
  return {name: values[index] for name, values in tasks.items()}


def _size_of_observations(space: Any) -> int:
  if not isinstance(space, packages.gymnasium().spaces.Box):
    raise ValueError(
      "The observations must be a Box; gymnasium.wrappers.FlattenObservation "
      f"makes one of a Dict or a Tuple. Received: {space}"
    )
  return int(np.prod(space.shape))


def _kind_of_actions(space: Any) -> tuple[bool, int]:
  """Returns whether actions are choices, and how many numbers they have."""
  spaces = packages.gymnasium().spaces
  if isinstance(space, spaces.Discrete):
    return True, int(space.n)
  if not isinstance(space, spaces.Box):
    raise ValueError(
      f"The actions must be a Box or Discrete. Received: {space}"
    )
  if not space.is_bounded():
    raise ValueError(
      "The actions must be bounded, because the actions of the policy are "
      "mapped to the bounds: gymnasium.wrappers.RescaleAction sets bounds. "
      f"Received: {space}"
    )
  return False, int(np.prod(space.shape))
