"""Tests products with a Jacobian against the whole Jacobian."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from tfmeta.core import linearization


def setting():
  """Returns a function, a point with an unused tensor, and two vectors."""
  rng = np.random.default_rng(0)
  start = [tf.constant(rng.normal(size=n)) for n in ((3, 2), (2,), (4,))]
  vector = [tf.constant(rng.normal(size=w.shape)) for w in start]
  cotangent = tf.constant(rng.normal(size=(5, 2)))
  x = tf.constant(rng.normal(size=(5, 3)))

  def fn(weights):
    return tf.tanh(x @ weights[0] + weights[1]) * tf.exp(weights[1])

  return fn, start, vector, cotangent


def jacobians(fn, start):
  with tf.GradientTape() as tape:
    tape.watch(start)
    outputs = fn(start)
  return tape.jacobian(outputs, start, unconnected_gradients="zero")


class LinearizationTest(absltest.TestCase):
  def test_products_equal_those_of_the_jacobian(self):
    fn, start, vector, cotangent = setting()
    whole = jacobians(fn, start)
    linear = linearization.Linearization(fn, start)
    np.testing.assert_allclose(linear.outputs, fn(start))
    # Each product twice: a tape that is used up would fail.
    for _ in range(2):
      pushed = sum(
        np.tensordot(j, v, v.shape.rank)
        for j, v in zip(whole, vector, strict=True)
      )
      np.testing.assert_allclose(linear.push(vector), pushed, atol=1e-12)
      for j, pulled in zip(whole, linear.pull(cotangent), strict=True):
        expected = np.tensordot(cotangent, j, 2)
        np.testing.assert_allclose(pulled, expected, atol=1e-12)

  def test_a_loop_repeats_nothing_but_the_products(self):
    fn, start, vector, _ = setting()
    calls = []

    def counted(weights):
      tf.py_function(lambda: calls.append(1), [], [])
      return fn(weights)

    @tf.function(autograph=False)
    def looped():
      linear = linearization.Linearization(counted, start)
      return tf.while_loop(
        lambda step, _: step < 3,
        lambda step, v: (step + 1, linear.pull(linear.push(v))),
        (tf.constant(0), vector),
      )[1]

    linear = linearization.Linearization(fn, start)
    expected = vector
    for _ in range(3):
      expected = linear.pull(linear.push(expected))
    for a, b in zip(looped(), expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-10)
    self.assertLen(calls, 1)


if __name__ == "__main__":
  absltest.main()
