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


def flat(tensors):
  return np.concatenate([np.ravel(t) for t in tensors])


class StepTest(parameterized.TestCase):
  @parameterized.parameters(None, tfmeta.rl.EMAML, tfmeta.rl.ANIL)
  def test_a_step_lowers_the_loss_within_the_region(self, cls):
    objective, learner = small.objective(cls)
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
    objective, learner = small.objective()
    learner.optimizer.cg_iterations = 60
    _, gradients = objective.slope()
    step = trust_region._full_step(learner.optimizer, objective, gradients)
    damped = [
      p + 1e-5 * s
      for p, s in zip(objective.curvature()(step), step, strict=True)
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
    objective, learner = small.objective()
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
