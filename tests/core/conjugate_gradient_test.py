"""Tests conjugate gradients against a direct solution."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.core import conjugate_gradient as cg

SIZE = 50


def system():
  """Returns a symmetric positive definite matrix and a right side, float64."""
  rng = np.random.default_rng(0)
  root = rng.normal(size=(SIZE, SIZE)) / np.sqrt(SIZE)
  return root @ root.T + 0.1 * np.eye(SIZE), rng.normal(size=SIZE)


def as_lists(matrix):
  """Returns the product with `matrix` on lists of tensors of two shapes."""

  def product(x):
    flat = tf.concat([tf.reshape(x[0], [-1]), x[1]], axis=0)
    result = tf.linalg.matvec(tf.constant(matrix), flat)
    return [tf.reshape(result[:30], [5, 6]), result[30:]]

  return product


class ConjugateGradientTest(parameterized.TestCase):
  @parameterized.product(unroll=(True, False), graph=(True, False))
  def test_solves_a_random_system(self, unroll, graph):
    matrix, right = system()
    b = [tf.constant(right[:30].reshape(5, 6)), tf.constant(right[30:])]

    def run():
      return cg.conjugate_gradient(
        as_lists(matrix), b, iterations=200, tolerance=1e-26, unroll=unroll
      )

    x, residual = (tf.function(run) if graph else run)()
    flat = np.concatenate([np.ravel(x[0]), x[1]])
    np.testing.assert_allclose(flat, np.linalg.solve(matrix, right), rtol=1e-8)
    left = right - matrix @ flat
    np.testing.assert_allclose(np.ravel(residual[0]), left[:30], atol=1e-10)

  @parameterized.parameters(True, False)
  def test_residual_tells_the_product_after_few_iterations(self, unroll):
    matrix, right = system()
    b = [tf.constant(right[:30].reshape(5, 6)), tf.constant(right[30:])]
    product = as_lists(matrix)
    x, residual = cg.conjugate_gradient(product, b, iterations=5, unroll=unroll)
    for left, right_side, found in zip(product(x), b, residual, strict=True):
      np.testing.assert_allclose(right_side - left, found, atol=1e-12)
    self.assertGreater(cg.dot(residual, residual), 1e-3)

  @parameterized.parameters(True, False)
  def test_stops_at_the_tolerance(self, unroll):
    calls = []

    def product(x):
      tf.py_function(lambda: calls.append(1), [], [])
      return [2 * v for v in x]

    b = [tf.constant([1.0, 2.0])]
    x, _ = cg.conjugate_gradient(product, b, iterations=9, unroll=unroll)
    np.testing.assert_allclose(x[0], [0.5, 1.0])
    self.assertLen(calls, 9 if unroll else 1)

  def test_unrolled_iterations_change_nothing_after_the_tolerance(self):
    matrix, right = system()
    b = [tf.constant(right[:30].reshape(5, 6)), tf.constant(right[30:])]
    solutions = [
      cg.conjugate_gradient(
        as_lists(matrix), b, iterations=40, tolerance=1e-2, unroll=unroll
      )[0]
      for unroll in (True, False)
    ]
    for unrolled, looped in zip(*solutions, strict=True):
      np.testing.assert_allclose(unrolled, looped, rtol=1e-12)
    # Without a tolerance, the iterations go on.
    further, _ = cg.conjugate_gradient(
      as_lists(matrix), b, iterations=40, tolerance=0.0, unroll=True
    )
    self.assertGreater(np.abs(further[1] - solutions[0][1]).max(), 1e-4)

  @parameterized.parameters(True, False)
  def test_a_product_of_zero_gives_finite_numbers(self, unroll):
    # A policy that no episode distinguishes has no curvature.
    x, _ = cg.conjugate_gradient(
      lambda x: [0 * v for v in x], [tf.ones([3])], unroll=unroll
    )
    np.testing.assert_array_equal(x[0], np.zeros(3))

  @parameterized.parameters(True, False)
  def test_zero_has_the_solution_zero(self, unroll):
    x, residual = cg.conjugate_gradient(
      lambda x: x, [tf.zeros([3])], unroll=unroll
    )
    np.testing.assert_array_equal(x[0], np.zeros(3))
    np.testing.assert_array_equal(residual[0], np.zeros(3))


if __name__ == "__main__":
  absltest.main()
