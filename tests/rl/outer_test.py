"""Tests how policies act, adapt and act again."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import small
import tensorflow as tf

import tfmeta
from tfmeta.algorithms.context import Context
from tfmeta.core import random
from tfmeta.rl import outer


class RandomStart(tfmeta.environments.Environment):
  """Episodes of one step, whose start is drawn with the seed as it is."""

  observation_shape = (2,)
  actions = 2
  horizon = 1

  def task_spec(self):
    return {"place": tf.TensorSpec([], tf.float32)}

  def reset(self, tasks, episodes, seeds):
    del tasks
    start = tf.stack(
      [
        random.normal([episodes, 2], seed, tf.float32)
        for seed in tf.unstack(seeds, num=2)
      ]
    )
    return start, start

  def step(self, tasks, state, actions):
    zeros = tf.zeros(tf.shape(actions)[:2])
    return state, state, zeros, zeros < 1

  def get_config(self):
    return {}


class CollectTest(parameterized.TestCase):
  @parameterized.parameters((1, 1.0), (2, 1.0), (3, 1.0), (2, 0.5))
  def test_policies_that_acted_are_those_that_are_learned(self, steps, factor):
    # This fails if a step learns from the episodes of another step, or if only
    # acting or only learning scales the later steps.
    learner = small.learner(inner_steps=steps, later_step_factor=factor)
    found = small.collected(learner, small.tasks(learner.environment))
    *support, query = found.examples
    for index in range(3):
      path = learner.adaptation_path(
        [small.slices(example, index) for example in support]
      )
      for weights, example in zip(path, found.examples, strict=True):
        one = small.slices(example, index)
        np.testing.assert_allclose(
          learner.action_parameters(weights, one.observations),
          one.decisions.parameters,
          atol=1e-12,
        )
    self.assertLen(support, steps)
    self.assertEqual(query.decisions.parameters.shape, (3, 4, 6, 2))

  def test_each_step_has_episodes_of_its_own(self):
    learner = small.learner(inner_steps=2)
    found = small.collected(learner, small.tasks(learner.environment))
    actions = [one.actions.numpy() for one in found.episodes]
    for a, b in ((0, 1), (1, 2), (0, 2)):
      self.assertTrue((actions[a] != actions[b]).any())

  @parameterized.parameters(
    tfmeta.rl.MAML, tfmeta.rl.EMAML, tfmeta.rl.BMAML, tfmeta.rl.ProMP
  )
  def test_loss_and_divergence_are_0_where_the_policies_acted(self, cls):
    learner = small.learner(cls)
    found = small.collected(learner, small.tasks(learner.environment))
    for index in range(3):
      *support, query = small.slices(found.examples, index)
      with tf.GradientTape() as tape:
        loss, outputs = learner.task_loss(support, query)
        divergence = learner.mean_divergence(outputs, query.decisions)
      weights = [v.value for v in learner.trainable_variables]
      slopes = tape.gradient(divergence, weights)
      self.assertLess(abs(loss), 1e-6)
      self.assertLess(abs(divergence), 1e-12)
      for slope in slopes:
        np.testing.assert_allclose(slope, tf.zeros_like(slope), atol=1e-10)

  @parameterized.parameters(tfmeta.rl.MAML, tfmeta.rl.BMAML)
  def test_vectorized_tasks_equal_tasks_in_a_loop(self, cls):
    batch = small.tasks(small.environment())
    looped, vectorized = (
      small.collected(small.learner(cls, task_map=method), batch)
      for method in ("map", "vectorize")
    )
    for a, b in zip(
      tf.nest.flatten(looped), tf.nest.flatten(vectorized), strict=True
    ):
      np.testing.assert_allclose(a, b, atol=1e-9)

  def test_equal_seeds_give_equal_episodes(self):
    learner = small.learner()
    batch = small.tasks(learner.environment)
    first, again = (small.collected(learner, batch) for _ in range(2))
    for a, b in zip(
      tf.nest.flatten(first), tf.nest.flatten(again), strict=True
    ):
      np.testing.assert_array_equal(a, b)
    later = small.collected(learner, batch, step=1)
    self.assertTrue(
      (first.episodes[0].actions != later.episodes[0].actions).numpy().any()
    )

  def test_tasks_and_episodes_share_no_noise(self):
    env = tfmeta.environments.Navigation(horizon=4)
    learner = tfmeta.rl.MAML(
      tfmeta.models.gaussian_policy((2,), actions=2, hidden=(4,)),
      env,
      episodes=5,
      inner_steps=2,
    )
    found = small.collected(learner, small.tasks(env, 3))
    # The first observation is the same everywhere, and so the distribution.
    first = found.episodes[0].actions[:, :, 0].numpy().reshape(15, 2)
    self.assertLen(np.unique(first[:, 0]), 15)
    noises = [_noise(one) for one in found.episodes]
    self.assertLen(np.unique(noises[0]), 3 * 5 * 4 * 2)
    # Adapted policies act otherwise, and so must their noise.
    for a, b in ((0, 1), (1, 2), (0, 2)):
      same = np.isclose(noises[a], noises[b], atol=1e-3)
      self.assertLess(same.mean(), 0.05)

  def test_particles_share_no_noise(self):
    learner = small.navigation_learner(tfmeta.rl.EMAML, num_particles=3)
    tasks = small.tasks(learner.environment, 2)
    found = small.collected(learner, tasks, steps=0)
    noise = _noise(found.episodes[0])
    self.assertEqual(noise.shape, (2, 3, 4, 5, 2))
    self.assertLen(np.unique(noise.round(5)[:, :, :, 0, 0]), 2 * 3 * 4)

  def test_the_start_of_an_episode_shares_no_noise_with_its_actions(self):
    env = RandomStart()
    learner = tfmeta.rl.MAML(
      tfmeta.models.gaussian_policy((2,), actions=2, hidden=()), env, episodes=3
    )
    tasks = {"place": tf.zeros([2])}
    episodes = small.collected(learner, tasks, steps=0).episodes[0]
    same = np.isclose(_noise(episodes), episodes.observations, atol=1e-3)
    self.assertLess(same.mean(), 0.2)

  def test_a_batch_of_tasks_equals_tasks_one_by_one(self):
    learner = small.learner(inner_steps=2)
    env = learner.environment
    together = small.collected(learner, small.tasks(env, 3))
    collect = tf.function(outer.collect, autograph=False)
    for index in range(3):
      context = Context(training=True, step=0, index=index)
      alone = collect(learner, small.tasks(env, 1, start=index), context)
      np.testing.assert_allclose(
        together.returns[index], alone.returns[0], atol=1e-10
      )
      np.testing.assert_allclose(
        together.examples[-1].decisions.advantages[index],
        alone.examples[-1].decisions.advantages[0],
        atol=1e-9,
      )

  @parameterized.parameters("lvc", "dice", "log_likelihood")
  def test_what_follows_an_episode_does_not_reach_the_weights(self, credit):
    learner = small.learner(credit=credit)
    found = small.collected(learner, small.tasks(learner.environment, 1))
    episodes = small.slices(found.episodes[0], 0)
    mask = np.array(episodes.mask)
    mask[:, 3:] = 0.0
    clean = episodes._replace(mask=mask)
    dirty = {
      name: np.where(
        mask.reshape(mask.shape + (1,) * (value.shape.rank - 2)) > 0,
        value,
        0 if name == "actions" else np.nan,
      )
      for name, value in episodes._asdict().items()
    }
    dirty = tfmeta.rl.Episodes(**{**dirty, "mask": mask})
    for a, b in zip(learner.adapt(clean), learner.adapt(dirty), strict=True):
      np.testing.assert_array_equal(a, b)
      self.assertTrue(np.isfinite(a).all())

  def test_what_follows_an_episode_may_suit_no_distribution(self):
    # Zeros are neither concentrations of a beta distribution nor actions that
    # one takes, and a product with the mask would keep their NaN.
    from tensorflow_probability import distributions

    def beta(parameters):
      halves = tf.split(parameters, 2, axis=-1)
      return distributions.Independent(distributions.Beta(*halves), 1)

    learner = tfmeta.rl.MAML(
      keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, "softplus")]),
      tfmeta.environments.Navigation(horizon=5),
      distribution=beta,
      episodes=3,
    )
    found = small.collected(learner, small.tasks(learner.environment), steps=0)
    episodes = small.slices(found.episodes[0], 0)
    mask = np.array(episodes.mask)
    mask[:, 2:] = 0.0
    example = learner.example(episodes._replace(mask=mask))
    with tf.GradientTape() as tape:
      loss, outputs = learner.task_loss([example], example)
      loss += learner.mean_divergence(outputs, example.decisions)
    slopes = tape.gradient(loss, [v.value for v in learner.trainable_variables])
    for slope in slopes:
      self.assertTrue(np.isfinite(slope).all())

  def test_episodes_end_by_their_mask(self):
    # Goals at the start are reached at once, so that moves end episodes.
    env = tfmeta.environments.Navigation(horizon=5)
    policy = tfmeta.models.gaussian_policy(
      (2,), actions=2, hidden=(), initial_stddev=1e-3
    )
    for variable in policy.trainable_variables[:2]:
      variable.assign(tf.zeros_like(variable))
    learner = tfmeta.rl.MAML(policy, env, episodes=3)
    goals = {"goal": tf.constant([[0.0, 0.0], [0.4, 0.4]])}
    found = small.collected(learner, goals, steps=0).episodes[0]
    np.testing.assert_array_equal(found.mask[0], [[1, 0, 0, 0, 0]] * 3)
    np.testing.assert_array_equal(found.mask[1], np.ones([3, 5]))
    np.testing.assert_array_equal(found.rewards[0, :, 1:], np.zeros([3, 4]))
    self.assertTrue((found.rewards[0, :, 0] < 0).numpy().all())


def _noise(episodes):
  """Returns the standardized noise of actions of a Gaussian policy."""
  mean, log_stddev = np.split(np.array(episodes.parameters), 2, axis=-1)
  return (np.array(episodes.actions) - mean) / np.exp(log_stddev)


if __name__ == "__main__":
  absltest.main()
