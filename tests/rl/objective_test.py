"""Tests the outer objective and its curvature, in float64."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import small
import tensorflow as tf

import tfmeta


def directions(objective, seed=0):
  rng = np.random.default_rng(seed)
  return [tf.constant(rng.normal(size=w.shape)) for w in objective.start]


def flat(tensors):
  return np.concatenate([np.ravel(t) for t in tensors])


def divergence_slope(objective, weights):
  with tf.GradientTape() as tape:
    tape.watch(weights)
    divergence = objective.measure(weights)[1]
  return tape.gradient(divergence, weights, unconnected_gradients="zero")


class CurvatureTest(parameterized.TestCase):
  @parameterized.parameters(
    (None, 1), (None, 2), (tfmeta.rl.MetaSGD, 1), (tfmeta.rl.EMAML, 1)
  )
  def test_product_is_the_second_derivative_of_the_divergence(self, cls, steps):
    objective, _ = small.objective(cls, inner_steps=steps)
    vector = directions(objective)
    with tf.GradientTape() as outer:
      outer.watch(objective.start)
      slope = divergence_slope(objective, objective.start)
    exact = outer.gradient(
      slope,
      objective.start,
      output_gradients=vector,
      unconnected_gradients="zero",
    )
    found = objective.curvature()(vector)
    np.testing.assert_allclose(flat(found), flat(exact), atol=1e-8)
    self.assertGreater(np.abs(flat(exact)).max(), 1e-3)

  def test_product_equals_finite_differences(self):
    objective, _ = small.objective()
    vector = directions(objective)
    ends = [
      [
        w + sign * 1e-5 * v
        for w, v in zip(objective.start, vector, strict=True)
      ]
      for sign in (1, -1)
    ]
    up, down = (flat(divergence_slope(objective, end)) for end in ends)
    found = flat(objective.curvature()(vector))
    np.testing.assert_allclose(found, (up - down) / 2e-5, atol=1e-5)

  def test_product_is_symmetric_and_positive(self):
    objective, _ = small.objective()
    a, b = directions(objective, 0), directions(objective, 1)
    ab = flat(a) @ flat(objective.curvature()(b))
    ba = flat(b) @ flat(objective.curvature()(a))
    np.testing.assert_allclose(ab, ba, rtol=1e-8)
    self.assertGreaterEqual(flat(a) @ flat(objective.curvature()(a)), 0)

  def test_product_goes_through_the_inner_step(self):
    objective, learner = small.objective()
    vector = directions(objective)
    found = flat(objective.curvature()(vector))
    # The inner step is taken, and not differentiated.
    learner.first_order = True
    without = flat(objective.curvature()(vector))
    error = np.linalg.norm(found - without) / np.linalg.norm(found)
    self.assertGreater(error, 0.01)

  def test_fewer_episodes_change_the_product_only_somewhat(self):
    objective, _ = small.objective(episodes=20)
    vector = directions(objective)
    whole = flat(objective.curvature()(vector))
    part = flat(objective.curvature(5)(vector))
    np.testing.assert_array_equal(whole, flat(objective.curvature(20)(vector)))
    cosine = whole @ part / np.linalg.norm(whole) / np.linalg.norm(part)
    self.assertGreater(cosine, 0.8)
    self.assertLess(cosine, 1 - 1e-6)

  @parameterized.parameters(
    (tfmeta.rl.MAML, 2, {}), (tfmeta.rl.EMAML, None, {"num_particles": 2})
  )
  def test_tasks_that_share_a_pass_equal_tasks_in_a_loop(
    self, cls, episodes, options
  ):
    # A pass over all tasks mixes them if an axis is taken for another.
    found = []
    for method in ("map", "vectorize"):
      objective, _ = small.objective(cls, task_map=method, **options)
      vector = directions(objective)

      @tf.function(autograph=False)
      def products(objective=objective, vector=vector):
        product = objective.curvature(episodes)
        return product(product(vector))

      found.append(flat(products()))
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-12)


if __name__ == "__main__":
  absltest.main()
