"""Compares LEO's three networks with formulas that are written out."""

import math

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta.algorithms import leo

FEATURES, WAYS, LATENTS = 5, 3, 4


def make(**options):
  keras.utils.set_random_seed(0)
  return leo.ClassifierGenerator(
    FEATURES, WAYS, num_latents=LATENTS, dtype="float64", **options
  )


def relu(x):
  return np.maximum(x, 0)


class ClassifierGeneratorTest(parameterized.TestCase):
  def test_codes_are_means_over_all_pairs(self):
    layer = make()
    x = np.random.default_rng(0).normal(size=(6, FEATURES))
    labels = np.array([0, 1, 2, 2, 0, 1])
    encoder, *relation, _ = [w.numpy() for w in layer.trainable_weights]
    self.assertLen(relation, 3)
    codes = x @ encoder
    values = np.zeros((WAYS, 2 * LATENTS))
    for label in range(WAYS):
      rows = []
      for i in np.flatnonzero(labels == label):
        for j in range(len(x)):  # Itself too.
          h = np.concatenate([codes[i], codes[j]])
          h = relu(relu(h @ relation[0]) @ relation[1]) @ relation[2]
          rows.append(h)
      values[label] = np.mean(rows, axis=0)
    shares = leo.class_shares(tf.constant(labels), WAYS, tf.float64)
    mean, stddev = layer.encode(tf.constant(x), shares)
    np.testing.assert_allclose(mean, values[:, :LATENTS], rtol=1e-8)
    np.testing.assert_allclose(
      stddev, np.log1p(np.exp(values[:, LATENTS:])), rtol=1e-8
    )

  def test_decoder_is_linear_and_its_spread_begins_as_glorot_s(self):
    layer = make(spread="release")
    codes = np.random.default_rng(0).normal(size=(WAYS, LATENTS))
    decoder = layer.trainable_weights[-1].numpy()
    mean, _ = layer.decode(tf.constant(codes))
    np.testing.assert_allclose(mean, (codes @ decoder)[:, :FEATURES])
    _, stddev = layer.decode(tf.zeros([WAYS, LATENTS], tf.float64))
    np.testing.assert_allclose(stddev, math.sqrt(2 / (WAYS + FEATURES)))

  def test_there_are_no_biases(self):
    shapes = [tuple(w.shape) for w in make().trainable_weights]
    pairs = 2 * LATENTS
    self.assertEqual(
      shapes,
      [(FEATURES, LATENTS), *[(pairs, pairs)] * 3, (LATENTS, 2 * FEATURES)],
    )

  @parameterized.parameters("paper", "release")
  def test_weight_penalties(self, kind):
    layer = make()
    rows = layer.trainable_weights[-1].numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    error = unit @ unit.T - np.eye(LATENTS)
    squares = sum(np.sum(w.numpy() ** 2) for w in layer.trainable_weights)
    correlation, weights = layer.weight_penalties(kind)
    if kind == "paper":
      expected = np.abs(error).sum(), squares
    else:
      expected = np.mean(error**2), squares / 2
    np.testing.assert_allclose(correlation, expected[0], rtol=1e-8)
    np.testing.assert_allclose(weights, expected[1], rtol=1e-8)


if __name__ == "__main__":
  absltest.main()
