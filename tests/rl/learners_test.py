"""Tests the algorithms against each other, and their outer losses."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import small
import tensorflow as tf

import tfmeta
from tfmeta.core import svgd


def fit(learner, updates=2, *, optimizer=None, tasks=3):
  """Trains, and returns all trainable weights as arrays."""
  learner.compile(optimizer or keras.optimizers.Adam(1e-2))
  batches = learner.environment.tasks("train", seed=3).batch(tasks)
  learner.fit(batches, steps_per_epoch=updates, verbose=0)
  return [np.array(v) for v in learner.trainable_variables]


def of_one_task(learner):
  """Returns the support and query examples of one task."""
  found = small.collected(learner, small.tasks(learner.environment, 1))
  *support, query = small.slices(found.examples, 0)
  return support, query


class DegenerateCasesTest(parameterized.TestCase):
  def test_meta_sgd_with_constant_rates_is_maml(self):
    maml, meta_sgd = small.learner(), small.learner(tfmeta.rl.MetaSGD)
    for variable in meta_sgd.learned_rates.trainable_variables:
      variable.assign(tf.fill(variable.shape, tf.constant(0.5, variable.dtype)))
    support, query = of_one_task(maml)
    for one, other in zip(
      maml.task_loss(support, query),
      meta_sgd.task_loss(support, query),
      strict=True,
    ):
      np.testing.assert_allclose(one, other, atol=1e-12)
    for w, v in zip(
      maml.adaptation_path(support)[-1],
      meta_sgd.adaptation_path(support)[-1],
      strict=True,
    ):
      np.testing.assert_allclose(w, v, atol=1e-12)

  def test_anil_adapts_head_and_deviations_only(self):
    env = tfmeta.environments.Navigation(horizon=4)
    learner = tfmeta.rl.ANIL(
      tfmeta.models.gaussian_policy((2,), actions=2, hidden=(4,)),
      env,
      episodes=4,
    )
    support, _ = of_one_task(learner)
    before, after = learner.adaptation_path(support)
    moved = [
      np.abs(b - a).max() > 0 for b, a in zip(before, after, strict=True)
    ]
    self.assertEqual(moved, [False, False, True, True, True])

  def test_one_particle_is_maml(self):
    maml = small.learner()
    support, query = of_one_task(maml)
    expected = maml.task_loss(support, query)[0]
    with_particle = tf.nest.map_structure(
      lambda t: t[tf.newaxis], (support, query)
    )
    for cls in (tfmeta.rl.EMAML, tfmeta.rl.BMAML):
      learner = small.learner(cls, num_particles=1)
      learner.policy.set_weights(maml.policy.get_weights())
      (found, _), variables = (
        learner.task_loss(*with_particle),
        learner.trainable_variables,
      )
      np.testing.assert_allclose(found, expected, atol=1e-12)
      self.assertLen(variables, len(maml.trainable_variables))

  def test_particles_that_are_far_apart_are_an_ensemble(self):
    # Then the kernel is M times the identity but for the factor 1 / M.
    options = {"num_particles": 3}
    ensemble = small.learner(tfmeta.rl.EMAML, **options)
    bayesian = small.learner(
      tfmeta.rl.BMAML, inner_learning_rate=1.5, **options
    )
    bayesian.set_weights(ensemble.get_weights())
    support, _ = of_one_task(ensemble)
    kernel = svgd.rbf_kernel

    def identity(particles, **_):
      count = tf.nest.flatten(particles)[0].shape[0]
      return tf.eye(count, dtype=tf.float64), tf.constant(1.0, tf.float64)

    with absltest.mock.patch.object(svgd, "rbf_kernel", identity):
      moved = bayesian.adaptation_path(support)[-1]
    self.assertIs(svgd.rbf_kernel, kernel)
    for a, b in zip(ensemble.adaptation_path(support)[-1], moved, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-10)

  def test_proximal_policy_search_without_its_parts_is_maml(self):
    maml = fit(small.learner())
    promp = fit(
      small.learner(
        tfmeta.rl.ProMP, epochs=1, clip_ratio=None, divergence_penalty=0.0
      )
    )
    for a, b in zip(maml, promp, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-6)


class ProMPTest(absltest.TestCase):
  def test_takes_its_epochs_on_the_same_episodes(self):
    env = small.environment()
    learner = small.learner(tfmeta.rl.ProMP, env=env, epochs=3)
    fit(learner, updates=2)
    self.assertEqual(learner.optimizer.iterations, 6)
    self.assertEqual(learner.steps_made(), 2)

  def test_several_epochs_equal_steps_on_collected_episodes(self):
    learner = small.learner(tfmeta.rl.ProMP, epochs=3, clip_ratio=0.01)
    copy = small.learner(tfmeta.rl.ProMP, epochs=3, clip_ratio=0.01)
    found = small.collected(copy, small.tasks(copy.environment, seed=3))
    *support, query = found.examples
    weights = fit(learner, updates=1)
    optimizer = keras.optimizers.Adam(1e-2)
    for _ in range(3):
      with tf.GradientTape() as tape:
        losses = [
          copy.task_loss(
            small.slices(support, index), small.slices(query, index)
          )[0]
          for index in range(3)
        ]
        loss = tf.reduce_mean(losses)
      variables = copy.trainable_variables
      slopes = tape.gradient(loss, [v.value for v in variables])
      optimizer.apply_gradients(zip(slopes, variables, strict=True))
    for a, b in zip(weights, copy.trainable_variables, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-8)

  def test_penalty_is_the_divergence_of_the_inner_policies(self):
    learner = small.learner(
      tfmeta.rl.ProMP, inner_steps=2, divergence_penalty=2.0, clip_ratio=None
    )
    support, query = of_one_task(learner)
    for variable in learner.trainable_variables:
      variable.assign(1.3 * variable)
    path = learner.adaptation_path(support)
    expected = learner.outer_loss(
      learner.action_parameters(path[-1], query.observations), query.decisions
    )
    for weights, example in zip(path, support, strict=False):
      now = learner.action_parameters(weights, example.observations)
      then = example.decisions.parameters
      divergence = tf.reduce_sum(
        tf.nn.softmax(then)
        * (tf.nn.log_softmax(then) - tf.nn.log_softmax(now)),
        axis=-1,
      )
      expected += 2.0 * tf.reduce_mean(divergence) / 2
    np.testing.assert_allclose(learner.task_loss(support, query)[0], expected)


class ReptileTest(absltest.TestCase):
  def test_gradient_descent_moves_to_the_mean_of_the_adapted_weights(self):
    learner = small.learner(tfmeta.rl.Reptile, inner_steps=2)
    found = small.collected(learner, small.tasks(learner.environment, seed=3))
    *support, _ = found.examples
    adapted = [
      learner.adaptation_path(small.slices(support, index))[-1]
      for index in range(3)
    ]
    expected = [np.mean(parts, axis=0) for parts in zip(*adapted, strict=True)]
    moved = fit(learner, updates=1, optimizer=keras.optimizers.SGD(1.0))
    for a, b in zip(moved, expected, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-10)


class BMAMLTest(absltest.TestCase):
  def test_chaser_is_the_squared_distance_to_one_more_step(self):
    learner = small.learner(
      tfmeta.rl.BMAML, num_particles=3, meta_loss="chaser"
    )
    support, query = of_one_task(learner)
    loss, _ = learner.task_loss(support, query)
    followers = learner.adaptation_path(support)[-1]
    leaders = learner.inner_step(followers, query)
    distance = sum(
      np.sum((np.array(a) - np.array(b)) ** 2)
      for a, b in zip(followers, leaders, strict=True)
    )
    np.testing.assert_allclose(loss, distance)

  def test_the_leader_of_the_chaser_is_a_constant(self):
    learner = small.learner(
      tfmeta.rl.BMAML, num_particles=2, meta_loss="chaser"
    )
    support, query = of_one_task(learner)
    followers = learner.adaptation_path(support)[-1]
    leaders = [np.array(w) for w in learner.inner_step(followers, query)]
    variables = [v.value for v in learner.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
      loss, _ = learner.task_loss(support, query)
      followers = learner.adaptation_path(support)[-1]
      expected = tf.add_n(
        [
          tf.reduce_sum((follower - leader) ** 2)
          for follower, leader in zip(followers, leaders, strict=True)
        ]
      )
    for a, b in zip(
      tape.gradient(loss, variables),
      tape.gradient(expected, variables),
      strict=True,
    ):
      np.testing.assert_allclose(a, b, atol=1e-12)

  def test_temperature_divides_the_gradient_of_the_return(self):
    support, _ = of_one_task(small.learner(tfmeta.rl.BMAML, num_particles=1))
    # A single particle has no repulsion.
    cold, hot = (
      small.learner(tfmeta.rl.BMAML, num_particles=1, **options)
      for options in (
        {"inner_learning_rate": 0.1},
        {"inner_learning_rate": 0.4, "temperature": 4.0},
      )
    )
    for a, b in zip(
      cold.adaptation_path(support)[-1],
      hot.adaptation_path(support)[-1],
      strict=True,
    ):
      np.testing.assert_allclose(a, b, atol=1e-12)

  def test_particles_repel_each_other(self):
    learner = small.learner(tfmeta.rl.BMAML, num_particles=3, temperature=1e6)
    support, _ = of_one_task(learner)
    before, after = learner.adaptation_path(support)

    def spread(particles):
      return sum(np.array(p).var(axis=0).sum() for p in particles)

    self.assertGreater(spread(after), spread(before))


class LearningTest(absltest.TestCase):
  def test_learns_to_find_the_good_arm(self):
    # No policy earns more than 0.5 before it adapts, or than 1 afterwards.
    # Gradients that are wrong or zero would leave the gain where it starts.
    env = tfmeta.environments.Bandit(2)
    keras.utils.set_random_seed(0)
    learner = tfmeta.rl.MetaSGD(
      tfmeta.models.categorical_policy((1,), choices=2, hidden=()),
      env,
      episodes=10,
      inner_learning_rate=0.5,
    )
    tasks = env.tasks("test").batch(50).take(1)
    before = tfmeta.rl.evaluate(learner, tasks)
    learner.compile(keras.optimizers.Adam(0.1))
    learner.fit(env.tasks("train").batch(20), steps_per_epoch=50, verbose=0)
    after = tfmeta.rl.evaluate(learner, tasks)
    self.assertGreater(after.gains[0], 0.3)
    self.assertGreater(after.gains[0], before.gains[0] + 0.1)
    np.testing.assert_allclose(after.means[0], 0.5, atol=0.1)


if __name__ == "__main__":
  absltest.main()
