from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import inner_loop

MATRIX = np.array([[2.0, 0.3], [0.3, 1.0]])


def _quadratic(weights):
  w = weights[0]
  return tf.tensordot(w, tf.linalg.matvec(tf.constant(MATRIX), w), 1) / 2


class InnerLoopTest(absltest.TestCase):
  def test_gradient_step_is_a_step_of_gradient_descent(self):
    w = np.array([1.0, -2.0])
    (stepped,) = inner_loop.gradient_step(_quadratic, [tf.constant(w)], [0.1])
    np.testing.assert_allclose(stepped, w - 0.1 * MATRIX @ w, rtol=1e-12)

  def test_gradient_step_takes_one_rate_per_entry(self):
    w, rates = np.array([1.0, -2.0]), np.array([0.1, 0.5])
    (stepped,) = inner_loop.gradient_step(
      _quadratic, [tf.constant(w)], [tf.constant(rates)]
    )
    np.testing.assert_allclose(stepped, w - rates * (MATRIX @ w), rtol=1e-12)

  def test_first_order_keeps_the_gradients_of_weights_and_rates(self):
    w, rate = tf.constant([1.0, -2.0], tf.float64), tf.constant(0.1, tf.float64)
    for first_order, jacobian in (
      (True, np.eye(2)),
      (False, np.eye(2) - 0.1 * MATRIX),
    ):
      with tf.GradientTape(persistent=True) as tape:
        tape.watch([w, rate])
        (stepped,) = inner_loop.gradient_step(
          _quadratic, [w], [rate], first_order=first_order
        )
        total = tf.reduce_sum(stepped)
      np.testing.assert_allclose(
        tape.gradient(total, w), jacobian.sum(axis=0), rtol=1e-12
      )
      np.testing.assert_allclose(
        tape.gradient(total, rate), -np.sum(MATRIX @ w.numpy()), rtol=1e-12
      )

  def test_weights_without_a_gradient_stay_as_they_are(self):
    far = tf.constant([5.0])
    stepped = inner_loop.gradient_step(
      _quadratic, [tf.constant([1.0, 1.0], tf.float64), far], [0.1, 0.1]
    )
    np.testing.assert_array_equal(stepped[1], far)

  def test_each_weight_needs_a_rate(self):
    with self.assertRaisesRegex(ValueError, "Received: 2 learning rates, 1"):
      inner_loop.gradient_step(
        _quadratic, [tf.zeros([2], tf.float64)], [0.1, 0.1]
      )

  def test_adam_equals_keras_over_several_steps(self):
    # Keras adds epsilon at another place, so it is tiny here. Keras also keeps
    # the betas in float32, an error that 1 - beta_2 magnifies to about 1e-5.
    start = np.array([1.0, -2.0])
    for beta_1 in (0.0, 0.9):
      variable = keras.Variable(start, dtype="float64")
      optimizer = keras.optimizers.Adam(0.05, beta_1=beta_1, epsilon=1e-30)
      zeros = [tf.zeros([2], tf.float64)]
      weights = [tf.constant(start)]
      state = inner_loop.AdamState(tf.constant(0.0, tf.float64), zeros, zeros)
      for _ in range(5):
        optimizer.apply([MATRIX @ np.array(variable)], [variable])
        weights, state = inner_loop.adam_step(
          _quadratic,
          weights,
          state,
          learning_rate=0.05,
          beta_1=beta_1,
          epsilon=1e-30,
        )
      np.testing.assert_allclose(weights[0], variable, rtol=1e-5)
      self.assertEqual(float(state.count), 5)

  def test_loop_in_the_graph_equals_the_unrolled_loop(self):
    start = [tf.constant([1.0, -2.0], tf.float64)]

    @tf.function
    def run(unroll):
      return inner_loop.gradient_path(
        lambda w, step: _quadratic(w) * tf.cast(step + 1, tf.float64),
        start,
        [0.05],
        4,
        unroll=unroll,
      )

    unrolled, looped = run(True), run(False)
    self.assertLen(unrolled, 5)
    self.assertLen(looped, 2)
    np.testing.assert_allclose(looped[-1][0], unrolled[-1][0], rtol=1e-12)
    np.testing.assert_array_equal(looped[0][0], start[0])

  def test_no_steps_change_nothing(self):
    start = [tf.constant([1.0, -2.0], tf.float64)]
    path = inner_loop.gradient_path(
      lambda w, step: _quadratic(w), start, [0.1], 0
    )
    self.assertLen(path, 1)
    np.testing.assert_array_equal(path[0][0], start[0])


if __name__ == "__main__":
  absltest.main()
