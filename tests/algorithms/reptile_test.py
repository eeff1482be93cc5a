"""Compares Reptile with a NumPy reference and with its theory."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import inner_rule

SEED = tf.constant([0, 1])


def _linear(features=3):
  inputs = keras.Input((features,), dtype="float64")
  outputs = keras.layers.Dense(1, use_bias=False, dtype="float64")(inputs)
  model = keras.Model(inputs, outputs)
  model.trainable_variables[0].assign(
    np.random.default_rng(7).normal(size=(features, 1))
  )
  return model


def _tasks(count, examples=6, features=3):
  random = np.random.default_rng(1)
  x = random.normal(size=(2, count, examples, features))
  y = random.normal(size=(2, count, examples, 1))
  return {"support_x": x[0], "support_y": y[0], "query_x": x[1]}, y[1]


def _gradient(w, x, y):
  return 2 / len(x) * x.T @ (x @ w - y)


def _numpy_adam(w, v, count, x, y, steps, rate):
  """Continues Adam with beta_1 = 0 from second moments `v` at step `count`."""
  for _ in range(steps):
    count += 1
    g = _gradient(w, x, y)
    v = 0.999 * v + 0.001 * g**2
    w = w - rate * np.sqrt(1 - 0.999**count) * g / (np.sqrt(v) + 1e-8)
  return w, v, count


class ReptileTest(parameterized.TestCase):
  def _learner(self, model, outer_rate, **kwargs):
    learner = tfmeta.Reptile(model, inner_loss="mse", **kwargs)
    learner.compile(optimizer=keras.optimizers.SGD(outer_rate))
    return learner

  def test_one_sgd_step_is_joint_gradient_descent(self):
    model = _linear()
    w = np.array(model.trainable_variables[0])
    inputs, query_y = _tasks(4)
    learner = self._learner(
      model, 0.5, inner_optimizer="sgd", inner_learning_rate=0.1
    )
    learner.fit(inputs, query_y, batch_size=4, verbose=0)
    pairs = zip(inputs["support_x"], inputs["support_y"], strict=True)
    mean = np.mean([_gradient(w, x, y) for x, y in pairs], axis=0)
    np.testing.assert_allclose(
      model.trainable_variables[0], w - 0.5 * 0.1 * mean, rtol=1e-7
    )

  def test_batches_average_and_single_tasks_follow_each_other(self):
    inputs, query_y = _tasks(3)
    ends = {}
    for batch_size in (1, 3):
      model = _linear()
      learner = self._learner(
        model,
        0.5,
        inner_optimizer="sgd",
        inner_learning_rate=0.1,
        inner_steps=4,
      )
      learner.fit(
        inputs, query_y, batch_size=batch_size, shuffle=False, verbose=0
      )
      ends[batch_size] = np.array(model.trainable_variables[0])
    w = start = np.array(_linear().trainable_variables[0])
    displacements = []
    for x, y in zip(inputs["support_x"], inputs["support_y"], strict=True):
      adapted, alone = w, start
      for _ in range(4):
        adapted = adapted - 0.1 * _gradient(adapted, x, y)
        alone = alone - 0.1 * _gradient(alone, x, y)
      w = w + 0.5 * (adapted - w)
      displacements.append(alone - start)
    np.testing.assert_allclose(ends[1], w, rtol=1e-7)
    batched = start + 0.5 * np.mean(displacements, axis=0)
    np.testing.assert_allclose(ends[3], batched, rtol=1e-7)

  def test_second_moments_of_adam_persist_across_tasks(self):
    # An Adam that starts again for each task would end elsewhere.
    inputs, query_y = _tasks(5)
    model = _linear()
    learner = self._learner(model, 0.3, inner_learning_rate=0.05, inner_steps=3)
    learner.fit(inputs, query_y, batch_size=1, shuffle=False, verbose=0)
    w = np.array(_linear().trainable_variables[0])
    v, count = np.zeros_like(w), 0
    for x, y in zip(inputs["support_x"], inputs["support_y"], strict=True):
      adapted, v, count = _numpy_adam(w, v, count, x, y, 3, 0.05)
      w = w + 0.3 * (adapted - w)
    np.testing.assert_allclose(model.trainable_variables[0], w, rtol=1e-5)
    np.testing.assert_allclose(learner.second_moments[0], v, rtol=1e-5)
    self.assertEqual(float(learner.adam_count), count)

  def test_evaluation_uses_the_second_moments_and_keeps_them(self):
    inputs, query_y = _tasks(4)
    model = _linear()
    learner = self._learner(
      model, 0.3, inner_learning_rate=0.05, inner_steps=3, eval_inner_steps=2
    )
    learner.fit(inputs, query_y, batch_size=2, verbose=0)
    before = [np.array(v) for v in learner.variables]
    w, v = (
      np.array(a[0])
      for a in (model.trainable_variables, learner.second_moments)
    )
    count = float(learner.adam_count)
    outputs = learner.predict(inputs, verbose=0)
    x, y = inputs["support_x"][0], inputs["support_y"][0]
    adapted, _, _ = _numpy_adam(w, v, count, x, y, 2, 0.05)
    np.testing.assert_allclose(
      outputs[0], inputs["query_x"][0] @ adapted, rtol=1e-4, atol=1e-6
    )
    for variable, value in zip(learner.variables, before, strict=True):
      np.testing.assert_array_equal(variable, value)

  def test_outer_schedule_anneals_the_outer_rate_to_zero(self):
    inputs, query_y = _tasks(4)
    model = _linear()
    learner = tfmeta.Reptile(
      model, inner_optimizer="sgd", inner_loss="mse", inner_learning_rate=0.1
    )
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 3, 0.0)
    learner.compile(optimizer=keras.optimizers.SGD(schedule))
    ends = []
    for _ in range(4):
      learner.fit(inputs, query_y, batch_size=4, verbose=0)
      ends.append(np.array(model.trainable_variables[0]))
    self.assertFalse(np.allclose(ends[1], ends[2]))
    np.testing.assert_array_equal(ends[2], ends[3])

  def test_mini_batches_exhaust_the_support_set_before_they_repeat(self):
    batches = inner_rule.mini_batches(tf.constant(8), 4, 6, SEED).numpy()
    self.assertEqual(batches.shape, (6, 4))
    for epoch in batches.reshape(3, 8):
      self.assertCountEqual(epoch, range(8))
    self.assertFalse(np.array_equal(batches[:2], batches[2:4]))

  def test_mini_batches_are_the_same_under_xla(self):
    graph, xla = (
      tf.function(
        lambda: inner_rule.mini_batches(tf.constant(8), 4, 6, SEED),
        jit_compile=jit,
      )().numpy()
      for jit in (False, True)
    )
    np.testing.assert_array_equal(graph, xla)

  def test_mini_batches_cross_the_end_of_an_epoch(self):
    batches = inner_rule.mini_batches(tf.constant(6), 4, 3, SEED)
    batches = batches.numpy().ravel()
    self.assertCountEqual(batches[:6], range(6))
    self.assertCountEqual(batches[6:12], range(6))

  def test_mini_batches_differ_between_tasks_and_steps_not_between_runs(self):
    def orders(seed):
      learner = self._learner(
        _linear(),
        1.0,
        support_batch_size=2,
        inner_steps=4,
        seed=seed,
        task_map="unroll",
      )
      seen = []
      original = inner_rule.mini_batches

      def spy(*args):
        batches = original(*args)
        seen.append(tuple(batches.numpy().ravel()))
        return batches

      learner.run_eagerly = True
      inputs, query_y = _tasks(3, examples=8)
      with mock.patch.object(inner_rule, "mini_batches", spy):
        learner.fit(inputs, query_y, epochs=2, batch_size=3, verbose=0)
      return seen

    first = orders(0)
    self.assertLen(set(first), 6)
    self.assertEqual(first, orders(0))
    self.assertNotEqual(first, orders(1))

  @parameterized.parameters("maml", "fomaml", "reptile")
  def test_leading_order_of_the_meta_gradient(self, name):
    # Section 5 of the paper expands the meta-gradients of one task with two
    # mini-batches, averaged over their order, in the inner rate a. With G =
    # grad(g1 . g2) / 2, they are mean(g) - 2 a G for MAML, mean(g) - a G for
    # FOMAML, and 2 mean(g) - a G for Reptile divided by a, up to a**2.
    means, remainders = {"maml": 1, "fomaml": 1, "reptile": 2}, []
    factor = {"maml": 2, "fomaml": 1, "reptile": 1}[name]
    for rate in (1e-2, 1e-3):
      gradient, mean, curvature = _two_batches(name, rate)
      slope = (gradient - means[name] * mean) / rate
      error = np.linalg.norm(slope + factor * curvature)
      remainders.append(error / np.linalg.norm(curvature))
    self.assertLess(remainders[1], 0.05)
    self.assertBetween(remainders[0] / remainders[1], 8, 12)

  def test_other_inner_optimizers_are_refused(self):
    with self.assertRaisesRegex(ValueError, "'adam', 'sgd'.*'rmsprop'"):
      tfmeta.Reptile(_linear(), inner_optimizer="rmsprop")
    with self.assertRaisesRegex(ValueError, "support_batch_size.*0"):
      tfmeta.Reptile(_linear(), support_batch_size=0)


def _smooth_net():
  keras.utils.set_random_seed(3)
  inputs = keras.Input((2,), dtype="float64")
  x = keras.layers.Dense(4, activation="tanh", dtype="float64")(inputs)
  return keras.Model(inputs, keras.layers.Dense(1, dtype="float64")(x))


def _two_batches(name, rate):
  """Returns symmetrized meta-gradient, mean gradient and G, as flat arrays."""
  model = _smooth_net()
  inputs, _ = _tasks(2, examples=5, features=2)
  batches = list(zip(inputs["support_x"], inputs["support_y"], strict=True))
  variables = [v.value for v in model.trainable_variables]
  with tf.GradientTape(persistent=True) as tape:
    gradients = []
    for x, y in batches:
      loss = tf.reduce_mean((model(tf.constant(x)) - y) ** 2)
      gradients.append(_flat(tape.gradient(loss, variables)))
    product = tf.reduce_sum(gradients[0] * gradients[1]) / 2
  curvature = _flat(tape.gradient(product, variables))
  both = [
    _order(name, model, rate, first, second)
    for first, second in (batches, batches[::-1])
  ]
  mean = (gradients[0] + gradients[1]) / 2
  return (both[0] + both[1]) / 2, mean.numpy(), curvature.numpy()


def _order(name, model, rate, first, second):
  """Returns the meta-gradient with one order of the mini-batches."""
  options = {"inner_learning_rate": rate, "inner_loss": "mse"}
  variables = [v.value for v in model.trainable_variables]
  if name == "reptile":
    theta = [tf.constant(v) for v in variables]
    weights = theta
    for x, y in (first, second):
      learner = tfmeta.Reptile(model, inner_optimizer="sgd", **options)
      for variable, value in zip(variables, weights, strict=True):
        variable.assign(value)
      weights = learner.adapt(tf.constant(x), tf.constant(y))
    for variable, value in zip(variables, theta, strict=True):
      variable.assign(value)
    pairs = zip(theta, weights, strict=True)
    return _flat([(a - b) / rate for a, b in pairs]).numpy()
  learner_class = tfmeta.MAML if name == "maml" else tfmeta.FOMAML
  learner = learner_class(model, **options)
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(*map(tf.constant, (*first, *second)))
  return _flat(tape.gradient(loss, variables)).numpy()


def _flat(tensors):
  return tf.concat([tf.reshape(t, [-1]) for t in tensors], axis=0)


if __name__ == "__main__":
  absltest.main()
