"""Tests half-cheetah and ant against MuJoCo, stepped by hand."""

import importlib.util
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta import environments

HAS_MUJOCO = importlib.util.find_spec("mujoco") is not None
SEEDS = tf.constant([[0, 1], [0, 2]])
ALL = (
  "HalfCheetahDirection",
  "HalfCheetahVelocity",
  "AntDirection",
  "AntVelocity",
  "AntGoal",
)


def batch(env, count=2):
  return next(iter(env.tasks("train").batch(count)))


@absltest.skipUnless(HAS_MUJOCO, "MuJoCo is not installed: tfmeta[rl] has it.")
class LocomotionTest(parameterized.TestCase):
  def stepped(self, file, position, velocity, action):
    """Returns position and velocity after one action, stepped by hand."""
    import gymnasium
    import mujoco

    folder = pathlib.Path(gymnasium.__file__).parent
    path = folder / "envs" / "mujoco" / "assets" / file
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = position, velocity, action
    mujoco.mj_step(model, data, nstep=5)
    return data.qpos.copy(), data.qvel.copy(), 5 * model.opt.timestep

  @parameterized.parameters(*ALL)
  def test_steps_and_rewards_are_those_of_the_physics(self, name):
    env = getattr(environments, name)(horizon=5)
    tasks = batch(env)
    state, observations = env.reset(tasks, 3, SEEDS)
    self.assertEqual(observations.shape, (2, 3, *env.observation_shape))
    rng = np.random.default_rng(0)
    actions = 1.5 * rng.normal(size=(2, 3, env.actions)).astype("float32")
    before = env._state[1, 2, 1:].copy()
    _, observations, rewards, ended = env.step(tasks, state, actions)
    count = env._model.nq
    used = np.clip(actions[1, 2], -1, 1)
    position, velocity, seconds = self.stepped(
      env.body, before[:count], before[count:], used
    )
    np.testing.assert_allclose(
      observations[1, 2],
      np.concatenate([position[env.hidden_positions :], velocity]),
      atol=1e-5,
    )
    forward = (position[0] - before[0]) / seconds
    task = {k: v[1].numpy() for k, v in tasks.items()}
    expected = {
      "HalfCheetahDirection": lambda: task["direction"] * forward,
      "HalfCheetahVelocity": lambda: -abs(forward - task["target"]),
      "AntDirection": lambda: task["direction"] * forward + 0.05,
      "AntVelocity": lambda: 1.05 - abs(forward - task["target"]),
      "AntGoal": lambda: 4.05 - np.abs(position[:2] - task["goal"]).sum(),
    }[name]()
    cost = 0.005 if name.startswith("Ant") else 0.05
    expected -= cost * (used**2).sum()
    np.testing.assert_allclose(rewards[1, 2], expected, atol=1e-5)
    if name.startswith("Ant"):
      self.assertEqual(ended[1, 2], not 0.2 <= position[2] <= 1.0)

  def test_episodes_follow_from_the_seed_of_the_task(self):
    env = environments.HalfCheetahVelocity(horizon=3)
    tasks = batch(env)
    _, both = env.reset(tasks, 3, SEEDS)
    _, again = env.reset(tasks, 3, SEEDS)
    _, alone = env.reset({k: v[1:] for k, v in tasks.items()}, 3, SEEDS[1:])
    np.testing.assert_array_equal(both, again)
    np.testing.assert_array_equal(both[1], alone[0])
    self.assertLen(np.unique(both[..., 0]), 6)

  def test_a_learner_trains(self):
    env = environments.HalfCheetahDirection(horizon=4)
    policy = tfmeta.models.gaussian_policy(
      env.observation_shape, actions=env.actions, hidden=(4,)
    )
    learner = tfmeta.rl.MAML(policy, env, episodes=2)
    learner.compile(tfmeta.rl.TrustRegion(0.01))
    history = learner.fit(
      env.tasks("train").batch(2), steps_per_epoch=2, verbose=0
    ).history
    self.assertTrue(np.isfinite(history["return"]).all())


@absltest.skipIf(HAS_MUJOCO, "MuJoCo is installed.")
class MissingTest(absltest.TestCase):
  def test_says_what_to_install(self):
    with self.assertRaisesRegex(ImportError, r"tfmeta\[rl\].*Received: "):
      environments.AntGoal()


if __name__ == "__main__":
  absltest.main()
