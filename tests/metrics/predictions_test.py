import math

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta import metrics


def softmax(logits):
  """Returns the softmax by its definition, in float64."""
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


class AccuracyTest(parameterized.TestCase):
  def test_share_of_right_examples(self):
    outputs = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [5.0, 1.0]])
    found = metrics.accuracy(np.array([0, 1, 1, 0]), outputs)
    self.assertEqual(float(found), 0.75)

  def test_label_type_does_not_matter(self):
    outputs = np.eye(3, dtype="float32")
    for kind in ("int32", "int64", "uint8"):
      self.assertEqual(
        float(metrics.accuracy(np.arange(3, dtype=kind), outputs)), 1
      )

  def test_equals_keras(self):
    random = np.random.default_rng(1)
    labels, outputs = random.integers(0, 5, 75), random.normal(size=(75, 5))
    expected = keras.metrics.sparse_categorical_accuracy(labels, outputs)
    found = metrics.accuracy(labels, outputs)
    self.assertAlmostEqual(float(found), float(np.mean(expected)), places=6)


class MeanSquaredErrorTest(parameterized.TestCase):
  def test_by_hand(self):
    found = metrics.mean_squared_error(
      np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [4.0], [2.0]])
    )
    self.assertAlmostEqual(float(found), 5 / 3, places=6)

  def test_several_outputs_are_averaged(self):
    zeros = np.zeros((4, 2))
    found = metrics.mean_squared_error(zeros, zeros + [1.0, 3.0])
    self.assertEqual(float(found), 5.0)

  def test_nothing_is_broadcast(self):
    with self.assertRaisesRegex(ValueError, r"targets.shape=\(3,\)"):
      metrics.mean_squared_error(np.zeros(3), np.zeros((3, 1)))


class NegativeLogLikelihoodTest(parameterized.TestCase):
  def nll(self, labels, outputs, **kwargs):
    logs = metrics.log_probabilities(outputs, **kwargs)
    return float(metrics.negative_log_likelihood(np.array(labels), logs))

  @parameterized.parameters(2, 5, 20)
  def test_uniform_prediction_costs_log_of_ways(self, ways):
    found = self.nll([0, 1, 1], np.full((3, ways), 7.0))
    self.assertAlmostEqual(found, math.log(ways), places=5)

  def test_perfect_prediction_costs_nothing(self):
    self.assertAlmostEqual(self.nll([0, 1, 2], 100.0 * np.eye(3)), 0.0)

  def test_sure_and_wrong_costs_the_margin(self):
    self.assertAlmostEqual(self.nll([1], [[200.0, 0.0]]), 200.0, places=3)

  def test_probabilities_and_logits_agree(self):
    logits = np.random.default_rng(2).normal(size=(9, 4))
    labels = np.arange(9) % 4
    expected = -np.mean(np.log(softmax(logits))[np.arange(9), labels])
    self.assertAlmostEqual(self.nll(labels, logits), expected, places=5)
    for scale in (1.0, 3.0):
      found = self.nll(labels, scale * softmax(logits), from_logits=False)
      self.assertAlmostEqual(found, expected, places=5)

  def test_zero_probability_stays_finite(self):
    found = self.nll([1], np.array([[1.0, 0.0]]), from_logits=False)
    self.assertAlmostEqual(found, -math.log(1e-7), places=3)

  def test_samples_are_averaged_as_probabilities(self):
    logits = 3 * np.random.default_rng(3).normal(size=(6, 9, 4))
    labels = np.arange(9) % 4
    mean = softmax(logits).mean(axis=0)
    expected = -np.mean(np.log(mean)[np.arange(9), labels])
    found = self.nll(labels, logits, sample_axis=0)
    self.assertAlmostEqual(found, expected, places=5)
    each = np.mean([self.nll(labels, sample) for sample in logits])
    self.assertLess(found, each)

  def test_far_samples_do_not_underflow(self):
    logits = np.array([[[0.0, 300.0]], [[0.0, 301.0]]])
    found = self.nll([0], logits, sample_axis=0)
    # log-mean-exp of -300 and -301.
    expected = 300 - math.log((1 + math.exp(-1)) / 2)
    self.assertAlmostEqual(found, expected, places=3)

  def test_label_out_of_range_is_an_error(self):
    with self.assertRaises(tf.errors.InvalidArgumentError):
      self.nll([2], np.zeros((1, 2)))


