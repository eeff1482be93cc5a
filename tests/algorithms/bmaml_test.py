"""Tests BMAML and EMAML: single, uncoupled and coupled particles."""

import contextlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import directional
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import svgd

STEPS = {"inner_steps": 2, "inner_learning_rate": 0.1}


def make_mlp(outputs=3, features=4):
  keras.utils.set_random_seed(0)
  return tfmeta.models.mlp(
    (features,),
    outputs=outputs,
    hidden=(5,),
    activation="tanh",
    dtype="float64",
  )


def make(learner_class=tfmeta.BMAML, **options):
  options = {"num_particles": 3, **STEPS, **options}
  return learner_class(make_mlp(), dtype="float64", **options)


def make_regressor(**options):
  options = {
    "num_particles": 3,
    **STEPS,
    "inner_learning_rate": 1e-3,
    **options,
  }
  return tfmeta.BMAML(
    make_mlp(1, 1), inner_loss="mse", dtype="float64", **options
  )


class DegenerateTest(parameterized.TestCase):
  @parameterized.parameters(
    (tfmeta.BMAML, {"meta_loss": "nll"}), (tfmeta.EMAML, {})
  )
  def test_one_particle_is_maml(self, learner_class, options):
    # Labels have a flat prior by default.
    reduction = {"inner_loss_reduction": "sum"}
    learner = make(learner_class, num_particles=1, **options, **reduction)
    maml = tfmeta.MAML(make_mlp(), dtype="float64", **STEPS, **reduction)
    task = directional.mlp_task()
    found = directional.gradients_of(learner, task)
    expected = directional.gradients_of(maml, task)
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)
    losses = [float(x.task_loss(*task)[0]) for x in (learner, maml)]
    self.assertAlmostEqual(*losses, places=10)

  def test_uncoupled_particles_move_as_an_ensemble(self):
    # A diagonal kernel with entries M neither attracts nor repels.
    def uncoupled(particles, **_):
      count = particles[0].shape[0]
      return count * tf.eye(count, dtype=particles[0].dtype), 1.0

    def adapted(learner):
      variables = [v.value for v in learner.trainable_variables]
      with tf.GradientTape() as tape:
        weights = learner.adapt(*directional.mlp_task()[:2])
        weights = weights["weights"] if type(weights) is dict else weights
        total = tf.add_n([tf.reduce_sum(w**3) for w in weights])
      return [*weights, *tape.gradient(total, variables)]

    emaml = make(tfmeta.EMAML, inner_loss_reduction="sum")
    with mock.patch.object(svgd, "rbf_kernel", uncoupled):
      found = adapted(make())
    for one, other in zip(found, adapted(emaml), strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-10)

  def test_coupled_particles_do_not_move_as_an_ensemble(self):
    task = directional.mlp_task()
    emaml = make(tfmeta.EMAML, inner_loss_reduction="sum")
    found = make().adapt(*task[:2])["weights"][0]
    self.assertGreater(np.abs(found - emaml.adapt(*task[:2])[0]).max(), 1e-3)


class StepTest(absltest.TestCase):
  def test_a_step_is_one_of_svgd_on_the_log_posterior(self):
    learner = make_regressor(inner_steps=1)
    support_x, support_y, *_ = directional.curve_task()
    weights = learner.initial_particles()
    precisions = [
      tf.convert_to_tensor(v) for v in learner.log_precisions.values()
    ]
    rows, slopes = [], []
    for m in range(3):
      w = [t[m] for t in weights]
      log_lambda, log_gamma = (p[m] for p in precisions)
      with tf.GradientTape() as tape:
        tape.watch([*w, log_lambda, log_gamma])
        hidden = tf.tanh(support_x @ w[0] + w[1])
        outputs = hidden @ w[2] + w[3]
        squares = tf.add_n([tf.reduce_sum(t**2) for t in w])
        count = sum(t.shape.num_elements() for t in w)
        error = tf.reduce_sum((support_y - outputs) ** 2)
        log_posterior = (
          len(support_x) * log_gamma / 2 - tf.exp(log_gamma) * error / 2
          + count * log_lambda / 2 - tf.exp(log_lambda) * squares / 2
          # Gamma(2, rate) priors, as densities of the log-precisions.
          + 2 * log_lambda - 2.0 * tf.exp(log_lambda)
          + 2 * log_gamma - 0.2 * tf.exp(log_gamma)
        )  # fmt: skip
      row = [*w, log_lambda, log_gamma]
      slopes.append(_flat(tape.gradient(log_posterior, row)))
      rows.append(_flat(row))
    moved = tf.stack(rows) + 1e-3 * svgd.svgd_direction(
      tf.stack(rows), tf.stack(slopes)
    )
    adapted = learner.adapt(support_x, support_y)
    names = ("log_weight_precision", "log_noise_precision")
    for m in range(3):
      found = [w[m] for w in adapted["weights"]]
      found += [adapted[name][m] for name in names]
      np.testing.assert_allclose(_flat(found), moved[m], rtol=1e-9)

  def test_shared_weights_stay_equal_in_all_particles(self):
    learner = make(particle_weights="head")
    self.assertEqual(learner.specific, [False, False, True, True])
    self.assertLen(learner.further_particles, 2)
    adapted = learner.adapt(*directional.mlp_task()[:2])["weights"]
    self.assertEqual(np.ptp(adapted[0], axis=0).max(), 0.0)
    self.assertGreater(np.ptp(adapted[2], axis=0).min(), 0.0)
    before = learner.initial_particles()
    self.assertGreater(np.abs(adapted[0] - before[0]).max(), 1e-4)


