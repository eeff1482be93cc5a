import math

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta import metrics


def softmax(logits):
  """The definition, in float64."""
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


def error_by_hand(labels, probabilities, bins):
  """Calibration error example by example, as the definition says it."""
  confidence = probabilities.max(axis=-1)
  right = probabilities.argmax(axis=-1) == labels
  total = 0.0
  for b in range(bins):
    inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
    if inside.any():
      gap = abs(right[inside].mean() - confidence[inside].mean())
      total += inside.mean() * gap
  return total


def calibration_error(labels, probabilities, bins=15):
  counted = metrics.calibration_bins(
    np.asarray(labels), np.asarray(probabilities, "float32"), bins=bins
  )
  return float(metrics.expected_calibration_error(counted))


class MeanAndIntervalTest(parameterized.TestCase):
  def test_interval_uses_the_sample_standard_deviation(self):
    mean, interval = metrics.mean_and_interval([0.2, 0.4, 0.9])
    # Squared deviations 0.09, 0.01, 0.16 over n - 1 = 2: s**2 = 0.13.
    self.assertAlmostEqual(float(mean), 0.5, places=12)
    expected = 1.96 * math.sqrt(0.13) / math.sqrt(3)
    self.assertAlmostEqual(float(interval), expected, places=12)

  def test_interval_of_600_tasks_at_published_spread(self):
    # Half of the tasks at 0.25, half at 0.71: s = 0.23 but for ddof. MAML's
    # 5-way 1-shot tasks with 5 queries have it and are printed as +- 1.84.
    values = np.tile([0.25, 0.71], 300)
    _, interval = metrics.mean_and_interval(values)
    self.assertAlmostEqual(float(interval), 0.0184, places=4)

  def test_other_axes_are_kept(self):
    values = np.random.default_rng(0).normal(size=(7, 3))
    mean, interval = metrics.mean_and_interval(values)
    self.assertEqual((mean.shape, interval.shape), ((3,), (3,)))
    alone = metrics.mean_and_interval(values[:, 1])
    np.testing.assert_allclose((mean[1], interval[1]), alone)
    np.testing.assert_array_equal(
      metrics.mean_and_interval(values.T, axis=1)[0], mean
    )

  def test_equal_tasks_have_no_interval(self):
    self.assertEqual(float(metrics.mean_and_interval([0.5] * 9)[1]), 0.0)

  def test_one_task_has_a_mean_and_an_unknown_interval(self):
    mean, interval = metrics.mean_and_interval([0.5])
    self.assertEqual(float(mean), 0.5)
    self.assertTrue(math.isnan(interval))

  @parameterized.parameters(([],), (0.5,))
  def test_no_tasks_is_an_error(self, values):
    with self.assertRaisesRegex(ValueError, "at least one task. Received"):
      metrics.mean_and_interval(values)


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


