from absl.testing import absltest
import numpy as np

from benchmarks import readings

# One task of ten queries, the first eight of them open.
LEFT = np.array([0, 1] * 5)
RIGHT = np.where(np.arange(10) < 8, 1 - LEFT, LEFT)
BOTH = np.stack([LEFT, RIGHT], axis=-1)[np.newaxis]


def one_hot(*draws):
  """Certain probabilities `[1, M, Q, 2]`."""
  return np.eye(2)[np.stack(draws)[np.newaxis]]


class ReadingsTest(absltest.TestCase):
  def test_agreement_counts_open_queries_alone(self):
    wrong_in_two = np.where(np.arange(10) < 2, RIGHT, LEFT)
    wrong_where_closed = np.where(np.arange(10) < 8, LEFT, 1 - LEFT)
    found = readings.agreement(
      one_hot(wrong_in_two, wrong_where_closed, RIGHT), BOTH
    )
    np.testing.assert_allclose(found[0], [[0.75, 0.25], [1, 0], [0, 1]])

  def test_covered_takes_a_draw_of_each_reading(self):
    half = np.where(np.arange(10) < 4, LEFT, RIGHT)
    for draws, expected in (
      ((LEFT, RIGHT), True),
      ((LEFT, LEFT), False),
      ((LEFT, half), False),
      ((half, RIGHT), False),
    ):
      found = readings.covered(one_hot(*draws), BOTH)
      self.assertEqual(found.tolist(), [expected])

  def test_a_slight_preference_is_no_reading(self):
    for sure, expected in ((0.51, False), (0.9, True)):
      found = readings.covered(
        sure * one_hot(LEFT, RIGHT) + (1 - sure) * one_hot(RIGHT, LEFT), BOTH
      )
      self.assertEqual(found.tolist(), [expected])

  def test_shuffling_keeps_the_answers_to_a_query_and_parts_draws(self):
    draws = one_hot(*[LEFT, RIGHT] * 5)
    found = readings.shuffled(draws)
    np.testing.assert_array_equal(found.sum(axis=1), draws.sum(axis=1))
    np.testing.assert_array_equal(found.sum(axis=-1), 1)
    self.assertTrue(readings.covered(draws, BOTH)[0])
    self.assertLess(readings.agreement(found, BOTH).max(), 1)

  def test_disagreement_is_over_pairs_of_different_draws(self):
    answers = np.array([[[0, 0], [0, 1], [0, 1]]])
    found = readings.disagreement(answers, 2)
    np.testing.assert_allclose(found, [[0, 2 / 3]])
    np.testing.assert_array_equal(
      readings.disagreement(answers[:, :1], 2), [[0, 0]]
    )

  def test_joint_loss_is_low_for_whole_readings_alone(self):
    whole = readings.joint_loss(one_hot(LEFT, RIGHT), BOTH)
    self.assertAlmostEqual(whole, np.log(2) / 10)
    halves = np.where(BOTH[..., :1] != BOTH[..., 1:], 0.5, np.eye(2)[LEFT])
    hedged = readings.joint_loss(halves[:, np.newaxis].repeat(2, axis=1), BOTH)
    self.assertAlmostEqual(hedged, 8 * np.log(2) / 10)

  def test_figures_of_the_ideal(self):
    found = readings.figures(one_hot(LEFT, RIGHT), BOTH)
    self.assertEqual(found["covered"], 1)
    self.assertEqual(found["takes_a_reading"], 1)
    self.assertEqual(found["disagreeing_open"], 1)
    self.assertEqual(found["disagreeing_closed"], 0)
    self.assertEqual(found["draw_accuracy_closed"], 1)
    # By the other reading a draw is right where the readings agree.
    self.assertAlmostEqual(found["draw_accuracy"], (1 + 0.2) / 2)


if __name__ == "__main__":
  absltest.main()
