"""Tests PLATIPUS: its degenerate cases, gradients and random samples."""

from absl.testing import absltest
from absl.testing import parameterized
import directional
import keras
import numpy as np
import replaced_noise
import tensorflow as tf

import tfmeta

STEPS = {
  "inner_steps": 2,
  "inner_learning_rate": 0.05,
  "inner_loss_reduction": "sum",
}


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


def batch_of(tasks):
  """Returns the inputs and the query labels of a batch of tasks."""
  support_x, support_y, query_x, query_y = (
    tf.stack(parts) for parts in zip(*tasks, strict=True)
  )
  inputs = {"support_x": support_x, "support_y": support_y, "query_x": query_x}
  return inputs, query_y


class DegenerateTest(absltest.TestCase):
  def test_without_spread_and_shift_it_is_maml(self):
    rates = {"initial_prior_rate": 0.0, "initial_posterior_rate": 0.0}
    learner = make(kl_weight=0.0, **rates)
    maml = tfmeta.MAML(make_mlp(), dtype="float64", **STEPS)
    task = directional.mlp_task()
    with replaced_noise.without_noise():
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
    learner = make(initial_prior_rate=0.1)
    task = directional.mlp_task()
    with replaced_noise.without_noise():
      found = learner.predict_samples(learner.adapt(*task[:2]), task[2])[0]
    once = {**STEPS, "inner_steps": 1, "inner_learning_rate": 0.1}
    shifted = tfmeta.MAML(make_mlp(), dtype="float64", **once)
    model = shifted.to_model(shifted.adapt(*task[:2]))
    maml = tfmeta.MAML(model, dtype="float64", **STEPS)
    expected = maml.predict_with(maml.adapt(*task[:2]), task[2])
    np.testing.assert_allclose(found, expected, rtol=1e-10)


class SumTest(absltest.TestCase):
  def test_by_default_all_examples_push_in_full(self):
    """Shifts and steps by a set and its copy are twice those by the set."""
    support_x, support_y, *_ = directional.mlp_task()
    twice = [tf.concat([part, part], axis=0) for part in (support_x, support_y)]

    def adapt(support, rate, **options):
      learner = tfmeta.PLATIPUS(
        make_mlp(),
        inner_learning_rate=2 * rate,
        initial_prior_rate=rate,
        dtype="float64",
        **options,
      )
      with replaced_noise.without_noise():
        return learner.adapt(*support)

    expected = adapt((support_x, support_y), 0.1)
    found = adapt(twice, 0.05)
    averaged = adapt(twice, 0.1, inner_loss_reduction="mean")
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)
    self.assertGreater(np.abs(averaged[0] - expected[0]).max(), 1e-3)


class LossTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_gradient_is_exact(self, regression):
    # The noise depends only on the task's seed, so both differences share it.
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
      if v is learner.unscaled_prior_rate
      or v is learner.unscaled_posterior_rate
    ]
    gradients = directional.gradients_of(learner, task)
    self.assertLen(places, 2)
    for place in places:
      self.assertGreater(abs(float(gradients[place])), 0.0)

  def test_divergence_vanishes_only_for_equal_distributions(self):
    support_x, support_y, *_ = directional.mlp_task()
    task = (support_x, support_y, support_x, support_y)  # Equal shifts.
    values = []
    equal = {"initial_prior_rate": 0.01, "initial_posterior_rate": 0.01}
    for weight in (0.0, 5.0):
      learner = make(kl_weight=weight, **equal)
      values.append(float(learner.task_loss(*task)[0]))
      learner.unscaled_prior_rate.assign(0.5)
      values.append(float(learner.task_loss(*task)[0]))
    self.assertAlmostEqual(values[0], values[2], places=12)
    self.assertGreater(values[3], values[1] + 1e-3)