class CalibrationTest(parameterized.TestCase):
  def test_calibrated_predictions_have_no_error(self):
    # Confidence 0.7 and right in 7 of 10; 0.9 and right in 9 of 10.
    labels = np.repeat([0, 1, 0, 1], [7, 3, 9, 1])
    first = np.repeat([0.7, 0.9], 10)
    predicted = np.stack([first, 1 - first], axis=-1)
    self.assertLess(calibration_error(labels, predicted), 1e-6)

  def test_overconfidence_is_the_gap(self):
    labels = np.repeat([0, 1], [6, 4])
    predicted = np.tile([1.0, 0.0], (10, 1))
    self.assertAlmostEqual(calibration_error(labels, predicted), 0.4, places=6)

  def test_underconfidence_is_the_gap(self):
    predicted = np.tile([0.6, 0.4], (10, 1))
    found = calibration_error(np.zeros(10, int), predicted)
    self.assertAlmostEqual(found, 0.4, places=6)

  def test_perfect_prediction_has_no_error(self):
    found = calibration_error(np.arange(5), np.eye(5))
    self.assertAlmostEqual(found, 0.0)

  def test_gaps_of_different_bins_do_not_cancel(self):
    # 0.55 always right, 0.95 never: signed gaps sum to -0.25, absolute to 0.7.
    labels = np.array([0] * 5 + [1] * 5)
    predicted = np.repeat([[0.55, 0.45], [0.95, 0.05]], 5, axis=0)
    found = calibration_error(labels, predicted)
    self.assertAlmostEqual(found, 0.5 * 0.45 + 0.5 * 0.95, places=5)

  @parameterized.parameters(1, 10, 15)
  def test_equals_the_definition(self, bins):
    random = np.random.default_rng(bins)
    predicted = softmax(2 * random.normal(size=(400, 5))).astype("float32")
    labels = random.integers(0, 5, 400)
    expected = error_by_hand(labels, predicted, bins)
    found = calibration_error(labels, predicted, bins)
    self.assertAlmostEqual(found, expected, places=5)

  def test_bins_are_closed_above(self):
    predicted = np.array([[1.0, 0.0], [0.5, 0.5], [0.75, 0.25]], "float32")
    counted = metrics.calibration_bins([0, 0, 1], predicted, bins=4).numpy()
    np.testing.assert_array_equal(counted[:, 0], [0, 1, 1, 1])
    np.testing.assert_array_equal(counted[:, 2], [0, 1, 0, 1])

  def test_pooling_tasks_is_not_averaging_their_errors(self):
    labels = [np.zeros(10, int), np.repeat([0, 1], [4, 6])]
    predicted = np.tile([0.7, 0.3], (10, 1))
    alone = [calibration_error(task, predicted) for task in labels]
    pooled = sum(metrics.calibration_bins(t, predicted) for t in labels)
    found = float(metrics.expected_calibration_error(pooled))
    # Right in 14 of 20 at confidence 0.7, though 10 of 10 and 4 of 10 apart.
    self.assertLess(found, 1e-6)
    self.assertAlmostEqual(float(np.mean(alone)), 0.3, places=6)

  def test_no_examples_have_no_error(self):
    self.assertEqual(
      float(metrics.expected_calibration_error(np.zeros((5, 3)))), 0
    )


class ExpectedCalibrationErrorTest(parameterized.TestCase):
  def test_batches_are_pooled(self):
    random = np.random.default_rng(4)
    logits = random.normal(size=(6, 25, 5)).astype("float32")
    labels = random.integers(0, 5, (6, 25))
    metric = metrics.ExpectedCalibrationError()
    metric.update_state(labels[:4], logits[:4])
    metric.update_state(labels[4:], logits[4:])
    expected = error_by_hand(
      labels.reshape(-1), softmax(logits).reshape(-1, 5), 15
    )
    self.assertAlmostEqual(float(metric.result()), expected, places=5)
    metric.reset_state()
    self.assertEqual(float(metric.result()), 0.0)

  def test_probabilities_are_taken_as_such(self):
    metric = metrics.ExpectedCalibrationError(from_logits=False)
    metric.update_state(np.zeros(10, int), np.tile([0.6, 0.4], (10, 1)))
    self.assertAlmostEqual(float(metric.result()), 0.4, places=5)

  def test_config_round_trip(self):
    metric = metrics.ExpectedCalibrationError(bins=7, from_logits=False)
    revived = keras.metrics.deserialize(keras.metrics.serialize(metric))
    self.assertEqual(revived.get_config(), metric.get_config())
    self.assertEqual(revived.bins, 7)

  def test_bad_settings_are_errors(self):
    with self.assertRaisesRegex(ValueError, "Received: bins=0"):
      metrics.ExpectedCalibrationError(bins=0)
    metric = metrics.ExpectedCalibrationError()
    with self.assertRaisesRegex(ValueError, "equally weighted"):
      metric.update_state([0], [[0.0, 1.0]], sample_weight=[2.0])


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