def _flat(tensors):
  return tf.concat([tf.reshape(t, [-1]) for t in tensors], axis=0)


class MetaLossTest(parameterized.TestCase):
  @parameterized.product(
    meta_loss=("chaser", "nll"), stop_bandwidth=(True, False)
  )
  def test_gradient_is_exact(self, meta_loss, stop_bandwidth):
    # The gradient treats the leader as a constant, and the bandwidth too if it
    # is stopped. So the differences must hold them fixed.
    options = {"meta_loss": meta_loss, "stop_bandwidth": stop_bandwidth}
    learner = make_regressor(**options)
    task = directional.curve_task()
    gradient = directional.gradients_of(learner, task)
    with frozen(learner, task, bandwidth=stop_bandwidth):
      error = directional.error_of_gradient(
        learner, task, shift=0, gradient=gradient
      )
    self.assertLess(error, 1e-6)

  def test_nothing_passes_through_the_leader(self):
    learner = make_regressor(meta_loss="chaser")
    support_x, support_y, query_x, query_y = directional.curve_task()
    with tf.GradientTape() as tape:
      tape.watch(query_y)
      loss, _ = learner.task_loss(support_x, support_y, query_x, query_y)
    self.assertIsNone(tape.gradient(loss, query_y))
    other, _ = learner.task_loss(support_x, support_y, query_x, query_y + 1)
    self.assertGreater(abs(float(other - loss)), 1e-8)

  def test_gradient_of_emaml_is_exact(self):
    learner = make(tfmeta.EMAML)
    task = directional.mlp_task()
    self.assertLess(directional.error_of_gradient(learner, task), 1e-6)

  def test_the_leader_has_seen_the_queries_and_predictions_have_not(self):
    learner = make_regressor(leader_steps=2)
    support_x, support_y, query_x, query_y = directional.curve_task()
    outputs = [
      learner.task_loss(support_x, support_y, query_x, y)[1]
      for y in (query_y, query_y + 1)
    ]
    np.testing.assert_array_equal(*outputs)


def frozen(learner, task, *, bandwidth):
  """Fixes the leader, and optionally bandwidths, at their present values."""
  calls, original = [], svgd.rbf_kernel
  context = tfmeta.FIRST_STEP
  chaser = learner._particle_path(*task[:2], context)[-1]
  joint = [tf.concat(pair, 0) for pair in (task[::2], task[1::2])]
  leader = learner._leader(chaser, *joint, context)
  stack = mock.patch.object(learner, "_leader", lambda *_: leader)
  if not bandwidth:
    return stack
  widths = []
  state = {"recording": True}

  def kernel(particles, **_):
    if state["recording"]:
      widths.append(original(particles)[1])
      return original(particles)
    h = widths[len(calls) % len(widths)]
    calls.append(1)
    return tf.exp(-svgd.squared_distances(particles) / h), h

  patched = mock.patch.object(svgd, "rbf_kernel", kernel)
  with patched:
    learner._particle_path(*task[:2], context)
  state["recording"] = False
  return _both(stack, patched)


@contextlib.contextmanager
def _both(first, second):
  with first, second:
    yield