class BrierScoreTest(parameterized.TestCase):
  @parameterized.parameters(2, 5)
  def test_uniform_prediction(self, ways):
    found = metrics.brier_score([0, 1], np.full((2, ways), 1 / ways))
    self.assertAlmostEqual(float(found), (ways - 1) / ways, places=6)

  def test_certain_predictions(self):
    certain = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # One right and one wrong prediction, which costs 1 at either class, then a
    # right one.
    found = metrics.brier_score([0, 1, 1], certain)
    self.assertAlmostEqual(float(found), 2 / 3, places=6)

  def test_by_hand(self):
    found = metrics.brier_score([2], np.array([[0.5, 0.2, 0.3]]))
    self.assertAlmostEqual(float(found), 0.25 + 0.04 + 0.49, places=6)


class MixtureTest(parameterized.TestCase):
  def test_one_sample_is_a_gaussian(self):
    found = metrics.mixture_negative_log_likelihood(
      np.array([[1.0], [3.0]]), np.array([[[1.5], [2.0]]]), np.array([0.5])
    )
    each = [
      0.5 * (gap / 0.5) ** 2 + math.log(0.5) + 0.5 * math.log(2 * math.pi)
      for gap in (0.5, 1.0)
    ]
    self.assertAlmostEqual(float(found), np.mean(each), places=5)

  def test_samples_share_equally_and_axes_of_a_target_are_independent(self):
    random = np.random.default_rng(0)
    targets, outputs = random.normal(size=(4, 2)), random.normal(size=(3, 4, 2))
    stddevs = np.array([0.3, 1.0, 2.0])
    spread = stddevs[:, None, None]
    densities = np.exp(-0.5 * ((targets - outputs) / spread) ** 2) / (
      spread * math.sqrt(2 * math.pi)
    )
    expected = -np.mean(np.log(densities.prod(axis=-1).mean(axis=0)))
    found = metrics.mixture_negative_log_likelihood(targets, outputs, stddevs)
    self.assertAlmostEqual(float(found), expected, places=5)

  def test_far_targets_stay_finite(self):
    found = metrics.mixture_negative_log_likelihood(
      np.array([[100.0]]), np.zeros((2, 1, 1)), np.array([1.0, 1.0])
    )
    expected = 5000 + 0.5 * math.log(2 * math.pi)
    self.assertAlmostEqual(float(found), expected, places=2)


class NearestNeighbourTest(parameterized.TestCase):
  def test_equals_the_distances_written_out(self):
    random = np.random.default_rng(5)
    support = random.integers(0, 256, (10, 8, 8, 3)).astype("uint8")
    query = random.integers(0, 256, (30, 8, 8, 3)).astype("uint8")
    labels = random.permutation(10)
    gaps = query[:, None].astype(float) - support[None].astype(float)
    expected = labels[(gaps**2).sum(axis=(2, 3, 4)).argmin(axis=1)]
    found = metrics.nearest_neighbour(support, labels, query)
    np.testing.assert_array_equal(found, expected)

  def test_a_support_example_is_its_own_neighbour(self):
    support = np.random.default_rng(6).normal(size=(20, 784)) + 100.0
    found = metrics.nearest_neighbour(support, np.arange(20), support)
    np.testing.assert_array_equal(found, np.arange(20))

  def test_near_and_not_parallel_wins(self):
    # By inner product (2, 0) would win; by distance (0.9, 0.9) does.
    support = np.array([[2.0, 0.0], [0.9, 0.9]])
    found = metrics.nearest_neighbour(support, [3, 4], np.array([[1.0, 0.8]]))
    np.testing.assert_array_equal(found, [4])

  def test_the_first_of_equals_counts(self):
    support = np.array([[1.0], [1.0], [-1.0]])
    found = metrics.nearest_neighbour(support, [2, 0, 1], np.array([[1.0]]))
    np.testing.assert_array_equal(found, [2])


if __name__ == "__main__":
  absltest.main()
