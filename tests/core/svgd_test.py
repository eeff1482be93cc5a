"""Tests Stein variational gradient descent against closed forms and TFP."""

import functools
import os
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfmeta.core import svgd


def normal(*shape, seed=0):
  return tf.constant(np.random.default_rng(seed).normal(size=shape))


@functools.cache
def settle(repulsion_scale, *, particles=100, steps=3000):
  """Lets particles settle on a 2-D Gaussian.

  Returns:
    The error of their mean, their covariance and the true covariance.
  """
  scale = tf.constant([[1.0, 0.0], [0.5, 1.2]], tf.float64)
  mean = tf.constant([1.0, -2.0], tf.float64)
  precision = tf.linalg.inv(scale @ tf.transpose(scale))

  @tf.function(autograph=False)
  def run(x):
    def step(_, x):
      gradients = (mean - x) @ precision
      return x + 0.5 * svgd.svgd_direction(
        x, gradients, repulsion_scale=repulsion_scale
      )

    _, x = tf.while_loop(
      lambda i, _: i < steps,
      lambda i, x: (i + 1, step(i, x)),
      (tf.constant(0), x),
    )
    return x

  x = run(normal(particles, 2)).numpy()
  return x.mean(axis=0) - mean, np.cov(x.T, ddof=0), scale @ tf.transpose(scale)


