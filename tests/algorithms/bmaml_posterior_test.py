"""Compares the log-densities of BMAML with formulas that are written out."""

import math

from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

from tfmeta.algorithms import bmaml
from tfmeta.core import losses


def normal(*shape, seed=0):
  return tf.constant(np.random.default_rng(seed).normal(size=shape))


def log_gamma(x, concentration, rate):
  """Returns the log-density of x = log(g), where g is Gamma-distributed."""
  constant = concentration * math.log(rate) - math.lgamma(concentration)
  return constant + concentration * x - rate * math.exp(x)


class PosteriorTest(absltest.TestCase):
  def test_prior(self):
    weights = [normal(3, 2), normal(2, seed=1)]
    logs = {"log_weight_precision": 0.3, "log_noise_precision": 4.0}
    tensors = {k: tf.constant(v, tf.float64) for k, v in logs.items()}
    squares = sum(float(tf.reduce_sum(w**2)) for w in weights)
    expected = (
      8 / 2 * (0.3 - math.log(2 * math.pi))
      - math.exp(0.3) / 2 * squares
      + log_gamma(0.3, 2, 2)
      + log_gamma(4.0, 2, 0.2)
    )
    found = bmaml.log_prior(weights, tensors)
    np.testing.assert_allclose(found, expected, rtol=1e-12)

  def test_likelihood_of_regression(self):
    y, outputs = normal(5, 1), normal(5, 1, seed=1)
    log_precision = tf.constant(1.5, tf.float64)
    squares = float(tf.reduce_sum((y - outputs) ** 2))
    expected = 5 / 2 * (1.5 - math.log(2 * math.pi))
    expected -= math.exp(1.5) / 2 * squares
    found = bmaml.log_likelihood(
      None, y, outputs, {"log_noise_precision": log_precision}
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)

  def test_likelihood_of_labels_is_the_sum_of_logs(self):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    y, outputs = tf.constant([0, 2, 1]), normal(3, 3)
    logs = tf.gather(tf.nn.log_softmax(outputs), y, batch_dims=1)
    found = bmaml.log_likelihood(loss, y, outputs, {})
    np.testing.assert_allclose(found, tf.reduce_sum(logs), rtol=1e-10)

  def test_mixture_is_over_whole_sets(self):
    # A mixture for each single target would give another number.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    y, outputs = tf.constant([0, 2, 1]), 3 * normal(4, 3, 3)
    sets = [math.exp(bmaml.log_likelihood(loss, y, one, {})) for one in outputs]
    found = bmaml.mixture_loss(loss, y, outputs, {})
    np.testing.assert_allclose(found, -math.log(np.mean(sets)) / 3, rtol=1e-10)


class MeanPredictionTest(absltest.TestCase):
  def test_probabilities_are_averaged_and_not_logits(self):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    outputs = 3 * normal(4, 5, 3)
    mean = np.mean(tf.nn.softmax(outputs), axis=0)
    found = losses.mean_prediction(outputs, loss)
    np.testing.assert_allclose(np.exp(found), mean, rtol=1e-10)

  def test_other_outputs_are_averaged(self):
    outputs = normal(4, 5, 1)
    mean = np.mean(outputs, axis=0)
    for loss in (
      keras.losses.MeanSquaredError(),
      keras.losses.SparseCategoricalCrossentropy(from_logits=False),
    ):
      np.testing.assert_allclose(losses.mean_prediction(outputs, loss), mean)


if __name__ == "__main__":
  absltest.main()
