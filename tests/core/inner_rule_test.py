"""Tests the options of the inner loop against Keras and the formulas."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import inner_rule

MATRIX = np.array([[2.0, 0.3], [0.3, 1.0]])


def _loss(weights, step=0):
  del step
  w = weights[0]
  product = tf.linalg.matvec(tf.constant(MATRIX), w)
  return tf.tensordot(w, product, 1) / 2 + tf.reduce_sum(weights[1] ** 2)


def _start():
  return [
    tf.constant([1.0, -2.0], tf.float64),
    tf.constant([0.5], tf.float64),
  ]


def _gradient(w, b):
  return MATRIX @ w, 2 * b


class ClippingTest(absltest.TestCase):
  def test_scales_all_gradients_by_one_factor(self):
    # Clipping each tensor by itself, as `clipnorm` of Keras, would differ.
    w, b = (np.array(t) for t in _start())
    by_w, by_b = _gradient(w, b)
    norm = np.sqrt(np.sum(by_w**2) + np.sum(by_b**2))
    rule = inner_rule.InnerRule(clipnorm=0.7)
    _, (new_w, new_b) = rule.path(_loss, _start(), [0.1, 0.1], 1)
    np.testing.assert_allclose(new_w, w - 0.07 * by_w / norm, rtol=1e-12)
    np.testing.assert_allclose(new_b, b - 0.07 * by_b / norm, rtol=1e-12)

  def test_leaves_small_gradients_exactly_as_they_are(self):
    plain, clipped = (
      inner_rule.InnerRule(clipnorm=clipnorm).path(
        _loss, _start(), [0.1] * 2, 3
      )
      for clipnorm in (None, 100.0)
    )
    pairs = zip(*map(tf.nest.flatten, (plain, clipped)), strict=True)
    for a, b in pairs:
      np.testing.assert_array_equal(a, b)

  def test_counts_the_weights_that_move_only(self):
    rule = inner_rule.InnerRule(clipnorm=0.7)
    w, b = (np.array(t) for t in _start())
    _, (new_w, new_b) = rule.path(_loss, _start(), [None, 0.1], 1)
    np.testing.assert_array_equal(new_w, w)
    np.testing.assert_allclose(new_b, b - 0.1 * 0.7, rtol=1e-12)

  def test_derivative_includes_that_of_the_factor(self):
    # With a constant factor, the gradient would be another one.
    rule = inner_rule.InnerRule(clipnorm=0.7)

    def after(start):
      _, (w, _) = rule.path(_loss, [start, _start()[1]], [0.1, 0.1], 1)
      return tf.reduce_sum(w**3)

    self._check(after, _start()[0])

  def test_zero_gradients_have_finite_derivatives(self):
    rule = inner_rule.InnerRule(clipnorm=0.7)
    zero = tf.zeros([2], tf.float64)
    with tf.GradientTape() as tape:
      tape.watch(zero)
      _, (w, _) = rule.path(
        _loss, [zero, tf.zeros([1], tf.float64)], [0.1] * 2, 1
      )
      total = tf.reduce_sum(w)
    expected = (np.eye(2) - 0.1 * MATRIX).sum(axis=0)
    np.testing.assert_allclose(tape.gradient(total, zero), expected, rtol=1e-12)

  def _check(self, fn, start):
    with tf.GradientTape() as tape:
      tape.watch(start)
      value = fn(start)
    gradient = tape.gradient(value, start)
    for index, direction in enumerate(1e-5 * np.eye(2)):
      difference = (fn(start + direction) - fn(start - direction)) / 2e-5
      np.testing.assert_allclose(gradient[index], difference, rtol=1e-6)


class AdamTest(parameterized.TestCase):
  def test_equals_keras(self):
    # Keras keeps its betas in float32, an error that 1 - beta_2 magnifies.
    variables = [keras.Variable(t, dtype="float64") for t in _start()]
    optimizer = keras.optimizers.Adam(0.05)
    path = inner_rule.InnerRule("adam").path(_loss, _start(), [0.05] * 2, 4)
    for weights in path[1:]:
      optimizer.apply(_gradient(*(np.array(v) for v in variables)), variables)
      for weight, variable in zip(weights, variables, strict=True):
        np.testing.assert_allclose(weight, variable, rtol=1e-5)

  def test_equals_the_formula(self):
    w, b = (np.array(t) for t in _start())
    path = inner_rule.InnerRule("adam").path(_loss, _start(), [0.05] * 2, 3)
    m, v = np.zeros(3), np.zeros(3)
    for step, weights in enumerate(path[1:], start=1):
      g = np.concatenate(_gradient(w, b))
      m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
      rate = 0.05 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
      moved = np.concatenate([w, b]) - rate * m / (np.sqrt(v) + 1e-7)
      w, b = moved[:2], moved[2:]
      np.testing.assert_allclose(np.concatenate(weights), moved, rtol=1e-12)

  @parameterized.parameters(1, 3)
  def test_derivative_equals_differences(self, steps):
    def after(start):
      rule = inner_rule.InnerRule("adam", clipnorm=1.5)
      path = rule.path(_loss, [start, _start()[1]], [0.05] * 2, steps)
      return tf.reduce_sum(path[-1][0] ** 3)

    start = _start()[0]
    with tf.GradientTape() as tape:
      tape.watch(start)
      value = after(start)
    gradient = tape.gradient(value, start)
    for index, direction in enumerate(1e-6 * np.eye(2)):
      difference = (after(start + direction) - after(start - direction)) / 2e-6
      np.testing.assert_allclose(gradient[index], difference, rtol=1e-6)

  def test_zero_gradient_has_the_derivative_of_the_step(self):
    # The derivative of the square root at 0 would make it NaN. The step of a
    # small gradient g is rate * g / (|g| + epsilon), with Adam's corrections.
    zero = tf.zeros([1], tf.float64)
    rule = inner_rule.InnerRule("adam", epsilon=0.5)
    with tf.GradientTape() as tape:
      tape.watch(zero)
      _, (w,) = rule.path(
        lambda w, _: tf.reduce_sum(w[0] ** 2), [zero], [0.1], 1
      )
    rate = 0.1 * np.sqrt(0.001) / 0.1
    expected = 1 - rate * 0.1 * 2 / 0.5
    np.testing.assert_allclose(tape.gradient(w, zero), [expected], rtol=1e-12)

  def test_weights_without_a_rate_stay(self):
    path = inner_rule.InnerRule("adam").path(_loss, _start(), [None, 0.1], 2)
    np.testing.assert_array_equal(path[-1][0], _start()[0])
    self.assertLess(path[-1][1][0], 0.4)

  def test_loop_in_the_graph_equals_the_unrolled_loop(self):
    rule = inner_rule.InnerRule("adam", clipnorm=1.5)

    @tf.function
    def run(unroll):
      return rule.path(_loss, _start(), [0.1] * 2, 4, unroll=unroll)[-1]

    for a, b in zip(run(True), run(False), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-12)


if __name__ == "__main__":
  absltest.main()