class PredictionTest(parameterized.TestCase):
  def test_distribution_of_regression_is_a_mixture(self):
    learner = make_regressor()
    support_x, support_y, query_x, query_y = directional.curve_task()
    adapted = learner.adapt(support_x, support_y)
    found = learner.predict_distribution(adapted, query_x)
    mean = learner.predict_with(adapted, query_x)
    np.testing.assert_allclose(found.mean(), mean, rtol=1e-10)
    outputs = learner.predict_samples(adapted, query_x)
    stddevs = np.exp(-np.array(adapted["log_noise_precision"]) / 2)
    stddevs = stddevs[:, None, None]
    densities = np.exp(-(((query_y - outputs) / stddevs) ** 2) / 2)
    densities /= stddevs * np.sqrt(2 * np.pi)
    np.testing.assert_allclose(
      found.prob(query_y)[:, None], densities.mean(axis=0), rtol=1e-9
    )

  def test_a_support_set_of_unequal_sizes_is_refused(self):
    x, y = np.zeros([6, 4]), np.zeros([5], int)
    for learner_class in (tfmeta.BMAML, tfmeta.EMAML, tfmeta.PLATIPUS):
      learner = learner_class(make_mlp(), dtype="float64", **STEPS)
      with self.assertRaisesRegex(ValueError, "one target for each example"):
        learner.adapt(x, y)

  def test_all_outputs_of_a_target_share_a_particle(self):
    keras.utils.set_random_seed(0)
    learner = tfmeta.EMAML(
      make_mlp(2, 1),
      num_particles=3,
      noise_stddev=0.4,
      inner_loss="mse",
      dtype="float64",
      **STEPS,
    )
    support_x, support_y, query_x, query_y = directional.curve_task()
    pair = tf.concat([support_y, -support_y], axis=1)
    adapted = learner.adapt(support_x, pair)
    outputs = learner.predict_samples(adapted, query_x).numpy()
    target = np.concatenate([query_y, -query_y], axis=1)
    densities = np.exp(-(((target - outputs) / 0.4) ** 2) / 2)
    densities /= 0.4 * np.sqrt(2 * np.pi)
    found = learner.predict_distribution(adapted, query_x).prob(target)
    expected = densities.prod(axis=-1).mean(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-8)

  @parameterized.parameters(tfmeta.EMAML, tfmeta.BMAML)
  def test_all_particles_are_regularized_and_held(self, learner_class):
    dense = keras.layers.Dense(
      3, kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(2)
    )
    with self.assertWarnsRegex(UserWarning, "constraints"):
      learner = learner_class(
        keras.Sequential([keras.Input((4,)), dense]), num_particles=3
      )
    kernels = np.concatenate(
      [np.array(dense.kernel)[np.newaxis], learner.further_particles[0]]
    )
    self.assertEqual(kernels.shape, (3, 4, 3))
    np.testing.assert_allclose(
      np.sum(learner.losses), 0.01 * np.sum(kernels**2), rtol=1e-5
    )
    further = learner.further_particles[0]
    further.assign(np.stack([5 * np.ones((4, 3)), 0.1 * np.ones((4, 3))]))
    norms = np.linalg.norm(further.constraint(further), axis=1)
    np.testing.assert_allclose(norms, [[2.0] * 3, [0.2] * 3], rtol=1e-5)

  def test_particles_that_begin_equal_are_refused(self):
    inputs = keras.Input((4,))
    zeros = keras.layers.Dense(3, kernel_initializer="zeros")
    seeded = keras.layers.Dense(
      3, kernel_initializer=keras.initializers.GlorotUniform(seed=1)
    )
    for layer in (zeros, seeded):
      with self.assertRaisesRegex(ValueError, "start apart.*Received"):
        tfmeta.EMAML(keras.Model(inputs, layer(inputs)))

  def test_num_samples_is_called_num_particles(self):
    with self.assertRaisesRegex(ValueError, "num_particles.*num_samples=3"):
      make(num_samples=3)

  def test_a_leader_takes_at_least_one_step(self):
    with self.assertRaisesRegex(ValueError, "leader_steps.*at least 1"):
      make(leader_steps=0)

  def test_a_gaussian_prior_needs_a_squared_error(self):
    self.assertEqual(make_regressor().prior, "hierarchical")
    flat = tfmeta.BMAML(make_mlp(1, 1), inner_loss="mae", dtype="float64")
    self.assertEqual(flat.prior, "flat")
    with self.assertRaisesRegex(ValueError, "hierarchical.*Received"):
      tfmeta.BMAML(make_mlp(1, 1), inner_loss="mae", prior="hierarchical")

  def test_particles_begin_apart_and_depend_on_the_seed(self):
    first, again = (make().initial_particles()[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    self.assertGreater(np.abs(first[0] - first[1]).min(), 0.0)
    self.assertGreater(np.abs(first[1] - first[2]).min(), 0.0)


if __name__ == "__main__":
  absltest.main()
