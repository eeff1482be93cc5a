"""Tests the navigation of a point against loops in NumPy."""

from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

import tfmeta

GOALS = {"goal": tf.constant([[0.3, -0.2], [0.05, 0.0]])}


class NavigationTest(absltest.TestCase):
  def test_episodes_equal_a_loop(self):
    env = tfmeta.environments.Navigation(horizon=4)
    seeds = tf.zeros([2, 2], tf.int32)
    state, observations = env.reset(GOALS, 3, seeds)
    np.testing.assert_array_equal(observations, np.zeros([2, 3, 2]))
    rng = np.random.default_rng(0)
    position = np.zeros([2, 3, 2])
    for _ in range(4):
      actions = rng.normal(size=(2, 3, 2), scale=2.0).astype("float32")
      state, observations, rewards, ended = env.step(GOALS, state, actions)
      # An action is clipped to [-1, 1], and moves the point by a tenth of it.
      position += 0.1 * np.clip(actions, -1, 1)
      offset = position - GOALS["goal"].numpy()[:, None]
      np.testing.assert_allclose(observations, position, atol=1e-6)
      np.testing.assert_allclose(
        rewards, -np.sqrt((offset**2).sum(axis=-1)), atol=1e-6
      )
      np.testing.assert_array_equal(ended, (np.abs(offset) < 0.01).all(axis=-1))

  def test_an_episode_ends_near_to_the_goal_along_both_axes(self):
    env = tfmeta.environments.Navigation()
    state, _ = env.reset(GOALS, 1, tf.zeros([2, 2], tf.int32))
    actions = tf.constant([[[1.0, 0.0]], [[0.5, 0.05]]])
    *_, ended = env.step(GOALS, state, actions)
    np.testing.assert_array_equal(ended, [[False], [True]])

  def test_tasks_are_a_pure_function_of_split_seed_and_index(self):
    env = tfmeta.environments.Navigation()

    def goals(split, *, seed=0, start=0, count=50):
      batch = env.tasks(split, seed=seed, start=start).batch(count)
      return next(iter(batch))["goal"].numpy()

    train = goals("train")
    np.testing.assert_array_equal(train, goals("train"))
    np.testing.assert_array_equal(
      train[20:], goals("train", start=20, count=30)
    )
    everything = np.concatenate(
      [train, goals("validation"), goals("test"), goals("train", seed=1)]
    )
    self.assertLen(np.unique(everything[:, 0]), 200)
    self.assertLessEqual(np.abs(everything).max(), 0.5)
    self.assertGreater(everything.max(axis=0).min(), 0.4)
    self.assertLess(everything.min(axis=0).max(), -0.4)

  def test_survives_its_configuration(self):
    env = tfmeta.environments.Navigation(horizon=7)
    config = keras.saving.serialize_keras_object(env)
    again = keras.saving.deserialize_keras_object(config)
    self.assertIsInstance(again, tfmeta.environments.Navigation)
    self.assertEqual(again.horizon, 7)

  def test_refuses_wrong_arguments(self):
    with self.assertRaisesRegex(ValueError, "horizon.*Received: "):
      tfmeta.environments.Navigation(horizon=0)
    with self.assertRaisesRegex(ValueError, "split.*Received: "):
      tfmeta.environments.Navigation().tasks("dev")


if __name__ == "__main__":
  absltest.main()
