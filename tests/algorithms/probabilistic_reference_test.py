"""Losses of PLATIPUS, EMAML, BMAML and LEO, written out from their papers.

Every number that a slip could exchange for another is different here: scales,
rates and terms. Networks, losses and gradients are those of this file alone.
"""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import directional
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.algorithms import leo
from tfmeta.core import random

WAYS, FEATURES = 3, 4
RATE, STEPS = 0.3, 2


def make_mlp(outputs=WAYS, features=FEATURES):
  keras.utils.set_random_seed(0)
  return tfmeta.models.mlp(
    (features,),
    outputs=outputs,
    hidden=(5,),
    activation="tanh",
    dtype="float64",
  )


def apply(weights, x):
  kernel, bias, last_kernel, last_bias = weights
  return tf.tanh(x @ kernel + bias) @ last_kernel + last_bias


def cross_entropies(outputs, y):
  return tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs)


def mean_loss(weights, x, y):
  return tf.reduce_mean(cross_entropies(apply(weights, x), y))


def stepped(weights, x, y, rate, steps=1, loss_fn=mean_loss):
  for _ in range(steps):
    with tf.GradientTape() as tape:
      tape.watch(weights)
      loss = loss_fn(weights, x, y)
    gradients = tape.gradient(loss, weights)
    weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
  return weights


def values(variables):
  return [tf.convert_to_tensor(v) for v in variables]


def known_noise(shape, seed=None, dtype=tf.float64):
  """Noise that its place in the last axis alone decides."""
  del seed
  row = tf.cos(1.7 * tf.range(shape[-1], dtype=dtype) + 0.3)
  return tf.broadcast_to(row, shape)


def knowing_the_noise():
  return mock.patch.object(random, "normal", known_noise)


class PLATIPUSTest(absltest.TestCase):
  PRIOR_RATE, POSTERIOR_RATE, KL_WEIGHT = 0.07, 0.2, 0.013

  def make(self):
    learner = tfmeta.PLATIPUS(
      make_mlp(),
      num_samples=2,
      kl_weight=self.KL_WEIGHT,
      inner_steps=STEPS,
      inner_learning_rate=RATE,
      dtype="float64",
    )
    learner.prior_rate.assign(self.PRIOR_RATE)
    learner.posterior_rate.assign(self.POSTERIOR_RATE)
    random = np.random.default_rng(0)
    for scales in (learner.prior_log_scales, learner.posterior_log_scales):
      for scale in scales:
        scale.assign(random.uniform(-3, -1, scale.shape))
    return learner

  def parts(self, learner, task):
    """Means and standard deviations of the prior and of the posterior."""
    support_x, support_y, query_x, query_y = task
    mu = values(learner.model.trainable_variables)
    prior = stepped(mu, support_x, support_y, self.PRIOR_RATE)
    posterior = stepped(mu, query_x, query_y, self.POSTERIOR_RATE)
    scales = [
      [tf.exp(s) for s in values(found)]
      for found in (learner.prior_log_scales, learner.posterior_log_scales)
    ]
    return prior, scales[0], posterior, scales[1]

  def drawn(self, means, stddevs):
    sizes = [m.shape.num_elements() for m in means]
    parts = tf.split(known_noise([sum(sizes)]), sizes)
    return [
      m + s * tf.reshape(part, m.shape)
      for m, s, part in zip(means, stddevs, parts, strict=True)
    ]

  def test_loss(self):
    learner, task = self.make(), directional.mlp_task()
    p_mean, p_stddev, q_mean, q_stddev = self.parts(learner, task)
    weights = stepped(self.drawn(q_mean, q_stddev), *task[:2], RATE, STEPS)
    # The Kullback-Leibler divergence of q from p.
    divergence = 0.0
    for m, s, n, r in zip(q_mean, q_stddev, p_mean, p_stddev, strict=True):
      each = tf.math.log(r / s) + (s**2 + (m - n) ** 2) / (2 * r**2) - 0.5
      divergence += tf.reduce_sum(each)
    expected = mean_loss(weights, *task[2:]) + self.KL_WEIGHT * divergence
    with knowing_the_noise():
      found, outputs = learner.task_loss(*task)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(outputs, apply(weights, task[2]), rtol=1e-9)

  def test_draws_that_predict_are_of_the_prior(self):
    learner, task = self.make(), directional.mlp_task()
    p_mean, p_stddev, *_ = self.parts(learner, task)
    start = self.drawn(p_mean, p_stddev)
    for steps in (STEPS, 0):
      learner.eval_inner_steps = steps
      expected = stepped(start, *task[:2], RATE, steps)
      with knowing_the_noise():
        found = learner.adapt(*task[:2])
      for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one[0], other, rtol=1e-9)
        np.testing.assert_allclose(one[1], other, rtol=1e-9)

  def test_first_order_takes_both_kinds_of_gradients_for_constants(self):
    learner, task = self.make(), directional.mlp_task()
    learner.first_order = True
    learner.kl_weight = 0.0
    p_mean, p_stddev, q_mean, q_stddev = self.parts(learner, task)
    del p_mean, p_stddev
    weights = stepped(self.drawn(q_mean, q_stddev), *task[:2], RATE, STEPS)
    with tf.GradientTape() as tape:
      tape.watch(weights)
      loss = mean_loss(weights, *task[2:])
    expected = tape.gradient(loss, weights)
    with knowing_the_noise():
      gradients = directional.gradients_of(learner, task)
    pairs = zip(learner.trainable_variables, gradients, strict=True)
    of_variable = {id(v): g for v, g in pairs}
    for variable, one in zip(
      learner.model.trainable_variables, expected, strict=True
    ):
      np.testing.assert_allclose(of_variable[id(variable)], one, rtol=1e-8)


