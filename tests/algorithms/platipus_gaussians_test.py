"""Tests samples and divergences of Gaussians over weights."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from tfmeta.algorithms import platipus

SHAPES = ((3, 2), (4,))


def normal(seed):
  random = np.random.default_rng(seed)
  return [tf.constant(random.normal(size=shape)) for shape in SHAPES]


def scales(seed):
  return [0.3 * t for t in normal(seed)]


class SampleTest(absltest.TestCase):
  def test_moments(self):
    means, log_scales = normal(0), scales(1)
    noise = platipus.noise_for(log_scales, tf.constant([0, 1]), 4000)
    samples = tf.function(tf.map_fn)(
      lambda noise: tuple(platipus.sample_weights(means, log_scales, noise)),
      noise,
      fn_output_signature=(tf.float64, tf.float64),
    )
    for place, values in enumerate(samples):
      values = values.numpy()
      deviation = np.exp(log_scales[place])
      error = np.abs(values.mean(axis=0) - means[place]) / deviation
      self.assertLess(error.max(), 4 / np.sqrt(4000))
      np.testing.assert_allclose(values.std(axis=0), deviation, rtol=0.05)

  def test_a_seed_decides_the_sample_and_weights_share_no_noise(self):
    zeros = [tf.zeros([4], tf.float64)] * 2
    noises = [
      platipus.noise_for(zeros, tf.constant(seed))
      for seed in ([0, 1], [0, 1], [0, 2])
    ]
    one, same, other = (
      platipus.sample_weights(zeros, zeros, n) for n in noises
    )
    np.testing.assert_array_equal(one[0], same[0])
    self.assertGreater(np.min(np.abs(one[0] - other[0])), 0)
    self.assertGreater(np.min(np.abs(one[0] - one[1])), 0)

  def test_weights_without_spread_equal_their_mean(self):
    means = normal(0)
    partly = [None, *scales(1)[1:]]
    noise = platipus.noise_for(partly, tf.constant([0, 0]))
    sample = platipus.sample_weights(means, partly, noise)
    np.testing.assert_array_equal(sample[0], means[0])
    self.assertGreater(np.min(np.abs(sample[1] - means[1])), 0)


class DivergenceTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.q, self.p = (normal(0), scales(1)), (normal(2), scales(3))

  def test_closed_form(self):
    expected = 0.0
    for m, s, n, r in zip(*self.q, *self.p, strict=True):
      ratio = np.exp(2 * (s - r))
      apart = (m - n) ** 2 / np.exp(2 * r)
      expected += 0.5 * np.sum(ratio + apart - 1 - 2 * (s - r))
    found = platipus.divergence(*self.q, *self.p)
    np.testing.assert_allclose(found, expected, rtol=1e-12)

  def test_equals_the_mean_log_ratio_under_the_first(self):
    random = np.random.default_rng(5)
    total = np.zeros(100_000)
    for m, s, n, r in zip(*self.q, *self.p, strict=True):
      noise = random.normal(size=(len(total), *m.shape))
      x = m + np.exp(s) * noise
      logs = ((x - n) / np.exp(r)) ** 2 / 2 + r - noise**2 / 2 - s
      total += np.reshape(logs, (len(total), -1)).sum(axis=1)
    error = 3 * total.std() / np.sqrt(len(total))
    found = float(platipus.divergence(*self.q, *self.p))
    self.assertAlmostEqual(found, total.mean(), delta=error)
    swapped = float(platipus.divergence(*self.p, *self.q))
    self.assertNotAlmostEqual(swapped, total.mean(), delta=error)

  def test_is_zero_only_for_equal_distributions(self):
    self.assertEqual(float(platipus.divergence(*self.q, *self.q)), 0.0)
    wider = [s + 0.1 for s in self.q[1]]
    self.assertGreater(float(platipus.divergence(*self.q, self.q[0], wider)), 0)

  def test_weights_without_spread_do_not_count(self):
    means, log_scales = self.q
    partly = [None, log_scales[1]]
    other = [None, self.p[1][1]]
    found = platipus.divergence(means, partly, self.p[0], other)
    expected = platipus.divergence(
      means[1:], log_scales[1:], self.p[0][1:], self.p[1][1:]
    )
    np.testing.assert_allclose(found, expected)


if __name__ == "__main__":
  absltest.main()
