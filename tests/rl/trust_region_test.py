"""Tests the steps of a trust region, in float64."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import small
import tensorflow as tf

import tfmeta
from tfmeta.core import functional
from tfmeta.rl import trust_region


def make_objective(cls=None, **options):
  """Returns the outer objective of one batch of tasks, and its learner."""
  learner = small.learner(cls, **options)
  learner.compile(tfmeta.rl.TrustRegion(0.01))
  found = small.collected(learner, small.tasks(learner.environment))
  *support, query = found.examples
  return trust_region._Objective(learner, support, query), learner


def directions(objective, seed=0):
  rng = np.random.default_rng(seed)
  return [tf.constant(rng.normal(size=w.shape)) for w in objective.start]


def flat(tensors):
  return np.concatenate([np.ravel(t) for t in tensors])


def divergence_slope(objective, weights):
  with tf.GradientTape() as tape:
    tape.watch(weights)
    divergence = objective.measure(weights)[1]
  return tape.gradient(divergence, weights, unconnected_gradients="zero")


class CurvatureTest(parameterized.TestCase):
  @parameterized.parameters(
    (None, 1), (None, 2), (tfmeta.rl.MetaSGD, 1), (tfmeta.rl.EMAML, 1)
  )
  def test_product_is_the_second_derivative_of_the_divergence(self, cls, steps):
    objective, _ = make_objective(cls, inner_steps=steps)
    vector = directions(objective)
    with tf.GradientTape() as outer:
      outer.watch(objective.start)
      slope = divergence_slope(objective, objective.start)
    exact = outer.gradient(
      slope,
      objective.start,
      output_gradients=vector,
      unconnected_gradients="zero",
    )
    found = objective.product(vector, None)
    np.testing.assert_allclose(flat(found), flat(exact), atol=1e-8)
    self.assertGreater(np.abs(flat(exact)).max(), 1e-3)

  def test_product_equals_finite_differences(self):
    objective, _ = make_objective()
    vector = directions(objective)
    ends = [
      [
        w + sign * 1e-5 * v
        for w, v in zip(objective.start, vector, strict=True)
      ]
      for sign in (1, -1)
    ]
    up, down = (flat(divergence_slope(objective, end)) for end in ends)
    found = flat(objective.product(vector, None))
    np.testing.assert_allclose(found, (up - down) / 2e-5, atol=1e-5)

  def test_product_is_symmetric_and_positive(self):
    objective, _ = make_objective()
    a, b = directions(objective, 0), directions(objective, 1)
    ab = flat(a) @ flat(objective.product(b, None))
    ba = flat(b) @ flat(objective.product(a, None))
    np.testing.assert_allclose(ab, ba, rtol=1e-8)
    self.assertGreaterEqual(flat(a) @ flat(objective.product(a, None)), 0)

  def test_product_goes_through_the_inner_step(self):
    objective, learner = make_objective()
    vector = directions(objective)
    found = flat(objective.product(vector, None))
    # The inner step is taken, and not differentiated.
    learner.first_order = True
    without = flat(objective.product(vector, None))
    error = np.linalg.norm(found - without) / np.linalg.norm(found)
    self.assertGreater(error, 0.01)

  def test_fewer_episodes_change_the_product_only_somewhat(self):
    objective, _ = make_objective(episodes=20)
    vector = directions(objective)
    whole = flat(objective.product(vector, None))
    part = flat(objective.product(vector, 5))
    np.testing.assert_array_equal(whole, flat(objective.product(vector, 20)))
    cosine = whole @ part / np.linalg.norm(whole) / np.linalg.norm(part)
    self.assertGreater(cosine, 0.8)
    self.assertLess(cosine, 1 - 1e-6)


class StepTest(parameterized.TestCase):
  @parameterized.parameters(None, tfmeta.rl.EMAML, tfmeta.rl.ANIL)
  def test_a_step_lowers_the_loss_within_the_region(self, cls):
    objective, learner = make_objective(cls)
    optimizer = learner.optimizer
    loss, _ = objective.measure(objective.start)
    logs = trust_region.improve(learner, optimizer, objective.tasks)
    lower, divergence = objective.measure(functional.weights_of(learner))
    self.assertEqual(logs["accepted"], 1)
    self.assertLess(lower, loss)
    self.assertLess(divergence, 0.01)
    # A step much shorter than the region would be a wrong curvature.
    self.assertGreater(divergence, 0.003)
    np.testing.assert_allclose(logs["divergence"], divergence)
    self.assertEqual(optimizer.iterations, 1)

  def test_a_step_goes_along_the_natural_gradient(self):
    objective, learner = make_objective()
    learner.optimizer.cg_iterations = 60
    _, gradients = objective.slope()
    step = trust_region._full_step(learner.optimizer, objective, gradients)
    damped = [
      p + 1e-5 * s
      for p, s in zip(objective.product(step, None), step, strict=True)
    ]
    cosine = -flat(damped) @ flat(gradients)
    cosine /= np.linalg.norm(flat(damped)) * np.linalg.norm(flat(gradients))
    self.assertGreater(cosine, 1 - 1e-6)
    np.testing.assert_allclose(flat(step) @ flat(damped) / 2, 0.01, rtol=1e-6)

  def test_zero_gradient_leaves_the_weights_bit_for_bit(self):
    rewards = np.zeros([3, 2]).tolist()
    learner = small.learner(env=small.environment(rewards=rewards))
    learner.compile(tfmeta.rl.TrustRegion(0.01))
    before = flat(functional.weights_of(learner))
    logs = learner.train_step(small.tasks(learner.environment))
    np.testing.assert_array_equal(before, flat(functional.weights_of(learner)))
    self.assertEqual(logs["accepted"], 0)
    self.assertEqual(logs["divergence"], 0)

  def test_no_good_length_leaves_the_weights_bit_for_bit(self):
    objective, learner = make_objective()
    before = flat(objective.start)
    # The estimated divergence is the bound, and the measured one above it.
    optimizer = tfmeta.rl.TrustRegion(50.0, max_backtracks=1)
    logs = trust_region.improve(learner, optimizer, objective.tasks)
    self.assertEqual(logs["accepted"], 0)
    np.testing.assert_array_equal(before, flat(functional.weights_of(learner)))

  def test_the_first_good_length_is_taken(self):
    index, _, good = trust_region._first_good(
      lambda index: (tf.constant(0.0), index >= 3), 6, tf.float32
    )
    self.assertEqual((int(index), bool(good)), (3, True))


class OptimizerTest(absltest.TestCase):
  def test_survives_its_configuration(self):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.02, 10, 0.01)
    for bound in (0.02, schedule):
      optimizer = tfmeta.rl.TrustRegion(
        bound, damping=1e-4, cg_iterations=5, curvature_episodes=3
      )
      config = keras.saving.serialize_keras_object(optimizer)
      again = keras.saving.deserialize_keras_object(config)
      self.assertEqual(again.get_config(), optimizer.get_config())
      np.testing.assert_allclose(again.max_divergence, 0.02)

  def test_refuses_plain_gradients(self):
    variable = keras.Variable([1.0])
    with self.assertRaisesRegex(ValueError, "not just a gradient"):
      tfmeta.rl.TrustRegion().apply_gradients([(tf.ones([1]), variable)])

  def test_refuses_wrong_values(self):
    for name, value in (
      ("max_divergence", 0.0),
      ("damping", -1.0),
      ("cg_iterations", 0),
      ("max_backtracks", 0),
      ("backtrack_factor", 1.0),
      ("curvature_episodes", 0),
    ):
      with self.assertRaisesRegex(ValueError, f"{name}.*Received"):
        tfmeta.rl.TrustRegion(**{name: value})


if __name__ == "__main__":
  absltest.main()
