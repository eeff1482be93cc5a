"""PLATIPUS: its degenerate cases, its gradients and its draws."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import directional
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import random

STEPS = {"inner_steps": 2, "inner_learning_rate": 0.3}


def make_mlp(outputs=3, features=4):
  keras.utils.set_random_seed(0)
  return tfmeta.models.mlp(
    (features,),
    outputs=outputs,
    hidden=(5,),
    activation="tanh",
    dtype="float64",
  )


def make(**options):
  return tfmeta.PLATIPUS(make_mlp(), dtype="float64", **{**STEPS, **options})


def without_noise():
  return mock.patch.object(
    random, "normal", lambda shape, seed, dtype: tf.zeros(shape, dtype)
  )


class DegenerateTest(absltest.TestCase):
  def test_without_spread_and_shift_it_is_maml(self):
    learner = make(kl_weight=0.0)
    for rate in (learner.prior_rate, learner.posterior_rate):
      rate.assign(0.0)
    maml = tfmeta.MAML(make_mlp(), dtype="float64", **STEPS)
    task = directional.mlp_task()
    with without_noise():
      gradients = directional.gradients_of(learner, task)
      outputs = learner.predict_with(learner.adapt(*task[:2]), task[2])
    expected = directional.gradients_of(maml, task)
    pairs = zip(learner.trainable_variables, gradients, strict=True)
    of_variable = {id(v): g for v, g in pairs}
    found = [of_variable[id(v)] for v in learner.model.trainable_variables]
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)
    logits = maml.predict_with(maml.adapt(*task[:2]), task[2])
    np.testing.assert_allclose(
      outputs, tf.nn.log_softmax(logits), rtol=1e-7, atol=1e-8
    )

  def test_without_spread_it_adapts_from_the_shifted_mean(self):
    learner = make()
    learner.prior_rate.assign(0.7)
    task = directional.mlp_task()
    with without_noise():
      found = learner.predict_sample(
        [w[0] for w in learner.adapt(*task[:2])], task[2]
      )
    once = {"inner_steps": 1, "inner_learning_rate": 0.7}
    shifted = tfmeta.MAML(make_mlp(), dtype="float64", **once)
    model = shifted.to_model(shifted.adapt(*task[:2]))
    maml = tfmeta.MAML(model, dtype="float64", **STEPS)
    expected = maml.predict_with(maml.adapt(*task[:2]), task[2])
    np.testing.assert_allclose(found, expected, rtol=1e-10)


class LossTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_gradient_is_exact(self, regression):
    # Draws depend on the task's seed alone, so differences share the noise.
    if regression:
      learner = tfmeta.PLATIPUS(
        make_mlp(1, 1), inner_loss="mse", dtype="float64", **STEPS
      )
      task = directional.curve_task()
    else:
      learner, task = make(kl_weight=0.3), directional.mlp_task()
    self.assertLess(directional.error_of_gradient(learner, task), 1e-6)

  def test_everything_learns(self):
    learner = make(kl_weight=0.3)
    gradients = directional.gradients_of(learner, directional.mlp_task())
    for variable, gradient in zip(
      learner.trainable_variables, gradients, strict=True
    ):
      self.assertGreater(np.abs(gradient).max(), 0.0, variable.path)

  def test_first_order_still_learns_the_rates(self):
    learner = make(kl_weight=0.3, first_order=True)
    task = directional.mlp_task()
    places = [
      i
      for i, v in enumerate(learner.trainable_variables)
      if v is learner.prior_rate or v is learner.posterior_rate
    ]
    gradients = directional.gradients_of(learner, task)
    self.assertLen(places, 2)
    for place in places:
      self.assertGreater(abs(float(gradients[place])), 0.0)

  def test_divergence_vanishes_for_equals_alone(self):
    support_x, support_y, *_ = directional.mlp_task()
    task = (support_x, support_y, support_x, support_y)  # Equal shifts.
    values = []
    for weight in (0.0, 5.0):
      learner = make(kl_weight=weight)
      values.append(float(learner.task_loss(*task)[0]))
      learner.prior_rate.assign(0.5)
      values.append(float(learner.task_loss(*task)[0]))
    self.assertAlmostEqual(values[0], values[2], places=12)
    self.assertGreater(values[3], values[1] + 1e-3)


class DrawTest(absltest.TestCase):
  def kernels(self, learner, task, **changes):
    context = tfmeta.EVALUATION.replace(**changes)
    return np.array(learner.adapt(*task[:2], context)[0])

  def assert_apart(self, draws):
    for i in range(len(draws)):
      for j in range(i):
        self.assertGreater(np.abs(draws[i] - draws[j]).min(), 0.0)

  def test_tasks_and_samples_never_share_a_draw(self):
    learner = make(num_samples=3, initial_scale=0.5, inner_steps=0)
    tasks = [directional.mlp_task(seed) for seed in range(2)]
    self.assert_apart(
      np.concatenate([self.kernels(learner, task) for task in tasks])
    )
    in_training = [
      self.kernels(learner, tasks[0], training=True, step=step, index=index)
      for step, index in ((0, 0), (0, 1), (1, 0))
    ]
    self.assert_apart(np.concatenate(in_training))

  def test_a_task_has_its_draws_wherever_it_comes(self):
    learner = make(num_samples=2, initial_scale=0.5)
    task = directional.mlp_task()
    first = self.kernels(learner, task, index=0)
    np.testing.assert_array_equal(self.kernels(learner, task, index=7), first)
    turned = [tf.reverse(t, [0]) for t in task]
    np.testing.assert_allclose(self.kernels(learner, turned), first, rtol=1e-10)

  def test_batches_of_any_size_predict_alike(self):
    learner = make(num_samples=2, initial_scale=0.5)
    learner.compile("sgd")
    rows = zip(*(directional.mlp_task(seed) for seed in range(3)), strict=True)
    support_x, support_y, query_x, _ = (np.stack(row) for row in rows)
    inputs = {
      "support_x": support_x,
      "support_y": support_y,
      "query_x": query_x,
    }
    one, three = (
      learner.predict(inputs, batch_size=size, verbose=0) for size in (1, 3)
    )
    np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-5)

  def test_evaluation_does_not_know_the_posterior(self):
    learner = make(num_samples=2)
    learner.compile("sgd", metrics=["accuracy"])
    support_x, support_y, query_x, query_y = (
      t[None] for t in directional.mlp_task()
    )
    inputs = {
      "support_x": support_x,
      "support_y": support_y,
      "query_x": query_x,
    }
    figures = []
    for rate in (0.01, 1e3):
      learner.posterior_rate.assign(rate)
      figures.append(
        learner.evaluate(inputs, query_y, verbose=0, return_dict=True)
      )
    self.assertEqual(*figures)

  def test_normalisation_has_no_spread(self):
    keras.utils.set_random_seed(0)
    model = tfmeta.models.conv4((16, 16, 1), ways=3, filters=2)
    learner = tfmeta.PLATIPUS(model, num_samples=2)
    spread = [s is not None for s in learner.prior_log_scales]
    expected = [not n for n in tfmeta.layers.in_normalization(model)]
    self.assertEqual(spread, expected)


class SettingsTest(parameterized.TestCase):
  def test_scales_are_held_within_bounds_and_come_back(self):
    learner = make(initial_scale=7.0)
    learner.compile(keras.optimizers.SGD(1.0))
    scale = learner.prior_log_scales[0]
    ones = [tf.ones_like(v) for v in learner.trainable_variables]
    for sign, expected in ((-1, 2.0), (1, 1.0), (100, -10.0), (-1, -9.0)):
      learner.optimizer.apply(
        [sign * g for g in ones], learner.trainable_variables
      )
      np.testing.assert_allclose(scale, np.full(scale.shape, expected))

  def test_begins_with_the_weights_of_another_learner(self):
    maml = tfmeta.MAML(make_mlp(), dtype="float64")
    for variable in maml.model.trainable_variables:
      variable.assign(variable + 1.0)
    learner = make(initial_from=maml)
    pairs = zip(learner.model.weights, maml.model.weights, strict=True)
    for one, other in pairs:
      np.testing.assert_array_equal(one, other)
    other = tfmeta.MAML(make_mlp(outputs=4), dtype="float64")
    with self.assertRaisesRegex(ValueError, "equal model.*Received"):
      make(initial_from=other)

  @parameterized.parameters(
    {"num_samples": 0},
    {"kl_weight": -1.0},
    {"initial_scale": 1e-6},
    {"initial_scale": 20.0},
    {"initial_shift_rate": float("nan")},
    {"initial_from": "maml.keras"},
    {"inner_loss": "categorical_crossentropy"},
  )
  def test_settings_out_of_range_are_refused(self, **options):
    with self.assertRaisesRegex(ValueError, "Received"):
      make(**options)


if __name__ == "__main__":
  absltest.main()
