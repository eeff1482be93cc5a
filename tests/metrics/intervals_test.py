import math
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tfmeta import metrics


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

  def test_the_sign_of_an_interval_is_one_that_can_be_printed(self):
    for encoding, sign in (
      ("utf-8", "±"),
      ("latin1", "±"),
      ("ascii", "+-"),
      ("no such encoding", "+-"),
      (None, "±"),
    ):
      with mock.patch.object(sys, "stdout", mock.Mock(encoding=encoding)):
        self.assertEqual(metrics.plus_minus(), sign)


if __name__ == "__main__":
  absltest.main()
