"""Compares meta-gradients of a linear model with those derived by hand.

The loss `mean((x @ w - y)**2)` has the gradient `g(w) = 2 / n * x.T @ (x @ w -
y)` and the Hessian `H = 2 / n * x.T @ x`. After `k` inner steps with the
learning rate `a`, the meta-gradient is `(I - a * H)**k @ g_query(adapted)`.
"""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

FEATURES = 4
RATE = 0.3


def _linear(**kwargs):
  inputs = keras.Input((FEATURES,), dtype="float64")
  outputs = keras.layers.Dense(1, use_bias=False, dtype="float64")(inputs)
  return keras.Model(inputs, outputs)


def _task(seed=0):
  random = np.random.default_rng(seed)
  x = random.normal(size=(2, 6, FEATURES))
  y = random.normal(size=(2, 6, 1))
  return x[0], y[0], x[1], y[1]


def _gradient(w, x, y):
  return 2 / len(x) * x.T @ (x @ w - y)


def _hessian(x):
  return 2 / len(x) * x.T @ x


def _descend(w, x, y, steps):
  for _ in range(steps):
    w = w - RATE * _gradient(w, x, y)
  return w


def _meta_gradient(learner, task):
  task = [tf.constant(t) for t in task]
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(*task)
  variables = [v.value for v in learner.model.trainable_variables]
  return tape.gradient(loss, variables)[0].numpy()


class ClosedFormTest(parameterized.TestCase):
  @parameterized.product(steps=(0, 1, 3), seed=(0, 1))
  def test_maml_multiplies_by_one_factor_per_step(self, steps, seed):
    task = _task(seed)
    model = _linear()
    w = np.array(model.trainable_variables[0])
    learner = tfmeta.MAML(
      model, inner_steps=steps, inner_learning_rate=RATE, inner_loss="mse"
    )
    factor = np.eye(FEATURES) - RATE * _hessian(task[0])
    adapted = _descend(w, task[0], task[1], steps)
    expected = np.linalg.matrix_power(factor, steps) @ _gradient(
      adapted, task[2], task[3]
    )
    np.testing.assert_allclose(
      _meta_gradient(learner, task), expected, rtol=1e-10, atol=1e-10
    )

  @parameterized.parameters(1, 3)
  def test_fomaml_is_the_query_gradient_at_the_adapted_weights(self, steps):
    task = _task()
    model = _linear()
    w = np.array(model.trainable_variables[0])
    learner = tfmeta.FOMAML(
      model, inner_steps=steps, inner_learning_rate=RATE, inner_loss="mse"
    )
    adapted = _descend(w, task[0], task[1], steps)
    np.testing.assert_allclose(
      _meta_gradient(learner, task),
      _gradient(adapted, task[2], task[3]),
      rtol=1e-10,
      atol=1e-10,
    )

  @parameterized.parameters(1, 3)
  def test_reptile_is_the_way_back_from_the_adapted_weights(self, steps):
    task = _task()
    model = _linear()
    w = np.array(model.trainable_variables[0])
    learner = tfmeta.Reptile(
      model,
      inner_optimizer="sgd",
      inner_steps=steps,
      inner_learning_rate=RATE,
      inner_loss="mse",
    )
    expected = w - _descend(w, task[0], task[1], steps)
    np.testing.assert_allclose(
      _meta_gradient(learner, task), expected, rtol=1e-10, atol=1e-10
    )

  def test_meta_sgd_also_has_the_gradient_of_its_rates(self):
    # After one step, the derivative of the query loss with respect to the rates
    # is -g_support * g_query.
    task = _task()
    model = _linear()
    w = np.array(model.trainable_variables[0])
    learner = tfmeta.MetaSGD(model, inner_learning_rate=RATE, inner_loss="mse")
    learner.learned_rates.rates[0].assign(np.full([FEATURES, 1], RATE))
    with tf.GradientTape() as tape:
      loss, _ = learner.task_loss(*[tf.constant(t) for t in task])
    gradient = tape.gradient(loss, learner.learned_rates.rates[0].value)
    adapted = _descend(w, task[0], task[1], 1)
    expected = -_gradient(w, task[0], task[1]) * _gradient(
      adapted, task[2], task[3]
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-10)


if __name__ == "__main__":
  absltest.main()
