"""Compares PLATIPUS, EMAML, BMAML and LEO with formulas from their papers.

All scales, rates and weights of terms differ, so that a learner that mistakes
one for another computes another loss. The networks, losses and gradients that
are expected are computed by this file alone.
"""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import directional
import keras
import numpy as np
import replaced_noise
import tensorflow as tf

import tfmeta

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


def known_noise(shape):
  """Returns noise that depends only on the place in the last axis."""
  return np.broadcast_to(np.cos(1.7 * np.arange(shape[-1]) + 0.3), shape)


def random_noise(shape):
  return np.random.default_rng(1).normal(size=shape)


class PLATIPUSTest(absltest.TestCase):
  PRIOR_RATE, POSTERIOR_RATE, KL_WEIGHT = 0.07, 0.2, 0.013

  def make(self):
    learner = tfmeta.PLATIPUS(
      make_mlp(),
      num_samples=2,
      kl_weight=self.KL_WEIGHT,
      inner_steps=STEPS,
      inner_learning_rate=RATE,
      inner_loss_reduction="mean",
      initial_prior_rate=self.PRIOR_RATE,
      initial_posterior_rate=self.POSTERIOR_RATE,
      dtype="float64",
    )
    random = np.random.default_rng(0)
    for scales in (learner.prior_log_scales, learner.posterior_log_scales):
      for scale in scales:
        scale.assign(random.uniform(-3, -1, scale.shape))
    return learner

  def parts(self, learner, task):
    """Returns means and standard deviations of the prior and posterior."""
    support_x, support_y, query_x, query_y = task
    mu = values(learner.model.trainable_variables)
    prior = stepped(mu, support_x, support_y, self.PRIOR_RATE)
    posterior = stepped(mu, query_x, query_y, self.POSTERIOR_RATE)
    scales = [
      [tf.exp(s) for s in values(found)]
      for found in (learner.prior_log_scales, learner.posterior_log_scales)
    ]
    return prior, scales[0], posterior, scales[1]

  def sampled(self, means, stddevs):
    sizes = [m.shape.num_elements() for m in means]
    parts = tf.split(known_noise([sum(sizes)]), sizes)
    return [
      m + s * tf.reshape(part, m.shape)
      for m, s, part in zip(means, stddevs, parts, strict=True)
    ]

  def test_loss(self):
    learner, task = self.make(), directional.mlp_task()
    p_mean, p_stddev, q_mean, q_stddev = self.parts(learner, task)
    weights = stepped(self.sampled(q_mean, q_stddev), *task[:2], RATE, STEPS)
    # The Kullback-Leibler divergence of q from p.
    divergence = 0.0
    for m, s, n, r in zip(q_mean, q_stddev, p_mean, p_stddev, strict=True):
      each = tf.math.log(r / s) + (s**2 + (m - n) ** 2) / (2 * r**2) - 0.5
      divergence += tf.reduce_sum(each)
    expected = mean_loss(weights, *task[2:]) + self.KL_WEIGHT * divergence
    with replaced_noise.with_noise(known_noise):
      found, outputs = learner.task_loss(*task)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(outputs, apply(weights, task[2]), rtol=1e-9)

  def test_predictions_sample_from_the_prior(self):
    learner, task = self.make(), directional.mlp_task()
    p_mean, p_stddev, *_ = self.parts(learner, task)
    start = self.sampled(p_mean, p_stddev)
    for steps in (STEPS, 0):
      learner.eval_inner_steps = steps
      expected = stepped(start, *task[:2], RATE, steps)
      with replaced_noise.with_noise(known_noise):
        found = learner.adapt(*task[:2])
      for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one[0], other, rtol=1e-9)
        np.testing.assert_allclose(one[1], other, rtol=1e-9)

  def test_first_order_treats_both_gradients_as_constants(self):
    learner, task = self.make(), directional.mlp_task()
    learner.first_order = True
    learner.kl_weight = 0.0
    *_, q_mean, q_stddev = self.parts(learner, task)
    weights = stepped(self.sampled(q_mean, q_stddev), *task[:2], RATE, STEPS)
    with tf.GradientTape() as tape:
      tape.watch(weights)
      loss = mean_loss(weights, *task[2:])
    expected = tape.gradient(loss, weights)
    with replaced_noise.with_noise(known_noise):
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

  def test_bmaml_minimizes_the_likelihood_of_the_mixture(self):
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
    # The mean of the particles' losses is larger.
    self.assertLess(float(found), -np.mean(logs) / len(query_y) - 1e-6)

  @parameterized.parameters(1, 2)
  def test_leader_continues_from_the_chaser_on_all_examples(self, leader_steps):
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
    self.assertLen(chaser, 6)  # The last two are precisions.

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

  def codes_of(self, learner, task):
    """Returns the latent codes of a task in training.

    Returns:
      Mean and standard deviation of the codes, the sampled codes, and the
      codes after their inner steps. The generator decodes the sampled codes
      first, and the codes after all steps last.
    """
    generator = learner.generator
    encode, decode = generator.encode, generator.decode
    encoded, decoded = [], []

    def recorded_encode(features, shares, counted):
      encoded.append(encode(features, shares, counted))
      return encoded[-1]

    def recorded_decode(codes):
      decoded.append(codes)
      return decode(codes)

    with (
      mock.patch.object(generator, "encode", recorded_encode),
      mock.patch.object(generator, "decode", recorded_decode),
    ):
      learner.task_loss(*task)
    ((mean, stddev),) = encoded
    if learner.variant == "release":
      mean, stddev = (tf.gather(t, task[1]) for t in (mean, stddev))
    return mean, stddev, decoded[0], decoded[-1]

  def terms(self, learner, task):
    """Returns the four terms of the penalty."""
    codes = self.codes_of(learner, task)
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

  @parameterized.parameters(1, 2)
  def test_steps_on_codes_and_on_weights(self, num_samples):
    learner = self.make(
      variant="paper", spread="softplus", num_samples=num_samples
    )
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

    # A single sample is the mean, without noise.
    make_noise = np.zeros if num_samples == 1 else random_noise
    noise_of_codes = make_noise((num_samples, WAYS, learner.num_latents))
    noise_of_kernels = make_noise((num_samples, 3, WAYS, FEATURES))
    with replaced_noise.with_noise(random_noise):
      path = learner.adaptation_path(x, y)
    mean_of_class = tf.one_hot(y, WAYS, axis=0, dtype=tf.float64) / 2
    mean, stddev = learner.generator.encode(unit, mean_of_class)

    for sample in range(num_samples):
      expected = self.path_of_kernels(
        learner,
        loss_of,
        mean + stddev * noise_of_codes[sample],
        noise_of_kernels[sample],
      )
      for (kernels,), classifiers in zip(path, expected, strict=True):
        np.testing.assert_allclose(
          kernels[sample], tf.transpose(classifiers), rtol=1e-7
        )

  def path_of_kernels(self, learner, loss_of, z, noise):
    """Returns classifiers after each of 2 steps on codes and 2 on weights."""

    def decode(codes, step):
      values = codes @ learner.generator.decoder.weights[0]
      at_zero = np.sqrt(2 / (WAYS + FEATURES))
      stddev = at_zero * tf.nn.softplus(values[:, FEATURES:]) / np.log(2)
      return values[:, :FEATURES] + stddev * noise[step]

    expected = []
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
    return expected

  def test_everything_learns(self):
    learner = self.make(kl_weight=0.1, encoder_penalty=0.1)
    task = directional.mlp_task(ways=WAYS, features=FEATURES)
    gradients = directional.gradients_of(learner, task)
    for variable, gradient in zip(
      learner.trainable_variables, gradients, strict=True
    ):
      if variable is not learner.model.trainable_variables[0]:
        self.assertGreater(np.abs(gradient).max(), 0.0, variable.path)

  def test_each_step_has_its_own_dropout_mask(self):
    # With these classifiers, outputs are features, all 1/2 before dropout. The
    # loss gets them at each of four steps, and for the queries at the end.
    masks = []

    class SparseRecorder(keras.losses.SparseCategoricalCrossentropy):
      def call(self, y_true, y_pred):
        masks.append(2.0 * np.array(y_pred))
        return super().call(y_true, y_pred)

    learner = self.make(
      dropout_rate=0.5,
      variant="paper",
      inner_loss=SparseRecorder(from_logits=True),
    )
    classifiers = tf.eye(WAYS, FEATURES, dtype=tf.float64)
    learner.generator.decode = lambda codes: (
      classifiers + 0.0 * codes[:, :1],
      tf.zeros_like(classifiers),
    )
    ones = tf.ones([120, FEATURES], tf.float64)
    labels = tf.range(120) % WAYS
    rates = learner.weight_rates.weights[0]
    rates.assign(np.zeros(rates.shape))
    learner.task_loss(ones, labels, ones, labels)
    self.assertLen(masks, 5)
    for i, mask in enumerate(masks):
      self.assertAlmostEqual(mask.mean(), 1.0, delta=0.3)
      for other in masks[:i]:
        self.assertGreater(np.mean(mask != other), 0.3)


if __name__ == "__main__":
  absltest.main()
