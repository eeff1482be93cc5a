"""Tests distributions of actions against TensorFlow Probability and NumPy."""

from absl.testing import absltest
import numpy as np
from tensorflow_probability import distributions

from tfmeta.rl import actions


def gaussian_parameters(seed, size=3):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(4, 2 * size))


class GaussianTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.ours = actions.ActionDistribution("gaussian", 3)
    self.old, self.new = gaussian_parameters(0), gaussian_parameters(1)

  def theirs(self, parameters):
    mean, log_stddev = np.split(parameters, 2, axis=-1)
    return distributions.MultivariateNormalDiag(mean, np.exp(log_stddev))

  def test_log_probabilities_are_sums_over_the_numbers_of_an_action(self):
    # A mean over them would make the ratio a root of the ratio.
    taken = np.random.default_rng(2).normal(size=(4, 3))
    new, old = (
      self.ours.log_prob(parameters, taken)
      for parameters in (self.new, self.old)
    )
    expected = self.theirs(self.new).log_prob(taken)
    np.testing.assert_allclose(new, expected, rtol=1e-12)
    np.testing.assert_allclose(
      np.exp(new - old),
      self.theirs(self.new).prob(taken) / self.theirs(self.old).prob(taken),
      rtol=1e-10,
    )

  def test_divergences_are_sums_and_have_a_direction(self):
    found = self.ours.divergence(self.old, self.new)
    expected = self.theirs(self.old).kl_divergence(self.theirs(self.new))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    reverse = self.ours.divergence(self.new, self.old)
    self.assertGreater(np.abs(found - reverse).min(), 0.1)

  def test_curvature_is_the_fisher_information(self):
    tangent = gaussian_parameters(3)
    _, log_stddev = np.split(self.old, 2, axis=-1)
    # Of a mean it is 1 / stddev^2, and of the logarithm of a deviation 2.
    fisher = np.concatenate(
      [np.exp(-2 * log_stddev), np.full_like(log_stddev, 2.0)], axis=-1
    )
    np.testing.assert_allclose(
      self.ours.curvature(self.old, tangent), fisher * tangent, rtol=1e-10
    )

  def test_samples_are_the_mean_plus_scaled_noise(self):
    seed = np.array([1, 2])
    noise = self.ours.noise(seed, horizon=1, episodes=4)
    parameters = self.old.astype("float32")
    found = self.ours.sample(parameters[np.newaxis], noise)[0]
    mean, log_stddev = np.split(parameters, 2, axis=-1)
    np.testing.assert_allclose(
      found, mean + np.exp(log_stddev) * noise[0], rtol=1e-6
    )

  def test_the_deviation_has_a_least_value(self):
    parameters = np.array([[0.0, -100.0]])
    one = actions.ActionDistribution("gaussian", 1)
    np.testing.assert_allclose(one.at(parameters).stddev(), [[1e-6]])


class CategoricalTest(absltest.TestCase):
  def test_samples_have_the_probabilities_of_the_logits(self):
    ours = actions.ActionDistribution("categorical", 3)
    logits = np.log([0.2, 0.5, 0.3]).astype("float32")
    noise = ours.noise(np.array([0, 1]), horizon=1, episodes=4000)
    rows = np.tile(logits, (1, 4000, 1))
    found = ours.sample(rows, noise).numpy()
    shares = np.bincount(found[0], minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.035)


if __name__ == "__main__":
  absltest.main()