class ParticleTest(parameterized.TestCase):
  def make(self, cls, **options):
    return cls(
      make_mlp(),
      num_particles=3,
      inner_steps=STEPS,
      inner_learning_rate=RATE,
      dtype="float64",
      **options,
    )

  def test_each_particle_of_emaml_learns_as_a_maml(self):
    learner, task = self.make(tfmeta.EMAML), directional.mlp_task()
    gradients = directional.gradients_of(learner, task)
    found = dict(
      zip(map(id, learner.trainable_variables), gradients, strict=True)
    )
    initial = learner.initial_particles()
    for particle in range(3):
      weights = [w[particle] for w in initial]
      with tf.GradientTape() as tape:
        tape.watch(weights)
        adapted = stepped(weights, *task[:2], RATE, STEPS)
        loss = mean_loss(adapted, *task[2:])
      expected = tape.gradient(loss, weights)
      if particle == 0:
        own = [found[id(v)] for v in learner.model.trainable_variables]
      else:
        own = [found[id(v)][particle - 1] for v in learner.further_particles]
      for one, other in zip(own, expected, strict=True):
        np.testing.assert_allclose(one, other / 3, rtol=1e-8, atol=1e-14)

  def test_likelihood_of_bmaml_is_that_of_the_mixture(self):
    learner = self.make(tfmeta.BMAML, meta_loss="nll")
    support_x, support_y, query_x, query_y = directional.mlp_task()
    adapted = learner.adapt(support_x, support_y)["weights"]
    logs = [
      -tf.reduce_sum(
        cross_entropies(apply([w[m] for w in adapted], query_x), query_y)
      )
      for m in range(3)
    ]
    expected = -np.log(np.mean(np.exp(logs))) / len(query_y)
    found, _ = learner.task_loss(support_x, support_y, query_x, query_y)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    # The mean of their losses, which it is below, is another number.
    self.assertLess(float(found), -np.mean(logs) / len(query_y) - 1e-6)

  @parameterized.parameters(1, 2)
  def test_leader_goes_on_from_the_chaser_on_all_examples(self, leader_steps):
    keras.utils.set_random_seed(0)
    learner = tfmeta.BMAML(
      make_mlp(1, 1),
      num_particles=3,
      inner_steps=STEPS,
      inner_learning_rate=1e-3,
      inner_loss="mse",
      leader_steps=leader_steps,
      dtype="float64",
    )
    support_x, support_y, query_x, query_y = directional.curve_task()
    both = (
      tf.concat([support_x, query_x], axis=0),
      tf.concat([support_y, query_y], axis=0),
    )
    context = tfmeta.FIRST_STEP
    chaser = learner._particle_path(support_x, support_y, context)[-1]
    leader = learner._move(chaser, *both, leader_steps, context)[-1]
    distance = sum(
      np.sum((np.array(a) - np.array(b)) ** 2)
      for a, b in zip(chaser[:4], leader[:4], strict=True)
    )
    found, _ = learner.task_loss(support_x, support_y, query_x, query_y)
    np.testing.assert_allclose(found, distance, rtol=1e-9)
    self.assertLen(chaser, 6)  # Two precisions do not count.

  def test_labels_of_both_sets_may_be_of_different_types(self):
    learner = self.make(tfmeta.BMAML)
    support_x, support_y, query_x, query_y = directional.mlp_task()
    mixed = (support_x, tf.cast(support_y, tf.int32), query_x, query_y)
    same = (support_x, support_y, query_x, query_y)
    losses = [float(learner.task_loss(*task)[0]) for task in (mixed, same)]
    self.assertEqual(*losses)


