"""Locomotion of MAML's paper on MuJoCo: half-cheetah and ant.

All episodes of all tasks are stepped at once by `mujoco.rollout`, on several
threads. The bodies are those of Gymnasium, which differ from those of the
papers: returns can be compared within one version only.
"""

import pathlib
from typing import Any

import keras
import numpy as np

from tfmeta import arguments
from tfmeta import packages
from tfmeta.environments import simulators

# Steps of the physics for each action.
_FRAME_SKIP = 5

# Half the width of the initial positions, and the deviation of the velocities.
_NOISE = 0.1


class _Locomotion(simulators.Simulator):
  """A body of Gymnasium that is stepped by `mujoco.rollout`.

  A subclass derives from a body and from this class, in this order, and writes
  `sample` and `rewards`.
  """

  # Name of the file in Gymnasium.
  body: str
  # How many positions, from the first one on, are not observed.
  hidden_positions: int

  def __init__(self, horizon: int = 200, *, threads: int = 2):
    self.horizon = arguments.check_integer("horizon", horizon, least=1)
    self.threads = arguments.check_integer("threads", threads, least=1)
    self._model = _read_model(self.body)
    mujoco = packages.mujoco()
    self._data = [mujoco.MjData(self._model) for _ in range(threads)]
    self._rollout = mujoco.rollout.Rollout(nthread=threads)
    self.actions = int(self._model.nu)
    width = self._model.nq + self._model.nv - self.hidden_positions
    self.observation_shape = (int(width),)
    self._seconds = _FRAME_SKIP * self._model.opt.timestep

  def rewards(
    self, velocity: np.ndarray, position: np.ndarray, cost: np.ndarray
  ) -> np.ndarray:
    """Returns the rewards `[T, B]` of one step.

    Args:
      velocity: `[T, B]`, forward, in meters per second.
      position: `[T, B, nq]` after the step.
      cost: `[T, B]`, the squared norm of the actions.
    """
    raise NotImplementedError

  def ended(self, position: np.ndarray) -> np.ndarray:
    """Returns whether episodes end, `[T, B]`."""
    return np.zeros(position.shape[:2], bool)

  def start(
    self, tasks: dict[str, np.ndarray], episodes: int, seeds: np.ndarray
  ) -> np.ndarray:
    self._tasks = tasks
    count, model = len(seeds), self._model
    noise = [np.random.default_rng(seed.astype(np.uint32)) for seed in seeds]
    position = model.qpos0 + np.stack(
      [rng.uniform(-_NOISE, _NOISE, (episodes, model.nq)) for rng in noise]
    )
    velocity = _NOISE * np.stack(
      [rng.normal(size=(episodes, model.nv)) for rng in noise]
    )
    self._state = np.zeros([count, episodes, 1 + model.nq + model.nv])
    self._state[..., 1:] = np.concatenate([position, velocity], axis=-1)
    return self._observed()

  def advance(
    self, actions: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    before = self._positions()
    clipped = np.clip(actions, -1, 1).astype(np.float64)
    rows = clipped.reshape(-1, 1, self.actions)
    states, _ = self._rollout.rollout(
      self._model,
      self._data,
      self._state.reshape(-1, self._state.shape[-1]),
      np.repeat(rows, _FRAME_SKIP, axis=1),
    )
    self._state = states[:, -1].reshape(self._state.shape)
    after = self._positions()
    velocity = (after - before)[..., 0] / self._seconds
    cost = np.sum(clipped**2, axis=-1)
    rewards = self.rewards(velocity, after, cost)
    return self._observed(), rewards, self.ended(after)

  def get_config(self) -> dict[str, Any]:
    return {"horizon": self.horizon, "threads": self.threads}

  def _positions(self) -> np.ndarray:
    return self._state[..., 1 : 1 + self._model.nq]

  def _observed(self) -> np.ndarray:
    return self._state[..., 1 + self.hidden_positions :].astype(np.float32)

  def _per_task(self, name: str) -> np.ndarray:
    """Returns the numbers of the tasks, `[T, 1]`."""
    return self._tasks[name][:, np.newaxis]


def _read_model(body: str) -> Any:
  """Returns the MuJoCo model of a body of Gymnasium."""
  mujoco = packages.mujoco()
  package = pathlib.Path(packages.gymnasium().__file__).parent
  path = package / "envs" / "mujoco" / "assets" / body
  return mujoco.MjModel.from_xml_path(str(path))


class _HalfCheetah:
  """The body of a half-cheetah: 6 joints, 17 observations, no early end."""

  body = "half_cheetah.xml"
  hidden_positions = 1


@keras.saving.register_keras_serializable("tfmeta")
class HalfCheetahDirection(_HalfCheetah, _Locomotion):
  """A half-cheetah that must run forward or backward.

  The reward of a step is `direction * velocity - 0.05 * |action|^2`, with the
  direction of the task, 1 or -1 with equal probability.

  Args:
    horizon: Integer >= 1. The largest number of steps. Defaults to 200.
    threads: Integer >= 1. Threads of the simulator. Defaults to 2.

  Raises:
    ImportError: If MuJoCo or Gymnasium is not installed.
  """

  def sample(self, rng: np.random.Generator) -> dict[str, Any]:
    return {"direction": np.float32(rng.choice([-1.0, 1.0]))}

  def rewards(
    self, velocity: np.ndarray, position: np.ndarray, cost: np.ndarray
  ) -> np.ndarray:
    return self._per_task("direction") * velocity - 0.05 * cost


@keras.saving.register_keras_serializable("tfmeta")
class HalfCheetahVelocity(_HalfCheetah, _Locomotion):
  """A half-cheetah that must run at the velocity of the task.

  The reward of a step is `-|velocity - target| - 0.05 * |action|^2`.

  Args:
    horizon: Integer >= 1. The largest number of steps. Defaults to 200.
    fastest: Float > 0. Targets are uniform between 0 and this, in meters per
      second. The released code of MAML has 2, ProMP's has 3. Defaults to 2.0.
    threads: Integer >= 1. Threads of the simulator. Defaults to 2.

  Raises:
    ImportError: If MuJoCo or Gymnasium is not installed.
  """

  def __init__(
    self, horizon: int = 200, *, fastest: float = 2.0, threads: int = 2
  ):
    super().__init__(horizon, threads=threads)
    self.fastest = arguments.check_number("fastest", fastest, above=0)

  def sample(self, rng: np.random.Generator) -> dict[str, Any]:
    return {"target": np.float32(rng.uniform(0, self.fastest))}

  def rewards(
    self, velocity: np.ndarray, position: np.ndarray, cost: np.ndarray
  ) -> np.ndarray:
    return -np.abs(velocity - self._per_task("target")) - 0.05 * cost

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "fastest": self.fastest}


