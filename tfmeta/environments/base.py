"""Environments: families of tasks in which policies act."""

from typing import Any

import tensorflow as tf

from tfmeta.data import sampler
from tfmeta.data import splits

Task = dict[str, tf.Tensor]


class Environment:
  """A family of tasks, all of which have the same observations and actions.

  The episodes of a batch of tasks run in lock-step: `reset` and `step` take B
  episodes of each of T tasks at once. They are pure functions: `state` holds
  all that changes, random numbers included.

  A subclass sets the attributes and writes `task_spec`, `sample_task`, `reset`,
  `step` and `get_config`. Registered with
  `keras.saving.register_keras_serializable`, it is saved with its learner.

  Attributes:
    observation_shape: Shape of one observation.
    actions: Integer: the numbers of an action or, if `discrete`, the number of
      choices.
    discrete: Whether an action is one of several choices.
    horizon: Integer >= 1, the largest number of steps of an episode.
    in_graph: Whether `reset` and `step` consist of TensorFlow operations. XLA
      and TPUs need this.
  """

  observation_shape: tuple[int, ...]
  actions: int
  discrete: bool = False
  horizon: int
  in_graph: bool = True

  def task_spec(self) -> dict[str, tf.TensorSpec]:
    """Returns shapes and types of one task."""
    raise NotImplementedError(f"{type(self).__name__} must define `task_spec`")

  def sample_task(self, key: tf.Tensor) -> Task:
    """Returns one task, a pure function of the key.

    Like `reset` and `step`, it becomes a part of a graph without AutoGraph:
    use `tf.cond` and `tf.where` where values decide.

    Args:
      key: int64 `[2]`.
    """
    raise NotImplementedError(
      f"{type(self).__name__} must define `sample_task`"
    )

  def reset(
    self, tasks: Task, episodes: int, seeds: tf.Tensor
  ) -> tuple[Any, tf.Tensor]:
    """Starts B episodes of each task.

    Args:
      tasks: Tensors `[T, ...]` by name.
      episodes: Integer, the number B of episodes.
      seeds: Integers `[T, 2]`, from which all random numbers follow. Those of a
        task may depend on its own seed only.

    Returns:
      The state, a structure of tensors `[T, ...]`, and observations `[T, B,
      *observation_shape]`.
    """
    raise NotImplementedError(f"{type(self).__name__} must define `reset`")

  def step(
    self, tasks: Task, state: Any, actions: tf.Tensor
  ) -> tuple[Any, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Makes one step of all episodes, also of those that have ended.

    Args:
      tasks: Tensors `[T, ...]` by name.
      state: What `reset` or the step before returned.
      actions: Floats `[T, B, actions]` or, if `discrete`, integers `[T, B]`.

    Returns:
      The state, observations `[T, B, *observation_shape]`, rewards `[T, B]`,
      and booleans `[T, B]`: whether the episode ends with this step.
    """
    raise NotImplementedError(f"{type(self).__name__} must define `step`")

  def tasks(
    self, split: str, *, seed: int = 0, start: int = 0
  ) -> tf.data.Dataset:
    """Returns the infinite dataset of tasks.

    Args:
      split: "train", "validation" or "test"; they share no random number.
      seed: Integer in [0, 2**63). Defaults to 0.
      start: Integer in [0, 2**63), the index of the first task. Task i depends
        only on the other arguments and i. Defaults to 0.

    Returns:
      A `tf.data.Dataset` of single tasks. Batch it before use.
    """
    salt = splits.index_of(split)
    return sampler.task_dataset(
      self.sample_task, seed=seed, start=start, salt=salt
    )

  def get_config(self) -> dict[str, Any]:
    """Returns the constructor arguments by name."""
    raise NotImplementedError(f"{type(self).__name__} must define `get_config`")

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "Environment":
    """Returns an environment made from what `get_config` returned."""
    return cls(**config)
