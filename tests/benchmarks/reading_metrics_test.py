from absl.testing import absltest
import numpy as np

from benchmarks.shared import reading_metrics

# The answers of both readings to one task of ten queries, of which the first
# eight are open.
LEFT = np.array([0, 1] * 5)
RIGHT = np.where(np.arange(10) < 8, 1 - LEFT, LEFT)
BOTH = np.stack([LEFT, RIGHT], axis=-1)[np.newaxis]


def one_hot(*samples):
  """Returns certain probabilities `[1, M, Q, 2]`."""
  return np.eye(2)[np.stack(samples)[np.newaxis]]


class ReadingMetricsTest(absltest.TestCase):
  def test_agreement_counts_open_queries_only(self):
    wrong_in_two = np.where(np.arange(10) < 2, RIGHT, LEFT)
    wrong_where_closed = np.where(np.arange(10) < 8, LEFT, 1 - LEFT)
    found = reading_metrics.agreement(
      one_hot(wrong_in_two, wrong_where_closed, RIGHT), BOTH
    )
    np.testing.assert_allclose(found[0], [[0.75, 0.25], [1, 0], [0, 1]])

  def test_a_task_is_covered_if_samples_take_both_readings(self):
    half = np.where(np.arange(10) < 4, LEFT, RIGHT)
    for samples, expected in (
      ((LEFT, RIGHT), True),
      ((LEFT, LEFT), False),
      ((LEFT, half), False),
      ((half, RIGHT), False),
    ):
      found = reading_metrics.is_covered(one_hot(*samples), BOTH)
      self.assertEqual(found.tolist(), [expected])

  def test_a_slight_preference_takes_no_reading(self):
    for sure, expected in ((0.51, False), (0.9, True)):
      found = reading_metrics.is_covered(
        sure * one_hot(LEFT, RIGHT) + (1 - sure) * one_hot(RIGHT, LEFT), BOTH
      )
      self.assertEqual(found.tolist(), [expected])

  def test_coverage_of_the_paper_counts_slight_preferences(self):
    left, right = one_hot(LEFT, LEFT), one_hot(LEFT, RIGHT)
    for sure in (0.51, 0.9):
      for samples, expected in ((left, 1), (right, 2)):
        found = reading_metrics.count_likeliest(
          sure * samples + (1 - sure) * (1 - samples), BOTH
        )
        self.assertEqual(found.tolist(), [expected])

  def test_shuffling_keeps_the_answers_to_a_query_but_mixes_samples(self):
    samples = one_hot(*[LEFT, RIGHT] * 5)
    found = reading_metrics.shuffle_samples(samples)
    np.testing.assert_array_equal(found.sum(axis=1), samples.sum(axis=1))
    np.testing.assert_array_equal(found.sum(axis=-1), 1)
    self.assertTrue(reading_metrics.is_covered(samples, BOTH)[0])
    self.assertLess(reading_metrics.agreement(found, BOTH).max(), 1)

  def test_disagreement_is_over_pairs_of_different_samples(self):
    answers = np.array([[[0, 0], [0, 1], [0, 1]]])
    found = reading_metrics.disagreement(answers, 2)
    np.testing.assert_allclose(found, [[0, 2 / 3]])
    np.testing.assert_array_equal(
      reading_metrics.disagreement(answers[:, :1], 2), [[0, 0]]
    )

  def test_joint_loss_is_low_for_whole_readings_only(self):
    whole = reading_metrics.joint_loss(one_hot(LEFT, RIGHT), BOTH)
    self.assertAlmostEqual(whole, np.log(2) / 10)
    halves = np.where(BOTH[..., :1] != BOTH[..., 1:], 0.5, np.eye(2)[LEFT])
    hedged = reading_metrics.joint_loss(
      halves[:, np.newaxis].repeat(2, axis=1), BOTH
    )
    self.assertAlmostEqual(hedged, 8 * np.log(2) / 10)

  def test_metrics_of_two_samples_that_take_both_readings(self):
    found = reading_metrics.all_metrics(one_hot(LEFT, RIGHT), BOTH)
    self.assertEqual(found["covered"], 1)
    self.assertEqual(found["takes_a_reading"], 1)
    self.assertEqual(found["likeliest_readings"], 2)
    self.assertEqual(found["disagreeing_open"], 1)
    self.assertEqual(found["disagreeing_closed"], 0)
    self.assertEqual(found["sample_accuracy_closed"], 1)
    # A sample is right by the other reading where the readings agree.
    self.assertAlmostEqual(found["sample_accuracy"], (1 + 0.2) / 2)


if __name__ == "__main__":
  absltest.main()