class SampleTest(absltest.TestCase):
  def assert_all_differ(self, kernels):
    """Checks that no two kernels share an element."""
    for i in range(len(kernels)):
      for j in range(i):
        self.assertGreater(np.abs(kernels[i] - kernels[j]).min(), 0.0)

  def test_evaluated_tasks_and_samples_never_share_noise(self):
    # Only the noise tells tasks apart.
    learner = make(
      num_samples=3, initial_scale=0.5, inner_steps=0, initial_prior_rate=0.0
    )
    tasks = [directional.mlp_task(seed) for seed in range(2)]
    self.assert_all_differ(
      np.concatenate([learner.adapt(*task[:2])[0] for task in tasks])
    )

  def test_training_tasks_and_steps_never_share_noise(self):
    # With a linear model, unit vectors as queries and no inner steps, the
    # outputs of a task are the kernel that was sampled for it.
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
      [
        keras.Input((3,), dtype="float64"),
        keras.layers.Dense(3, use_bias=False, dtype="float64"),
      ]
    )
    learner = tfmeta.PLATIPUS(
      model, inner_steps=0, initial_scale=0.5, dtype="float64"
    )
    kernels = []

    def record(y, outputs):
      kernels.extend(outputs.numpy().reshape(-1, 3, 3))
      return tf.reduce_mean(outputs, axis=-1)

    learner.compile(
      keras.optimizers.SGD(0.0), metrics=[record], run_eagerly=True
    )
    unit, labels = tf.eye(3, dtype=tf.float64), tf.range(3)
    same_tasks = batch_of([(unit, labels, unit, labels)] * 2)
    for _ in range(2):
      learner.train_on_batch(*same_tasks)
    self.assertLen(kernels, 4)
    self.assert_all_differ(kernels)

  def test_noise_of_a_task_does_not_depend_on_its_place(self):
    learner = make(num_samples=2, initial_scale=0.5, task_map="unroll")
    tasks = [directional.mlp_task(seed) for seed in range(3)]
    outputs = learner(batch_of(tasks)[0])
    np.testing.assert_array_equal(
      learner(batch_of(tasks[::-1])[0]), outputs[::-1]
    )
    in_order = learner.adapt(*tasks[0][:2])
    reversed_order = learner.adapt(*(tf.reverse(t, [0]) for t in tasks[0][:2]))
    np.testing.assert_allclose(reversed_order[0], in_order[0], rtol=1e-10)

  def test_batch_size_does_not_change_predictions(self):
    learner = make(num_samples=2, initial_scale=0.5)
    learner.compile("sgd")
    tasks = [directional.mlp_task(seed) for seed in range(3)]
    three = learner.predict(batch_of(tasks)[0], batch_size=3, verbose=0)
    learner.task_map = "unroll"  # Without a graph.
    for task, outputs in zip(tasks, three, strict=True):
      (one,) = learner(batch_of([task])[0])
      np.testing.assert_allclose(one, outputs, rtol=1e-4, atol=1e-5)

  def test_evaluation_does_not_use_the_posterior(self):
    learner = make(num_samples=2)
    learner.compile("sgd", metrics=["accuracy"])
    inputs, query_y = batch_of([directional.mlp_task()])
    results = []
    for rate in (0.01, 1e3):
      learner.unscaled_posterior_rate.assign(rate)
      results.append(
        learner.evaluate(inputs, query_y, verbose=0, return_dict=True)
      )
    self.assertEqual(*results)

  def test_normalization_has_no_spread(self):
    keras.utils.set_random_seed(0)
    model = tfmeta.models.conv4((16, 16, 1), ways=3, filters=2)
    learner = tfmeta.PLATIPUS(model, num_samples=2)
    spread = [s is not None for s in learner.prior_log_scales]
    expected = [not n for n in tfmeta.layers.in_normalization(model)]
    self.assertEqual(spread, expected)


class ArgumentsTest(parameterized.TestCase):
  def test_scales_stay_within_bounds_and_come_back(self):
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

  def test_rates_start_at_their_initial_values(self):
    learner = make(initial_prior_rate=0.3, initial_posterior_rate=2e-4)
    self.assertAlmostEqual(float(learner.prior_rate), 0.3, places=12)
    self.assertAlmostEqual(float(learner.posterior_rate), 2e-4, places=12)
    # A step of the outer loop is small compared with the rate.
    learner.unscaled_posterior_rate.assign_add(2**-10)
    expected = 2e-4 * (1 + 1 / 8)
    self.assertAlmostEqual(float(learner.posterior_rate), expected, places=12)

  def test_rates_in_files_of_earlier_versions_are_those_of_the_variables(self):
    config = make().get_config()
    del config["initial_prior_rate"], config["initial_posterior_rate"]
    config["initial_shift_rate"] = 0.25
    learner = tfmeta.PLATIPUS.from_config(config)
    learner.unscaled_prior_rate.assign(0.07)
    learner.unscaled_posterior_rate.assign(0.2)
    self.assertAlmostEqual(float(learner.prior_rate), 0.07, places=12)
    self.assertAlmostEqual(float(learner.posterior_rate), 0.2, places=12)

  @parameterized.parameters(
    {"num_samples": 0},
    {"kl_weight": -1.0},
    {"initial_scale": 1e-6},
    {"initial_scale": 20.0},
    {"initial_prior_rate": float("nan")},
    {"initial_posterior_rate": float("nan")},
    {"initial_from": "maml.keras"},
  )
  def test_arguments_out_of_range_are_refused(self, **options):
    with self.assertRaisesRegex(ValueError, "Received"):
      make(**options)


if __name__ == "__main__":
  absltest.main()