class KernelTest(parameterized.TestCase):
  def test_kernel_and_its_bandwidth(self):
    x = normal(4, 3).numpy()
    apart = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    h = np.median(apart[np.triu_indices(4, 1)]) / np.log(4)
    kernel, bandwidth = svgd.rbf_kernel(tf.constant(x))
    np.testing.assert_allclose(bandwidth, h)
    np.testing.assert_allclose(kernel, np.exp(-apart / h))

  def test_bandwidth_from_the_mean_distance(self):
    x = normal(4, 3).numpy()
    apart = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    # A mean over the whole matrix would count the distances of particles to
    # themselves.
    h = np.sqrt(apart)[np.triu_indices(4, 1)].mean() ** 2 / np.log(5)
    kernel, bandwidth = svgd.rbf_kernel(
      tf.constant(x), bandwidth="mean_distance"
    )
    np.testing.assert_allclose(bandwidth, h)
    np.testing.assert_allclose(kernel, np.exp(-apart / h))

  def test_bandwidth_from_the_mean_distance_is_differentiated(self):
    def of(x):
      _, h = svgd.rbf_kernel(x, bandwidth="mean_distance", stop_bandwidth=False)
      return h

    theory, numeric = tf.test.compute_gradient(of, [normal(3, 2)])
    np.testing.assert_allclose(theory[0], numeric[0], rtol=1e-5)

  def test_kernel_equals_that_of_tfp(self):
    x = normal(5, 3)
    kernel, h = svgd.rbf_kernel(x)
    exponentiated = tfp.math.psd_kernels.ExponentiatedQuadratic(
      length_scale=tf.sqrt(h / 2)
    )
    np.testing.assert_allclose(kernel, exponentiated.matrix(x, x), rtol=1e-10)

  @parameterized.parameters(1.0, 0.5, 0.0)
  def test_repulsion_is_the_gradient_of_the_kernel(self, repulsion_scale):
    x = normal(5, 3)
    gradients = normal(5, 3, seed=1)
    kernel, h = svgd.rbf_kernel(x)
    expected = []
    for a in x:
      with tf.GradientTape() as tape:
        tape.watch(x)
        row = tf.exp(-tf.reduce_sum((x - a) ** 2, axis=-1) / h)
      slope = tape.gradient(row, x)  # d k(b, a) / d b, a row for each b.
      terms = row[:, None] * gradients + repulsion_scale * slope
      expected.append(tf.reduce_mean(terms, axis=0))
    found = svgd.svgd_direction(x, gradients, repulsion_scale=repulsion_scale)
    np.testing.assert_allclose(found, expected, rtol=1e-10)

  @parameterized.parameters(True, False)
  def test_bandwidth_is_a_constant_if_asked(self, stop_bandwidth):
    x, direction = normal(4, 2), normal(4, 2, seed=2)
    _, fixed = svgd.rbf_kernel(x)

    def total(x, h=None):
      if h is None:
        return tf.reduce_sum(svgd.rbf_kernel(x)[0] ** 2)
      return tf.reduce_sum(tf.exp(-svgd.squared_distances(x) / h) ** 2)

    with tf.GradientTape() as tape:
      tape.watch(x)
      kernel, _ = svgd.rbf_kernel(x, stop_bandwidth=stop_bandwidth)
      value = tf.reduce_sum(kernel**2)
    slope = tf.reduce_sum(tape.gradient(value, x) * direction)
    h = fixed if stop_bandwidth else None
    step = 1e-5
    ahead, behind = (total(x + s * direction, h) for s in (step, -step))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-7)

  @parameterized.parameters(True, False)
  def test_direction_and_its_derivatives_equal_the_plain_form(self, stop):
    x, gradients, upstream = (normal(5, 3, seed=seed) for seed in range(3))

    def plain(x, gradients):
      apart = x[:, tf.newaxis] - x[tf.newaxis]
      squares = tf.reduce_sum(apart**2, axis=-1)
      h = svgd.median_bandwidth(squares)
      h = tf.stop_gradient(h) if stop else h
      kernel = tf.exp(-squares / h)
      slopes = apart * (kernel * 2 / h)[..., tf.newaxis]
      return (kernel @ gradients + tf.reduce_sum(slopes, axis=1)) / 5

    def derivatives(direction):
      with tf.GradientTape() as outer:
        outer.watch([x, gradients])
        with tf.GradientTape() as inner:
          inner.watch([x, gradients])
          value = tf.reduce_sum(direction(x, gradients) * upstream)
        first = inner.gradient(value, [x, gradients])
        total = tf.add_n([tf.reduce_sum(f * upstream) for f in first])
      return [*first, *outer.gradient(total, [x, gradients])]

    def ours(x, gradients):
      return svgd.svgd_direction(x, gradients, stop_bandwidth=stop)

    for one, other in zip(derivatives(ours), derivatives(plain), strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)

  def test_a_distant_particle_is_repelled_from_each_other_one(self):
    x = normal(4, 2)
    x = tf.concat([x, x[:1] + 10.0], axis=0)
    kernel, h = svgd.rbf_kernel(x)
    self.assertLess(np.max(kernel[-1, :-1]), 1e-8)
    slopes = (x[-1] - x) * kernel[-1][:, tf.newaxis] * 2 / h
    expected = tf.reduce_mean(slopes, axis=0)
    x = tf.cast(x, tf.float32)
    found = svgd.svgd_direction(x, tf.zeros_like(x))[-1]
    np.testing.assert_allclose(found, expected, rtol=1e-3)

  def test_a_single_particle_follows_its_gradient(self):
    gradients = normal(1, 3, seed=1)
    found = svgd.svgd_direction(normal(1, 3), gradients)
    np.testing.assert_array_equal(found, gradients)

  def test_identical_particles_follow_the_mean_of_their_gradients(self):
    x = tf.repeat(tf.cast(normal(1, 50), tf.float32), 4, axis=0)
    gradients = tf.cast(normal(4, 50, seed=1), tf.float32)
    mean = tf.repeat(tf.reduce_mean(gradients, axis=0, keepdims=True), 4, 0)
    found = svgd.svgd_direction(x, gradients)
    np.testing.assert_allclose(found, mean, atol=1e-6)

  def test_particles_close_together_keep_their_digits(self):
    center, apart, gradients = (normal(4, 200, seed=seed) for seed in range(3))
    x = tf.cast(center[:1] + 1e-4 * apart, tf.float32)

    def outcome(x, gradients):
      with tf.GradientTape() as tape:
        tape.watch(x)
        distances = svgd.squared_distances(x)
        total = tf.reduce_sum(distances * tf.range(4, dtype=x.dtype))
      return svgd.svgd_direction(x, gradients), tape.gradient(total, x)

    expected = outcome(tf.cast(x, tf.float64), gradients)
    found = outcome(x, tf.cast(gradients, tf.float32))
    for one, other in zip(found, expected, strict=True):
      error = np.linalg.norm(one - tf.cast(other, tf.float32))
      self.assertLess(error / np.linalg.norm(other), 1e-5)

  def test_order_of_the_particles_does_not_matter(self):
    x, gradients = normal(5, 3), normal(5, 3, seed=1)
    order = [3, 0, 4, 1, 2]
    found = svgd.svgd_direction(
      tf.gather(x, order), tf.gather(gradients, order)
    )
    expected = tf.gather(svgd.svgd_direction(x, gradients), order)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


