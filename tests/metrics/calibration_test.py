from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

from tfmeta import metrics


def softmax(logits):
  """Returns the softmax by its definition, in float64."""
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


def error_by_hand(labels, probabilities, bins):
  """Returns the calibration error by its definition, bin by bin."""
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

  def test_bad_arguments_are_errors(self):
    with self.assertRaisesRegex(ValueError, "Received: bins=0"):
      metrics.ExpectedCalibrationError(bins=0)

  def test_an_integer_weight_repeats_an_example(self):
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    labels, weight = np.zeros((2, 3), int), np.array([[2, 0, 1], [0, 1, 1]])
    metric = metrics.ExpectedCalibrationError()
    metric.update_state(labels, logits, sample_weight=weight)
    repeated = metrics.ExpectedCalibrationError()
    times = weight.ravel()
    repeated.update_state(
      np.repeat(labels.ravel(), times),
      np.repeat(logits.reshape(-1, 4), times, axis=0),
    )
    self.assertAlmostEqual(float(metric.result()), float(repeated.result()), 6)


class BrierScoreTest(parameterized.TestCase):
  def test_batches_count_by_their_examples(self):
    logits = np.random.default_rng(0).normal(size=(6, 5, 3)).astype("float32")
    labels = np.random.default_rng(1).integers(0, 3, (6, 5))
    metric = metrics.BrierScore()
    metric.update_state(labels[:1], logits[:1])
    metric.update_state(labels[1:], logits[1:])
    apart = softmax(logits) - np.eye(3)[labels]
    expected = np.mean(np.sum(apart**2, axis=-1))
    self.assertAlmostEqual(float(metric.result()), expected, places=5)

  def test_probabilities_are_taken_as_such(self):
    metric = metrics.BrierScore(from_logits=False)
    metric.update_state(np.zeros(10, int), np.tile([0.6, 0.4], (10, 1)))
    self.assertAlmostEqual(float(metric.result()), 0.32, places=5)

  def test_config_round_trip(self):
    metric = metrics.BrierScore(from_logits=False)
    revived = keras.metrics.deserialize(keras.metrics.serialize(metric))
    self.assertEqual(revived.get_config(), metric.get_config())

  def test_examples_count_by_their_weight(self):
    # The first example is right for sure (0), the second is wrong (2).
    metric = metrics.BrierScore()
    for weight in ([3.0, 1.0], [0.0, 2.0]):
      outputs = np.array([[50.0, -50.0], [-50.0, 50.0]])
      metric.update_state([0, 0], outputs, sample_weight=weight)
    self.assertAlmostEqual(float(metric.result()), 2 * 3 / 6, 5)


if __name__ == "__main__":
  absltest.main()
