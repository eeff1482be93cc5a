"""Tests what is measured of the outputs of one task."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.evaluation import measurements

LOGITS = np.log([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
LABELS = np.array([0, 2, 1], "int32")


def learner_of(inner_loss=None):
  model = tfmeta.models.mlp((2,), outputs=3, hidden=(4,))
  return tfmeta.MAML(model, inner_loss=inner_loss)


def measured(weight=None):
  outputs = tf.constant(LOGITS, tf.float32)
  weight = None if weight is None else tf.constant(weight)
  return measurements.of_outputs(
    learner_of(), tf.constant(LABELS), outputs, None, weight
  )


class MeasurementsTest(parameterized.TestCase):
  def test_classes(self):
    found = measured()
    self.assertAlmostEqual(float(found["accuracy"]), 1 / 3, places=6)
    nll = -np.log([0.7, 0.3, 0.3]).mean()
    self.assertAlmostEqual(float(found["nll"]), nll, places=5)
    np.testing.assert_array_equal(found["right"], [1, 0, 0])
    odds = np.log(np.array([0.7, 0.5, 0.6]) / [0.3, 0.5, 0.4])
    np.testing.assert_allclose(found["confidence"], odds, atol=1e-5)

  def test_queries_of_weight_zero_do_not_count(self):
    found = measured([1.0, 0.0, 1.0])
    self.assertAlmostEqual(float(found["accuracy"]), 1 / 2, places=6)
    nll = -np.log([0.7, 0.3]).mean()
    self.assertAlmostEqual(float(found["nll"]), nll, places=5)
    np.testing.assert_array_equal(found["counted"], [1, 0, 1])

  def test_numbers_have_a_likelihood_only_with_noise(self):
    learner = learner_of("mse")
    targets, outputs = tf.zeros([2, 3]), tf.ones([2, 3])
    found = measurements.of_outputs(learner, targets, outputs, None, None)
    self.assertEqual({k: float(v) for k, v in found.items()}, {"mse": 1.0})
    found = measurements.of_outputs(learner, targets, outputs, 2.0, None)
    nll = 3 * (0.5 * np.log(2 * np.pi) + np.log(2.0) + 1 / 8)
    self.assertAlmostEqual(float(found["nll"]), nll, places=5)

  def test_counts(self):
    one_hot = keras.losses.CategoricalCrossentropy(from_logits=True)
    for labels, expected in (
      (LABELS[:2], [2, 1]),
      ([0, 0, 2], [2, 0]),
      ([0, 2, 2, 0], [2, 1]),
    ):
      targets = tf.one_hot(labels, 3)
      found = measurements.count_classes(learner_of(one_hot), targets)
      self.assertEqual([int(part) for part in found], expected)
    x = tf.zeros([3, 2])
    self.assertEqual(int(measurements.count_examples(x, None)), 3)
    weight = tf.constant([0.5, 0.0, 2.0])
    self.assertEqual(int(measurements.count_examples(x, weight)), 2)


if __name__ == "__main__":
  absltest.main()
