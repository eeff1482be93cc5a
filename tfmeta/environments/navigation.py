"""Navigation of a point toward a goal that it cannot see."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.data import sampler
from tfmeta.environments import base

# An action moves the point by at most this much along each axis.
_LARGEST_MOVE = 0.1

# An episode ends this near to the goal along each axis.
_ARRIVED = 0.01

_FARTHEST_GOAL = 0.5


@keras.saving.register_keras_serializable("tfmeta")
class Navigation(base.Environment):
  """A point in the plane that must find a goal it cannot see.

  It is the 2-D navigation of MAML's paper [1], section 5.3. The goal of a task
  is uniform in the square [-0.5, 0.5]^2, and the point starts at the origin. An
  observation is its position. An action `[-1, 1]^2`, clipped to this range,
  moves the point by a tenth of it. The reward is the negative distance to the
  goal after the move; an episode ends when the point is within 0.01 of the goal
  along both axes.

  The released code clips actions to [-0.1, 0.1] and rescales those of the
  policy from [-1, 1], which gives the same moves.

  Args:
    horizon: Integer >= 1. The largest number of steps. Defaults to 100.

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017.
        https://arxiv.org/abs/1703.03400
    Released code: https://github.com/cbfinn/maml_rl
  """

  observation_shape = (2,)
  actions = 2

  def __init__(self, horizon: int = 100):
    self.horizon = arguments.check_integer("horizon", horizon, least=1)

  def task_spec(self) -> dict[str, tf.TensorSpec]:
    return {"goal": tf.TensorSpec([2], tf.float32)}

  def sample_task(self, key: tf.Tensor) -> base.Task:
    goal = sampler.uniform(key, [2], -_FARTHEST_GOAL, _FARTHEST_GOAL)
    return {"goal": goal}

  def reset(
    self, tasks: base.Task, episodes: int, seeds: tf.Tensor
  ) -> tuple[Any, tf.Tensor]:
    del seeds
    position = tf.zeros([tf.shape(tasks["goal"])[0], episodes, 2])
    return position, position

  def step(
    self, tasks: base.Task, state: Any, actions: tf.Tensor
  ) -> tuple[Any, tf.Tensor, tf.Tensor, tf.Tensor]:
    position = state + _LARGEST_MOVE * tf.clip_by_value(actions, -1.0, 1.0)
    offset = position - tasks["goal"][:, tf.newaxis]
    ended = tf.reduce_all(tf.abs(offset) < _ARRIVED, axis=-1)
    return position, position, -tf.norm(offset, axis=-1), ended

  def get_config(self) -> dict[str, Any]:
    return {"horizon": self.horizon}
