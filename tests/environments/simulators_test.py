"""Tests simulators outside of the graph, with an environment of Gymnasium."""

import os
import time

from absl.testing import absltest
from absl.testing import parameterized
import gymnasium
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta import environments


class Line(gymnasium.Env):
  """A point on a line that is pushed away from the place of the task."""

  made = 0

  def __init__(self, actions=None, observations=None, broken=False):
    Line.made += 1
    self.action_space = actions or gymnasium.spaces.Box(-2.0, 6.0, (1,))
    self.observation_space = observations or gymnasium.spaces.Box(
      -9.0, 9.0, (2, 1)
    )
    self.broken = broken
    self.place = None
    self.taken = []

  def set_task(self, task):
    self.place = float(task)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.x = self.np_random.uniform()
    self.steps, self.taken = 0, []
    return self._observed(), {}

  def step(self, action):
    assert self.steps < 3, "The episode has ended."
    self.taken.append(action)
    self.steps += 1
    self.x += float(np.ravel(action)[0])
    reward = (
      np.nan if self.broken and self.steps == 2 else -abs(self.x - self.place)
    )
    return self._observed(), reward, self.x > 5, self.steps == 3, {}

  def _observed(self):
    return np.array([[self.x], [1.0]], np.float32)


@keras.saving.register_keras_serializable("tests")
def make_line():
  return Line()


@keras.saving.register_keras_serializable("tests")
def sample_place(rng):
  return rng.uniform(-1, 1)


def make(make=make_line, horizon=4, **options):
  return environments.from_gymnasium(
    make, horizon=horizon, sample_task=sample_place, **options
  )


def batch(env, count=2):
  return next(iter(env.tasks("train").batch(count)))


class GymnasiumTest(parameterized.TestCase):
  def test_tasks_reach_every_instance(self):
    env = make()
    tasks = batch(env)
    before = Line.made
    for _ in range(2):
      env.reset(tasks, 3, tf.constant([[0, 1], [0, 2]]))
    self.assertEqual(Line.made - before, 5)
    places = [one.place for one in env._environments]
    np.testing.assert_allclose(places, np.repeat(tasks["task"], 3))

  def test_episodes_depend_on_the_seed_of_the_task_alone(self):
    env = make()
    tasks = batch(env)
    _, both = env.reset(tasks, 3, tf.constant([[0, 1], [0, 2]]))
    _, again = env.reset(tasks, 3, tf.constant([[0, 1], [0, 2]]))
    _, alone = env.reset({"task": tasks["task"][1:]}, 3, tf.constant([[0, 2]]))
    np.testing.assert_array_equal(both, again)
    np.testing.assert_array_equal(both[1], alone[0])
    self.assertLen(np.unique(both[..., 0]), 6)

  def test_actions_are_mapped_to_the_bounds_and_clipped(self):
    for scale in (1.0, 10.0):
      env = make(action_scale=scale)
      tasks = batch(env, 1)
      state, _ = env.reset(tasks, 4, tf.constant([[0, 1]]))
      actions = scale * tf.constant([[[-3.0], [-1.0], [0.0], [0.5]]])
      env.step(tasks, state, actions)
      taken = [float(one.taken[0][0]) for one in env._environments[:4]]
      np.testing.assert_allclose(taken, [-2, -2, 2, 4])

  def test_tells_how_long_the_simulation_took(self):
    class Slow(Line):
      def step(self, action):
        time.sleep(0.01)
        return super().step(action)

    env = make(lambda: Slow())
    self.assertEqual(env.seconds, 0)
    tasks, began = batch(env), time.perf_counter()
    state, _ = env.reset(tasks, 3, tf.zeros([2, 2], tf.int64))
    for _ in range(2):
      env.step(tasks, state, tf.zeros([2, 3, 1]))
    # Six instances are stepped twice.
    self.assertGreater(env.seconds, 0.12)
    self.assertLess(env.seconds, time.perf_counter() - began)

  def test_episodes_are_cut_where_they_end(self):
    env = make()
    tasks = batch(env, 1)
    state, _ = env.reset(tasks, 2, tf.constant([[0, 1]]))
    actions = tf.constant([[[0.9], [-0.5]]])  # Pushes of 5.6 and 0.
    found = []
    for _ in range(4):
      state, observations, rewards, ended = env.step(tasks, state, actions)
      found.append((observations.numpy(), rewards.numpy(), ended.numpy()))
    np.testing.assert_array_equal(
      [ended[0].tolist() for *_, ended in found],
      [[True, False], [True, False], [True, True], [True, True]],
    )
    # No step follows the end, and no automatic reset.
    np.testing.assert_array_equal(found[0][0][0, 0], found[3][0][0, 0])
    self.assertEqual(found[1][1][0, 0], 0)

  def test_choices(self):
    actions = gymnasium.spaces.Discrete(3, start=-1)
    env = make(lambda: Line(actions=actions))
    self.assertTrue(env.discrete)
    self.assertEqual(env.actions, 3)
    tasks = batch(env, 1)
    state, _ = env.reset(tasks, 3, tf.constant([[0, 1]]))
    env.step(tasks, state, tf.constant([[0, 1, 2]]))
    self.assertEqual([one.taken for one in env._environments], [[-1], [0], [1]])

  def test_a_learner_trains_and_is_saved_with_its_environment(self):
    env = make()
    policy = tfmeta.models.gaussian_policy((2,), actions=1, hidden=(4,))
    learner = tfmeta.rl.MAML(policy, env, episodes=3)
    learner.compile(keras.optimizers.Adam(1e-2))
    tasks = env.tasks("train").batch(2)
    history = learner.fit(tasks, steps_per_epoch=2, verbose=0).history
    self.assertTrue(np.isfinite(history["return"]).all())
    path = os.path.join(self.create_tempdir(), "learner.keras")
    learner.save(path)
    loaded = keras.saving.load_model(path)
    test = env.tasks("test").batch(2).take(1)
    np.testing.assert_allclose(
      tfmeta.rl.evaluate(learner, test).returns,
      tfmeta.rl.evaluate(loaded, test).returns,
      rtol=1e-5,
    )

  def test_tasks_of_several_arrays(self):
    env = environments.from_gymnasium(
      make_line,
      horizon=2,
      sample_task=lambda rng: {"a": rng.normal(size=2), "b": rng.integers(5)},
    )
    tasks = batch(env, 3)
    self.assertEqual(tasks["a"].shape, (3, 2))
    self.assertEqual(tasks["b"].dtype, tf.int64)
    self.assertLen(np.unique(tasks["a"]), 6)


