"""Tests the environments that are tables."""

from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

import tfmeta

SEEDS = tf.constant([[0, 1], [0, 2]])


def make(**options):
  return tfmeta.environments.DecisionProcess(3, 2, horizon=4, **options)


def batch(env, count=2, **options):
  return next(iter(env.tasks("train", **options).batch(count)))


class DecisionProcessTest(absltest.TestCase):
  def test_rewards_are_those_of_the_table(self):
    env = make(dtype="float64")
    tasks = batch(env)
    state, observations = env.reset(tasks, 5, SEEDS)
    rng = np.random.default_rng(0)
    for _ in range(4):
      states = np.argmax(observations, axis=-1)
      np.testing.assert_array_equal(np.sum(observations, axis=-1), 1.0)
      actions = rng.integers(2, size=(2, 5)).astype("int32")
      state, observations, rewards, ended = env.step(tasks, state, actions)
      for task in range(2):
        np.testing.assert_array_equal(
          rewards[task],
          tasks["rewards"][task].numpy()[states[task], actions[task]],
        )
      self.assertFalse(ended.numpy().any())

  def test_transitions_have_the_probabilities_of_the_table(self):
    env = make()
    tasks = batch(env)
    state, _ = env.reset(tasks, 4000, SEEDS)
    actions = tf.ones([2, 4000], tf.int32)
    _, observations, _, _ = env.step(tasks, state, actions)
    np.testing.assert_allclose(
      tf.reduce_mean(observations, axis=1),
      tasks["transitions"][:, 0, 1],
      atol=4 * 0.5 / np.sqrt(4000),
    )

  def test_episodes_follow_from_the_seed_of_the_task(self):
    env = make()
    tasks = batch(env)

    def second_states(tasks, seeds):
      state, _ = env.reset(tasks, 50, seeds)
      actions = tf.zeros([len(seeds), 50], tf.int32)
      state, _, _, _ = env.step(tasks, state, actions)
      return env.step(tasks, state, actions)[1].numpy()

    both = second_states(tasks, SEEDS)
    alone = second_states({k: v[1:] for k, v in tasks.items()}, SEEDS[1:])
    np.testing.assert_array_equal(both[1], alone[0])
    other = second_states(tasks, SEEDS + 1)
    self.assertTrue((both[0] != other[0]).any())

  def test_steps_share_no_noise(self):
    even = np.full([2, 2, 2], 0.5).tolist()
    env = tfmeta.environments.DecisionProcess(2, 2, horizon=3, transitions=even)
    tasks = batch(env, 1)
    state, _ = env.reset(tasks, 200, SEEDS[:1])
    found = []
    for _ in range(3):
      state, observations, _, _ = env.step(
        tasks, state, tf.zeros([1, 200], tf.int32)
      )
      found.append(np.argmax(observations[0], axis=-1))
    for a, b in ((0, 1), (1, 2), (0, 2)):
      self.assertBetween(np.mean(found[a] == found[b]), 0.35, 0.65)

  def test_given_tables_are_those_of_all_tasks(self):
    transitions = np.eye(3)[[[1, 2], [2, 0], [0, 1]]].tolist()
    rewards = np.arange(6.0).reshape(3, 2).tolist()
    env = make(transitions=transitions, rewards=rewards)
    config = keras.saving.serialize_keras_object(env)
    again = keras.saving.deserialize_keras_object(config)
    tasks = batch(again)
    np.testing.assert_allclose(tasks["transitions"], [transitions] * 2)
    np.testing.assert_allclose(tasks["rewards"], [rewards] * 2)
    state, _ = again.reset(tasks, 1, SEEDS)
    actions = tf.ones([2, 1], tf.int32)
    _, observations, rewards, _ = again.step(tasks, state, actions)
    np.testing.assert_array_equal(observations[0], [[0, 0, 1]])
    np.testing.assert_array_equal(rewards, [[1.0], [1.0]])

  def test_survives_its_configuration(self):
    env = make(dtype="float64")
    config = keras.saving.serialize_keras_object(env)
    again = keras.saving.deserialize_keras_object(config)
    self.assertEqual(again.get_config(), env.get_config())
    tasks, expected = batch(again), batch(env)
    for name, spec in again.task_spec().items():
      self.assertEqual(spec.dtype, tf.float64)
      np.testing.assert_array_equal(tasks[name], expected[name])

  def test_sampled_tables_are_probabilities(self):
    tasks = batch(make(), 20)
    sums = tf.reduce_sum(tasks["transitions"], axis=-1)
    np.testing.assert_allclose(sums, np.ones([20, 3, 2]), rtol=1e-5)
    self.assertGreater(np.std(tasks["transitions"][:, 0, 0, 0]), 0.1)

  def test_refuses_wrong_arguments(self):
    uneven = np.full([3, 2, 3], 0.5).tolist()
    for options, words in (
      ({"transitions": uneven}, "probabilities"),
      ({"transitions": [[1.0]]}, "shape"),
      ({"rewards": [[np.inf, 0]] * 3}, "finite"),
      ({"dtype": "int32"}, "dtype"),
    ):
      with self.assertRaisesRegex(ValueError, f"{words}.*Received: "):
        make(**options)


class BanditTest(absltest.TestCase):
  def test_the_good_arm_pays(self):
    env = tfmeta.environments.Bandit(3)
    tasks = {"good_arm": tf.constant([2, 0])}
    state, observations = env.reset(tasks, 3, SEEDS)
    np.testing.assert_array_equal(observations, np.ones([2, 3, 1]))
    arms = tf.constant([[0, 1, 2], [0, 1, 2]])
    _, _, rewards, ended = env.step(tasks, state, arms)
    np.testing.assert_array_equal(rewards, [[0, 0, 1], [1, 0, 0]])
    self.assertTrue(ended.numpy().all())

  def test_noise_is_that_of_the_seed(self):
    env = tfmeta.environments.Bandit(noise_stddev=0.5)
    tasks = {"good_arm": tf.constant([0, 0])}
    state, _ = env.reset(tasks, 2000, SEEDS)
    arms = tf.ones([2, 2000], tf.int32)
    rewards = env.step(tasks, state, arms)[2].numpy()
    np.testing.assert_allclose(rewards.std(axis=1), 0.5, atol=0.05)
    np.testing.assert_allclose(rewards.mean(axis=1), 0.0, atol=0.05)
    self.assertLess(abs(np.corrcoef(rewards)[0, 1]), 0.1)

  def test_survives_its_configuration(self):
    env = tfmeta.environments.Bandit(3, noise_stddev=0.5)
    config = keras.saving.serialize_keras_object(env)
    again = keras.saving.deserialize_keras_object(config)
    self.assertEqual((again.actions, again.noise_stddev), (3, 0.5))

  def test_all_arms_are_good_in_some_task(self):
    arms = batch(tfmeta.environments.Bandit(3), 60)["good_arm"]
    self.assertEqual(set(arms.numpy().tolist()), {0, 1, 2})


if __name__ == "__main__":
  absltest.main()
