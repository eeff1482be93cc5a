"""Tests Meta-SGD: its learned rates and their gradients."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta


def _net():
  keras.utils.set_random_seed(0)
  inputs = keras.Input((3,), dtype="float64")
  x = keras.layers.Dense(4, activation="tanh", dtype="float64")(inputs)
  return keras.Model(inputs, keras.layers.Dense(2, dtype="float64")(x))


def _task():
  random = np.random.default_rng(0)
  x = tf.constant(random.normal(size=(2, 6, 3)))
  y = tf.constant(random.integers(0, 2, size=(2, 6)))
  return x[0], y[0], x[1], y[1]


def _gradients(learner, variables):
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(*_task())
  return tape.gradient(loss, [v.value for v in variables])


class MetaSGDTest(parameterized.TestCase):
  def test_equal_rates_are_maml(self):
    options = {"inner_steps": 2, "inner_learning_rate": 0.3}
    meta_sgd = tfmeta.MetaSGD(_net(), **options)
    for rate in meta_sgd.learned_rates.rates:
      rate.assign(np.full(rate.shape, 0.3))  # It begins with float32(0.3).
    maml = tfmeta.MAML(_net(), **options)
    pairs = zip(
      _gradients(meta_sgd, meta_sgd.model.trainable_variables),
      _gradients(maml, maml.trainable_variables),
      strict=True,
    )
    for a, b in pairs:
      np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)

  @parameterized.parameters(True, False)
  def test_rates_have_the_gradient_of_central_differences(self, first_order):
    # If there is one step, the gradient of a rate needs no second derivatives.
    learner = tfmeta.MetaSGD(
      _net(), inner_learning_rate=0.3, first_order=first_order
    )
    rate = learner.learned_rates.rates[0]
    gradient = _gradients(learner, [rate])[0][1, 2]
    value, losses = np.array(rate), []
    for sign in (1, -1):
      moved = value.copy()
      moved[1, 2] += sign * 1e-5
      rate.assign(moved)
      losses.append(float(learner.task_loss(*_task())[0]))
    self.assertNotEqual(float(gradient), 0.0)
    self.assertAlmostEqual(
      float(gradient), (losses[0] - losses[1]) / 2e-5, places=9
    )

  def test_rates_are_learned_saved_and_used(self):
    learner = tfmeta.MetaSGD(_net(), inner_learning_rate=0.3)
    learner.compile(optimizer=keras.optimizers.SGD(1.0))
    support_x, support_y, query_x, query_y = (t[None] for t in _task())
    inputs = {
      "support_x": support_x,
      "support_y": support_y,
      "query_x": query_x,
    }
    learner.fit(inputs, query_y, epochs=3, verbose=0)
    for rate in learner.learned_rates.rates:
      self.assertFalse(np.allclose(rate, 0.3))
    path = self.create_tempdir().full_path + "/learner.keras"
    learner.save(path)
    again = keras.models.load_model(path)
    for a, b in zip(
      learner.learned_rates.rates, again.learned_rates.rates, strict=True
    ):
      np.testing.assert_array_equal(a, b)
    before = again.predict(inputs, verbose=0)
    again.learned_rates.rates[0].assign(-again.learned_rates.rates[0])
    self.assertFalse(np.allclose(before, again.predict(inputs, verbose=0)))


if __name__ == "__main__":
  absltest.main()
