from absl.testing import absltest
import numpy as np

from benchmarks.shared import sampled_predictions

# Two samples that differ by twice the distance from the support point at 0, so
# that their standard deviation is that distance.
GRID = np.array([[-3.0], [-1.0], [0.0], [0.5], [2.0]])
SUPPORT_X = np.zeros((1, 1, 1))
SAMPLES = np.stack([GRID[:, 0], -GRID[:, 0]])[np.newaxis]


class SampledPredictionsTest(absltest.TestCase):
  def test_spread_separates_near_and_far_points(self):
    found = sampled_predictions.spread_by_distance(SAMPLES, GRID, SUPPORT_X)
    self.assertAlmostEqual(found["near"], (0 + 0.5) / 2)
    self.assertAlmostEqual(found["far"], (3 + 2) / 2)
    self.assertAlmostEqual(found["everywhere"], (3 + 1 + 0 + 0.5 + 2) / 5)

  def test_the_nearest_support_point_decides(self):
    support_x = np.array([[[0.0], [-3.0]]])
    found = sampled_predictions.spread_by_distance(SAMPLES, GRID, support_x)
    self.assertAlmostEqual(found["near"], (3 + 0 + 0.5) / 3)

  def test_spread_far_is_none_without_far_points(self):
    found = sampled_predictions.spread_by_distance(
      SAMPLES[..., 1:4], GRID[1:4], SUPPORT_X
    )
    self.assertIsNone(found["far"])

  def test_squared_error_is_that_of_the_mean_over_samples(self):
    targets = np.ones((1, 5))
    self.assertAlmostEqual(
      sampled_predictions.squared_error(targets, SAMPLES), 1.0
    )

  def test_chosen_noise_is_that_of_the_errors(self):
    # Errors of 1 under a single sample are likeliest under noise of 1, which is
    # the tenth of the largest noise to try.
    targets, outputs = np.ones((1, 4)), np.zeros((1, 1, 4))
    found = sampled_predictions.choose_noise(targets, outputs, scale=10.0)
    self.assertAlmostEqual(found, 1.0)

  def test_mixture_loss_is_that_of_a_gaussian_for_one_sample(self):
    targets, outputs = np.ones((1, 4)), np.zeros((1, 1, 4))
    self.assertAlmostEqual(
      sampled_predictions.mixture_loss(targets, outputs, 2.0),
      0.5 * np.log(2 * np.pi * 4) + 1 / 8,
      places=5,
    )


if __name__ == "__main__":
  absltest.main()
