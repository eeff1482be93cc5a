"""Tests fingerprints of examples, and noise."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.core import random


def examples(seed=0, count=6):
  random = np.random.default_rng(seed)
  x = random.normal(size=(count, 2, 3)).astype("float32")
  return x, random.integers(0, 3, count).astype("int32")


def fingerprint(x, y):
  return int(random.fingerprint(tf.constant(x), tf.constant(y)))


class FingerprintTest(absltest.TestCase):
  def test_order_does_not_matter(self):
    x, y = examples()
    order = [4, 2, 0, 5, 1, 3]
    self.assertEqual(fingerprint(x, y), fingerprint(x[order], y[order]))

  def test_assignment_of_labels_matters(self):
    x, y = examples()
    self.assertNotEqual(fingerprint(x, y), fingerprint(x, np.roll(y, 1)))

  def test_strings_matter(self):
    _, y = examples()
    words = np.array([["a"], ["b"], ["c"], ["d"], ["e"], ["f"]])
    first = fingerprint(words, y)
    self.assertEqual(first, fingerprint(words[::-1], y[::-1]))
    self.assertNotEqual(
      first, fingerprint(np.where(words == "a", "g", words), y)
    )

  def test_small_differences_matter_at_every_scale(self):
    x, y = examples()
    for scale in (1e-6, 1.0, 1e6):
      other = x.copy()
      other[3, 1, 2] *= 1.001
      self.assertNotEqual(
        fingerprint(scale * x, y), fingerprint(scale * other, y)
      )

  def test_places_of_features_matter(self):
    x, y = examples()
    self.assertNotEqual(fingerprint(x, y), fingerprint(x[:, :, ::-1], y))

  def test_sparse_binary_images_hardly_ever_agree(self):
    random = np.random.default_rng(0)
    found = {
      fingerprint(
        (random.random((5, 8, 8)) < 0.1).astype("float32"), np.arange(5)
      )
      for _ in range(500)
    }
    self.assertLen(found, 500)

  def test_graphs_vectorized_maps_and_xla_agree(self):
    tasks = [examples(seed) for seed in range(3)]
    x, y = (tf.constant(np.stack(part)) for part in zip(*tasks, strict=True))
    expected = [fingerprint(*task) for task in tasks]
    for jit in (False, True):
      mapped = tf.function(
        lambda x, y: tf.map_fn(
          lambda task: random.fingerprint(*task),
          (x, y),
          fn_output_signature=tf.int32,
        ),
        jit_compile=jit,
      )
      np.testing.assert_array_equal(mapped(x, y), expected)
    vectorized = tf.function(
      lambda x, y: tf.vectorized_map(
        lambda task: random.fingerprint(*task), (x, y)
      )
    )
    np.testing.assert_array_equal(vectorized(x, y), expected)


class FoldTest(absltest.TestCase):
  def test_streams_differ_from_each_other_and_between_seeds(self):
    found = set()
    for seed in ([0, 0], [0, 1], [1, 0], [7, -3]):
      for number in (-3, -2, *range(200)):
        found.add(tuple(random.fold_in(tf.constant(seed), number).numpy()))
    self.assertLen(found, 4 * 202)

  def test_streams_of_streams_differ(self):
    seed = tf.constant([0, 0])
    pairs = {
      tuple(random.fold_in(random.fold_in(seed, a), b).numpy())
      for a in range(20)
      for b in range(20)
    }
    self.assertLen(pairs, 400)

  def test_order_of_folding_matters(self):
    seed = tf.constant([0, 0])
    one = random.fold_in(random.fold_in(seed, 3), 4).numpy()
    other = random.fold_in(random.fold_in(seed, 4), 3).numpy()
    self.assertTrue((one != other).all())

  def test_graphs_vectorized_maps_and_xla_agree(self):
    seed, numbers = tf.constant([3, 4]), tf.range(20)
    expected = [random.fold_in(seed, n).numpy() for n in range(20)]
    for jit in (False, True):
      mapped = tf.function(
        lambda numbers: tf.vectorized_map(
          lambda n: random.fold_in(seed, n), numbers
        ),
        jit_compile=jit,
      )
      np.testing.assert_array_equal(mapped(numbers), expected)

  def test_their_noise_has_nothing_in_common(self):
    seeds = [random.fold_in(tf.constant([3, 1]), n) for n in range(12)]
    noise = np.stack(
      [random.normal([4000], seed, tf.float32) for seed in seeds]
    )
    apart = np.corrcoef(noise) - np.eye(12)
    self.assertLess(np.abs(apart).max(), 5 / np.sqrt(4000))


class NoiseTest(parameterized.TestCase):
  def test_normal_numbers_are_normal(self):
    numbers = random.normal([100_000], tf.constant([5, 7]), tf.float64).numpy()
    self.assertAlmostEqual(numbers.mean(), 0.0, delta=4 / np.sqrt(1e5))
    self.assertAlmostEqual(numbers.var(), 1.0, delta=4 * np.sqrt(2 / 1e5))
    self.assertAlmostEqual(
      (numbers**3).mean(), 0.0, delta=4 * np.sqrt(15 / 1e5)
    )
    self.assertAlmostEqual(
      (numbers**4).mean(), 3.0, delta=4 * np.sqrt(96 / 1e5)
    )

  @parameterized.parameters(([0, 0],), ([1, 0],), ([0, 1],), ([-4, 9],))
  def test_uniform_numbers_are_uniform_and_neighbours_are_apart(self, seed):
    numbers = random.uniform([1000, 100], tf.constant(seed), tf.float32).numpy()
    self.assertGreater(numbers.min(), 0.0)
    self.assertLess(numbers.max(), 1.0)
    # Pairs of numbers fall into a grid of 20 by 20 cells. The mean of chi
    # squared is then 399.
    for lag in (1, 2, 7, 100):
      flat = numbers.ravel()
      counts, *_ = np.histogram2d(
        flat[:-lag], flat[lag:], bins=20, range=[[0, 1]] * 2
      )
      expected = (flat.size - lag) / 400
      chi = np.sum((counts - expected) ** 2) / expected
      self.assertAlmostEqual(chi, 399, delta=5 * np.sqrt(2 * 399))

  def test_a_seed_decides_them(self):
    one, same, other, another = (
      random.normal([20_000], tf.constant(seed), tf.float32).numpy()
      for seed in ([0, 1], [0, 1], [1, 1], [0, 2])
    )
    np.testing.assert_array_equal(one, same)
    for different in (other, another):
      self.assertLess(abs(np.corrcoef(one, different)[0, 1]), 0.04)

  def test_graphs_vectorized_maps_and_xla_agree(self):
    # TensorFlow's own random operations give other numbers under XLA.
    seeds = tf.constant([[3, 4], [-5, 6], [2**31 - 1, 0]])

    def random_numbers(seed):
      uniform = random.uniform([3, 5], seed, tf.float32)
      return uniform, random.normal([7], seed, tf.float32)

    rows = [random_numbers(seed) for seed in seeds]
    expected = [np.stack(part) for part in zip(*rows, strict=True)]
    for jit in (False, True):
      mapped = tf.function(
        lambda seeds: tf.vectorized_map(random_numbers, seeds), jit_compile=jit
      )
      for one, other in zip(mapped(seeds), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
  absltest.main()