class ListTest(absltest.TestCase):
  def test_specific_tensors_share_one_kernel_and_others_follow_the_mean(self):
    particles = [normal(4, 2, 3), normal(4), tf.ones([4, 5], tf.float64)]
    gradients = [
      normal(4, 2, 3, seed=1),
      normal(4, seed=2),
      normal(4, 5, seed=3),
    ]
    after = svgd.svgd_step(particles, gradients, [True, True, False], 0.5)
    pairs = zip(after, particles, strict=True)
    found = [(one - other) / 0.5 for one, other in pairs]
    rows = [
      np.concatenate([np.reshape(t, (4, -1)) for t in tensors[:2]], axis=1)
      for tensors in (particles, gradients)
    ]
    expected = svgd.svgd_direction(*map(tf.constant, rows)).numpy()
    np.testing.assert_allclose(np.reshape(found[0], (4, 6)), expected[:, :6])
    np.testing.assert_allclose(found[1], expected[:, 6])
    mean = np.mean(gradients[2], axis=0)
    np.testing.assert_allclose(found[2], np.tile(mean, (4, 1)))


class GaussianTest(absltest.TestCase):
  def test_particles_spread_over_a_gaussian(self):
    error, covariance, true = settle(1.0)
    self.assertLess(np.abs(error).max(), 0.01)
    np.testing.assert_allclose(
      np.linalg.eigvalsh(covariance), np.linalg.eigvalsh(true), rtol=0.12
    )
    away = np.linalg.norm(covariance - true) / np.linalg.norm(true)
    self.assertLess(away, 0.12)

  def test_half_the_repulsion_gives_half_the_variance(self):
    _, whole, _ = settle(1.0)
    _, half, _ = settle(0.5)
    np.testing.assert_allclose(half, whole / 2, rtol=0.02)

  def test_without_repulsion_particles_meet(self):
    _, covariance, _ = settle(0.0)
    self.assertLess(np.abs(covariance).max(), 1e-6)


class ManyTasksTest(absltest.TestCase):
  def test_products_of_many_tasks_write_only_their_own_memory(self):
    # Under oneDNN, on two threads, some products write out of bounds, which
    # ends the process sooner or later.
    threads = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_NUM_INTRAOP_THREADS": "2"}
    done = subprocess.run(
      [sys.executable, "-c", _MANY_TASKS],
      env={**os.environ, **threads},
      capture_output=True,
      text=True,
    )
    message = f"{done.stdout}{done.stderr[-2000:]}"
    self.assertEqual(done.returncode, 0, message)


# Each case has a number of tasks, a number of particles, and their sizes. In
# the first of the two steps, all tasks share one kernel matrix.
_MANY_TASKS = """
import tensorflow as tf
from tfmeta.core import svgd

for tasks, count, sizes in (
  (4, 7, (8, 1)), (10, 5, (40, 1600, 1)), (25, 5, (1761,))
):
  print("tasks, particles, sizes:", tasks, count, sizes, flush=True)
  particles = [tf.random.normal([count, size]) for size in sizes]
  specific = [True] * len(sizes)

  @tf.function
  def gradients(targets):
    def of_task(target):
      with tf.GradientTape() as tape:
        tape.watch(particles)
        moved = particles
        for _ in range(2):
          slopes = [tf.tanh(target * part) for part in moved]
          moved = svgd.svgd_step(moved, slopes, specific, 0.1)
        loss = tf.add_n([tf.reduce_sum(part**2) for part in moved])
      return tape.gradient(loss, particles)
    return tf.vectorized_map(of_task, targets)

  for _ in range(200):
    gradients(tf.random.normal([tasks]))
"""


if __name__ == "__main__":
  absltest.main()
