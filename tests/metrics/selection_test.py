from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tfmeta import metrics


class SelectiveAccuracyTest(parameterized.TestCase):
  def test_the_most_confident_come_first(self):
    found = metrics.selective_accuracy(
      [0.9, 0.2, 0.8, 0.4], [1, 0, 0, 1], coverages=[0.25, 0.5, 0.75, 1.0]
    )
    np.testing.assert_allclose(found, [1.0, 0.5, 2 / 3, 0.5])

  def test_at_full_coverage_it_is_the_accuracy(self):
    random = np.random.default_rng(0)
    right = random.random((7, 9)) < 0.6
    found = metrics.selective_accuracy(random.random((7, 9)), right)
    self.assertLen(found, len(metrics.COVERAGES))
    self.assertAlmostEqual(found[-1], right.mean())

  def test_confidence_without_meaning_changes_nothing(self):
    found = metrics.selective_accuracy(np.full(10, 0.5), [1, 0] * 5)
    np.testing.assert_allclose(found, np.full(10, 0.5))

  def test_equals_at_a_limit_count_by_their_share(self):
    # Kept are the first and one of the two behind it, of which half is right.
    found = metrics.selective_accuracy(
      [0.9, 0.5, 0.5], [0, 1, 0], coverages=[2 / 3]
    )
    np.testing.assert_allclose(found, [0.25])

  def test_one_prediction_at_least_is_kept(self):
    found = metrics.selective_accuracy([0.9, 0.1], [1, 0], coverages=[0.01])
    np.testing.assert_allclose(found, [1.0])

  @parameterized.parameters(0.0, 1.5)
  def test_coverages_are_shares(self, coverage):
    with self.assertRaisesRegex(ValueError, "Received: coverages="):
      metrics.selective_accuracy([0.5], [1], coverages=[coverage])

  @parameterized.parameters(([], []), ([0.5], [1, 0]))
  def test_wrong_sizes_are_errors(self, confidence, right):
    with self.assertRaisesRegex(ValueError, "Received"):
      metrics.selective_accuracy(confidence, right)


if __name__ == "__main__":
  absltest.main()
