"""Compares the parts of LEO with formulas that are written out."""

import math

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.algorithms import leo
from tfmeta.core import random


def normal(*shape, seed=0):
  return tf.constant(np.random.default_rng(seed).normal(size=shape))


class ScaleTest(parameterized.TestCase):
  @parameterized.parameters(
    ("softplus", 0.0, math.log(2)),
    ("softplus", 0.3, 0.3),
    ("release", 0.0, 1e-10),
    ("release", 0.3, 0.3),
  )
  def test_initial(self, kind, initial, expected):
    values = tf.constant([[1.0, 2.0, 0.0, 0.0]], tf.float64)
    mean, stddev = leo.split_scale(values, kind=kind, initial=initial)
    np.testing.assert_array_equal(mean, [[1.0, 2.0]])
    np.testing.assert_allclose(stddev, [[expected] * 2])

  def test_clipped_scales_of_the_release_get_no_gradient(self):
    values = tf.constant([[0.0, -0.5]], tf.float64)
    for kind, learns in (("release", False), ("softplus", True)):
      with tf.GradientTape() as tape:
        tape.watch(values)
        _, stddev = leo.split_scale(values, kind=kind, initial=0.0)
      slope = tape.gradient(stddev, values)[0, 1]
      self.assertEqual(float(slope) > 0, learns)


class RelationTest(absltest.TestCase):
  def test_pairs_include_both_orders(self):
    codes = normal(4, 3)
    pairs = leo.pairs_of(codes).numpy()
    self.assertEqual(pairs.shape, (4, 4, 6))
    np.testing.assert_array_equal(pairs[1, 2, :3], codes[1])
    np.testing.assert_array_equal(pairs[1, 2, 3:], codes[2])

  def test_shares_take_the_mean_of_each_class(self):
    labels = tf.constant([2, 0, 0, 1, 2, 0])
    values = normal(6, 3)
    found = leo.class_shares(labels, 3, tf.float64) @ values
    for label in range(3):
      mean = np.mean(values.numpy()[labels.numpy() == label], axis=0)
      np.testing.assert_allclose(found[label], mean)


class PenaltyTest(absltest.TestCase):
  def test_one_sample_estimates_the_divergence(self):
    mean, stddev = normal(3), tf.exp(0.5 * normal(3, seed=1))
    exact = leo.divergence_from_standard(mean, stddev)
    closed = (stddev**2 + mean**2 - 1) / 2 - tf.math.log(stddev)
    np.testing.assert_allclose(exact, closed, rtol=1e-12)
    samples = mean + stddev * normal(100_000, 3, seed=2)
    logs = leo.log_ratio_to_standard(samples, mean, stddev).numpy()
    error = 3 * logs.std(axis=0) / math.sqrt(len(logs))
    self.assertTrue(np.all(np.abs(logs.mean(axis=0) - exact) < error))

  def test_correlation_of_orthogonal_and_of_equal_rows(self):
    apart = 3.0 * tf.eye(3, 6)
    self.assertAlmostEqual(
      float(tf.reduce_sum(tf.abs(leo.correlation_error(apart)))), 0.0, 6
    )
    alike = tf.repeat(normal(1, 6), 4, axis=0)
    squares = tf.square(leo.correlation_error(alike))
    self.assertAlmostEqual(float(tf.reduce_mean(squares)), 3 / 4)

  def test_dropout_keeps_the_mean(self):
    ones = tf.ones([2000, 5], tf.float64)
    copies = random.dropped_out(ones, 0.3, 2, tf.constant([0, 1]))
    for dropped in copies:
      self.assertAlmostEqual(dropped.numpy().mean(), 1.0, delta=0.03)
      np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.7])
    differ = np.mean(copies[0].numpy() != copies[1].numpy())
    self.assertAlmostEqual(differ, 2 * 0.3 * 0.7, delta=0.03)


if __name__ == "__main__":
  absltest.main()