class MistakesTest(parameterized.TestCase):
  @parameterized.parameters(
    (
      {
        "observations": gymnasium.spaces.Dict({"x": gymnasium.spaces.Box(0, 1)})
      },
      "FlattenObservation",
    ),
    ({"actions": gymnasium.spaces.MultiBinary(2)}, "Box or Discrete"),
    ({"actions": gymnasium.spaces.Box(-np.inf, np.inf, (1,))}, "bounded"),
  )
  def test_spaces(self, options, words):
    with self.assertRaisesRegex(ValueError, f"{words}.*Received: "):
      make(lambda: Line(**options))

  def test_an_environment_without_tasks(self):
    class Plain(gymnasium.Env):
      pass

    with self.assertRaisesRegex(TypeError, "set_task.*Received: "):
      make(Plain)

  def test_arguments(self):
    for options, error, words in (
      ({"horizon": 0}, ValueError, "horizon"),
      ({"action_scale": 0.0}, ValueError, "action_scale"),
      ({"make": "CartPole-v1"}, TypeError, "make"),
    ):
      with self.assertRaisesRegex(error, f"{words}.*Received: "):
        make(**options)

  def test_rewards_that_are_not_finite_are_located(self):
    env = make(lambda: Line(broken=True))
    tasks = batch(env)
    state, _ = env.reset(tasks, 2, tf.constant([[0, 1], [0, 2]]))
    actions = tf.fill([2, 2, 1], -0.5)
    env.step(tasks, state, actions)
    with self.assertRaisesRegex(
      ValueError,
      "finite rewards.*nan in task 0, episode 0, step 2",
    ):
      env.step(tasks, state, actions)

  def test_two_runs_at_once(self):
    env = make()
    tasks = batch(env, 1)
    state, _ = env.reset(tasks, 1, tf.constant([[0, 1]]))
    env.reset(tasks, 1, tf.constant([[0, 1]]))
    with self.assertRaisesRegex(ValueError, "one run at a time"):
      env.step(tasks, state, tf.zeros([1, 1, 1]))

  def test_compiling_a_simulator(self):
    env = make()
    policy = tfmeta.models.gaussian_policy((2,), actions=1, hidden=(4,))
    learner = tfmeta.rl.MAML(policy, env, episodes=2)
    with self.assertWarnsRegex(UserWarning, "jit_compile"):
      learner.compile(keras.optimizers.Adam(), jit_compile=True)
    self.assertFalse(learner.jit_compile)
    learner.compile(keras.optimizers.Adam())
    self.assertFalse(learner.jit_compile)


if __name__ == "__main__":
  absltest.main()