class _Ant:
  """The body of an ant: 8 joints, 27 observations.

  An episode ends where the height of the torso leaves [0.2, 1] meters. The
  rewards of the papers also have a small cost of contact forces, which is left
  out here.
  """

  body = "ant.xml"
  hidden_positions = 2

  def ended(self, position: np.ndarray) -> np.ndarray:
    height = position[..., 2]
    return (height < 0.2) | (height > 1.0)


def _with_costs(gain: np.ndarray, cost: np.ndarray) -> np.ndarray:
  """Returns the reward of an ant, with its costs and for its survival."""
  return gain - 0.005 * cost + 0.05


@keras.saving.register_keras_serializable("tfmeta")
class AntDirection(_Ant, _Locomotion):
  """An ant that must walk forward or backward.

  The reward of a step is `direction * velocity - 0.005 * |action|^2 + 0.05`,
  with the direction of the task, 1 or -1 with equal probability. An episode
  ends where the height of the torso leaves [0.2, 1] meters.

  Args:
    horizon: Integer >= 1. The largest number of steps. Defaults to 200.
    threads: Integer >= 1. Threads of the simulator. Defaults to 2.

  Raises:
    ImportError: If MuJoCo or Gymnasium is not installed.
  """

  def sample(self, rng: np.random.Generator) -> dict[str, Any]:
    return {"direction": np.float32(rng.choice([-1.0, 1.0]))}

  def rewards(
    self, velocity: np.ndarray, position: np.ndarray, cost: np.ndarray
  ) -> np.ndarray:
    return _with_costs(self._per_task("direction") * velocity, cost)


@keras.saving.register_keras_serializable("tfmeta")
class AntVelocity(_Ant, _Locomotion):
  """An ant that must walk at the velocity of the task, uniform in [0, 3] m/s.

  The reward of a step is `1 - |velocity - target| - 0.005 * |action|^2 + 0.05`.
  An episode ends where the height of the torso leaves [0.2, 1] meters.

  Args:
    horizon: Integer >= 1. The largest number of steps. Defaults to 200.
    threads: Integer >= 1. Threads of the simulator. Defaults to 2.

  Raises:
    ImportError: If MuJoCo or Gymnasium is not installed.
  """

  def sample(self, rng: np.random.Generator) -> dict[str, Any]:
    return {"target": np.float32(rng.uniform(0, 3))}

  def rewards(
    self, velocity: np.ndarray, position: np.ndarray, cost: np.ndarray
  ) -> np.ndarray:
    distance = np.abs(velocity - self._per_task("target"))
    return _with_costs(1 - distance, cost)


@keras.saving.register_keras_serializable("tfmeta")
class AntGoal(_Ant, _Locomotion):
  """An ant that must walk to a goal, uniform in the square [-3, 3]^2 meters.

  The reward of a step is `4 - |x - goal|_1 - 0.005 * |action|^2 + 0.05`, with
  the position x of the torso. An episode ends where the height of the torso
  leaves [0.2, 1] meters.

  Args:
    horizon: Integer >= 1. The largest number of steps. Defaults to 200.
    threads: Integer >= 1. Threads of the simulator. Defaults to 2.

  Raises:
    ImportError: If MuJoCo or Gymnasium is not installed.
  """

  def sample(self, rng: np.random.Generator) -> dict[str, Any]:
    return {"goal": rng.uniform(-3, 3, 2).astype(np.float32)}

  def rewards(
    self, velocity: np.ndarray, position: np.ndarray, cost: np.ndarray
  ) -> np.ndarray:
    goal = self._tasks["goal"][:, np.newaxis]
    distance = np.abs(position[..., :2] - goal).sum(axis=-1)
    return _with_costs(4 - distance, cost)