class LEOTest(parameterized.TestCase):
  OFF = {
    "dropout_rate": 0.0,
    "kl_weight": 0.0,
    "encoder_penalty": 0.0,
    "orthogonality": 0.0,
    "l2": 0.0,
  }

  def make(self, **options):
    keras.utils.set_random_seed(0)
    model = tfmeta.models.embedding_head(FEATURES, ways=WAYS, dtype="float64")
    options = {
      **self.OFF,
      "num_latents": 3,
      "inner_steps": 2,
      "finetuning_steps": 2,
      "finetuning_learning_rate": 0.1,
      **options,
    }
    return tfmeta.LEO(model, dtype="float64", **options)

  def terms(self, learner, task):
    """The four terms of the penalty."""
    noise = learner._noise(task[1], tfmeta.FIRST_STEP)
    codes, _ = learner._adapt(*task[:2], noise, tfmeta.FIRST_STEP)
    m, s, z, moved = (np.array(t) for t in codes)
    paper = learner.variant == "paper"
    if paper:
      divergence = np.sum((m**2 + s**2 - 1) / 2 - np.log(s))
    else:
      divergence = np.mean(z**2 / 2 - ((z - m) / s) ** 2 / 2 - np.log(s))
    squares = (moved - z) ** 2
    decoder = learner.generator.decoder.weights[0].numpy()
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    error = unit @ unit.T - np.eye(len(unit))
    weights = sum(
      np.sum(w.numpy() ** 2) for w in learner.generator.trainable_weights
    )
    return {
      "kl_weight": divergence,
      "encoder_penalty": np.sum(squares) if paper else np.mean(squares),
      "orthogonality": np.sum(np.abs(error)) if paper else np.mean(error**2),
      "l2": weights if paper else weights / 2,
    }

  @parameterized.product(
    variant=("paper", "release"),
    term=("kl_weight", "encoder_penalty", "orthogonality", "l2"),
  )
  def test_terms_of_the_loss(self, variant, term):
    task = directional.mlp_task(ways=WAYS, features=FEATURES)
    plain, learner = (
      self.make(variant=variant, **{term: weight}) for weight in (0.0, 0.37)
    )
    difference = learner.task_loss(*task)[0] - plain.task_loss(*task)[0]
    expected = 0.37 * self.terms(learner, task)[term]
    np.testing.assert_allclose(difference, expected, rtol=1e-7)

  @parameterized.parameters(False, True)
  def test_steps_on_codes_and_on_weights(self, draws):
    learner = self.make(variant="paper", spread="softplus")
    learner.weight_rates.weights[0].assign(
      tf.reshape(
        tf.linspace(tf.constant(0.05, tf.float64), 0.2, FEATURES),
        learner.weight_rates.weights[0].shape,
      )
    )
    x, y, *_ = directional.mlp_task(ways=WAYS, features=FEATURES)
    unit = x / tf.norm(x, axis=1, keepdims=True)

    def loss_of(classifiers):
      logits = unit @ tf.transpose(classifiers)
      return tf.reduce_sum(cross_entropies(logits, y))

    random = np.random.default_rng(1)
    shapes = ((WAYS, learner.num_latents), (3, WAYS, FEATURES))
    noise = leo.Noise(*[tf.constant(random.normal(size=s)) for s in shapes])

    def decode(codes, step):
      values = codes @ learner.generator.decoder.weights[0]
      at_zero = np.sqrt(2 / (WAYS + FEATURES))
      stddev = at_zero * tf.nn.softplus(values[:, FEATURES:]) / np.log(2)
      return values[:, :FEATURES] + draws * stddev * noise.classifiers[step]

    codes, path = learner._adapt(
      x, y, noise if draws else None, tfmeta.EVALUATION
    )
    z, expected = codes.sampled, []
    np.testing.assert_allclose(
      z, codes.mean + draws * codes.stddev * noise.codes, rtol=1e-12
    )
    for step in range(2):
      expected.append(decode(z, step))
      with tf.GradientTape() as tape:
        tape.watch(z)
        loss = loss_of(decode(z, step))
      z = z - 1.0 * tape.gradient(loss, z)
    w = decode(z, 2)
    expected.append(w)
    rates = np.linspace(0.05, 0.2, FEATURES)
    for _ in range(2):
      with tf.GradientTape() as tape:
        tape.watch(w)
        loss = loss_of(w)
      w = w - rates * tape.gradient(loss, w)
      expected.append(w)
    np.testing.assert_allclose(codes.moved, z, rtol=1e-8)
    for one, other in zip(path, expected, strict=True):
      np.testing.assert_allclose(one, tf.transpose(other), rtol=1e-7)

  def test_everything_learns(self):
    learner = self.make(kl_weight=0.1, encoder_penalty=0.1)
    task = directional.mlp_task(ways=WAYS, features=FEATURES)
    gradients = directional.gradients_of(learner, task)
    for variable, gradient in zip(
      learner.trainable_variables, gradients, strict=True
    ):
      if variable is not learner.model.trainable_variables[0]:
        self.assertGreater(np.abs(gradient).max(), 0.0, variable.path)

  def test_each_step_has_a_mask_of_its_own(self):
    learner = self.make(dropout_rate=0.5)
    features = tf.ones([6, 50], tf.float64)
    masks = [
      np.array(mask)
      for mask in learner._dropped(features, 3, 0, tfmeta.FIRST_STEP)
    ]
    for i in range(3):
      self.assertGreater(np.mean(masks[i] != masks[i - 1]), 0.3)
      self.assertAlmostEqual(masks[i].mean(), 1.0, delta=0.3)


if __name__ == "__main__":
  absltest.main()
