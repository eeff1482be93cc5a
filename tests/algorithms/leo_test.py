"""LEO: what its codes depend on, its degenerate cases and its gradients."""

from absl.testing import absltest
from absl.testing import parameterized
import directional
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.algorithms import leo

FEATURES, WAYS = 6, 3
QUIET = {
  "dropout_rate": 0.0,
  "kl_weight": 0.0,
  "encoder_penalty": 0.0,
  "orthogonality": 0.0,
  "l2": 0.0,
}


def make(**options):
  keras.utils.set_random_seed(0)
  model = tfmeta.models.embedding_head(FEATURES, ways=WAYS, dtype="float64")
  options = {
    "num_latents": 4,
    "inner_steps": 2,
    "finetuning_steps": 2,
    "finetuning_learning_rate": 0.1,
    **options,
  }
  return tfmeta.LEO(model, dtype="float64", **options)


def task():
  return directional.mlp_task(ways=WAYS, features=FEATURES)


def weights_of(network):
  return {id(v) for v in network.trainable_variables}


class CodeTest(parameterized.TestCase):
  @parameterized.product(variant=("paper", "release"), num_samples=(1, 3))
  def test_examples_of_a_class_have_no_order(self, variant, num_samples):
    learner = make(variant=variant, num_samples=num_samples)
    support_x, support_y, *_ = task()
    order = [3, 1, 2, 0, 4, 5]  # Labels are 0, 1, 2, 0, 1, 2.
    one = learner.adapt(support_x, support_y)[0]
    other = learner.adapt(
      tf.gather(support_x, order), tf.gather(support_y, order)
    )[0]
    np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)

  def test_names_of_classes_do_not_matter(self):
    learner = make()
    support_x, support_y, *_ = task()
    one = learner.adapt(support_x, support_y)[0].numpy()
    other = learner.adapt(support_x, (support_y + 1) % WAYS)[0].numpy()
    np.testing.assert_allclose(
      other, one[..., [2, 0, 1]], rtol=1e-8, atol=1e-10
    )

  def test_inner_loss_is_a_sum(self):
    # With each example twice, a step on the codes is twice as long.
    learner = make(inner_steps=1, finetuning_steps=0, variant="paper")
    support_x, support_y, *_ = task()
    once, _ = learner._adapt(support_x, support_y, None, tfmeta.EVALUATION)
    twice, _ = learner._adapt(
      tf.repeat(support_x, 2, axis=0),
      tf.repeat(support_y, 2),
      None,
      tfmeta.EVALUATION,
    )
    np.testing.assert_allclose(once.sampled, twice.sampled, rtol=1e-8)
    np.testing.assert_allclose(
      twice.moved - twice.sampled, 2 * (once.moved - once.sampled), rtol=1e-7
    )

  @parameterized.parameters(("paper", WAYS), ("release", 2 * WAYS))
  def test_a_code_for_each_class_or_shot(self, variant, count):
    learner = make(variant=variant)
    support_x, support_y, *_ = task()
    context = tfmeta.EVALUATION
    noise = learner._noise(support_y, context)
    codes, _ = learner._adapt(support_x, support_y, noise, context)
    self.assertEqual(codes.sampled.shape, (count, 4))


class DegenerateTest(parameterized.TestCase):
  def test_without_steps_it_is_its_decoder(self):
    learner = make(inner_steps=0, finetuning_steps=0)
    support_x, support_y, query_x, _ = task()
    unit = support_x / tf.norm(support_x, axis=1, keepdims=True)
    shares = leo.class_shares(support_y, WAYS, tf.float64)
    mean, _ = learner.generator.encode(unit, shares)
    classifiers, _ = learner.generator.decode(mean)
    query = query_x / tf.norm(query_x, axis=1, keepdims=True)
    expected = tf.nn.log_softmax(query @ tf.transpose(classifiers))
    found = learner.predict_with(learner.adapt(support_x, support_y), query_x)
    np.testing.assert_allclose(found, expected, rtol=1e-8)

  def test_one_sample_is_the_mean_and_several_are_draws(self):
    for samples, apart in ((1, False), (3, True)):
      learner = make(num_samples=samples, spread="softplus")
      kernels = learner.adapt(*task()[:2])[0].numpy()
      self.assertEqual(kernels.shape, (samples, FEATURES, WAYS))
      self.assertEqual(np.ptp(kernels, axis=0).max() > 0, apart)


class LossTest(parameterized.TestCase):
  @parameterized.product(
    variant=("paper", "release"), spread=("softplus", "release")
  )
  def test_gradient_is_exact(self, variant, spread):
    # What the encoder penalty stops is held out: differences do not stop it.
    learner = make(
      variant=variant,
      spread=spread,
      encoder_penalty=0.0,
      kl_weight=0.1,
      l2=0.01,
    )
    # The scale of the release is an exponential, which soon overflows. Further,
    # the differences cross a kink of the relation network.
    shift = 0.1 if spread == "softplus" else 0.05
    error = directional.error_of_gradient(learner, task(), shift=shift)
    self.assertLess(error, 1e-6)

  def test_encoder_penalty_moves_the_encoder_alone(self):
    gradients = []
    for weight in (0.0, 1.0):
      learner = make(**{**QUIET, "encoder_penalty": weight})
      gradients.append(directional.gradients_of(learner, task()))
    generator = learner.generator
    encoding = weights_of(generator.encoder) | weights_of(generator.relation)
    for variable, without, having in zip(
      learner.trainable_variables, *gradients, strict=True
    ):
      moved = np.abs(having - without).max() > 1e-12
      self.assertEqual(moved, id(variable) in encoding, variable.path)

  def test_queries_are_dropped_out_in_training_alone(self):
    # Without steps the classifier is a draw, which dropout does not change.
    still = {**QUIET, "inner_steps": 0, "finetuning_steps": 0}
    support_x, support_y, query_x, query_y = task()
    outputs = {}
    for rate in (0.0, 0.5):
      learner = make(**{**still, "dropout_rate": rate})
      # Codes see whole features in both.
      learner.generator.encode = lambda x, shares: (
        tf.ones([WAYS, 4], tf.float64),
        tf.ones([WAYS, 4], tf.float64),
      )
      _, trained = learner.task_loss(support_x, support_y, query_x, query_y)
      tested = learner.predict_with(
        learner.adapt(support_x, support_y), query_x
      )
      outputs[rate] = np.asarray(trained), np.asarray(tested)
    self.assertGreater(np.abs(outputs[0.5][0] - outputs[0.0][0]).max(), 1e-3)
    np.testing.assert_allclose(outputs[0.5][1], outputs[0.0][1], rtol=1e-8)

  def test_tasks_have_draws_of_their_own(self):
    support_x, support_y, query_x, _ = task()
    inputs = {
      "support_x": tf.stack([support_x, support_x + 1e-6]),
      "support_y": tf.stack([support_y] * 2),
      "query_x": tf.stack([query_x] * 2),
    }
    for samples, apart in ((1, False), (3, True)):
      learner = make(num_samples=samples)
      learner.compile(keras.optimizers.SGD(0.0))
      one, other = learner.predict(inputs, verbose=0)
      self.assertEqual(np.abs(one - other).max() > 1e-3, apart)


class ClipTest(parameterized.TestCase):
  def step(self, optimizer, **options):
    """What an update adds to each variable, without regard to its sign."""
    learner = make(kl_weight=10.0, **options)
    learner.compile(optimizer)
    before = [np.array(v) for v in learner.trainable_variables]
    support_x, support_y, query_x, query_y = (t[None] for t in task())
    inputs = {
      "support_x": support_x,
      "support_y": support_y,
      "query_x": query_x,
    }
    learner.train_on_batch(inputs, query_y)
    pairs = zip(learner.trainable_variables, before, strict=True)
    return [np.array(v) - old for v, old in pairs]

  def test_elements_are_held_and_then_norms(self):
    whole = self.step(keras.optimizers.SGD(1.0))
    found = self.step(keras.optimizers.SGD(1.0), clipvalue=0.1, clipnorm=0.1)
    self.assertGreater(max(np.abs(g).max() for g in whole), 0.1)
    for one, gradient in zip(found, whole, strict=True):
      held = np.clip(gradient, -0.1, 0.1)
      held *= min(1.0, 0.1 / max(np.linalg.norm(held), 1e-30))
      np.testing.assert_allclose(one, held, rtol=1e-6, atol=1e-12)

  def test_a_scaled_loss_is_clipped_as_it_would_be(self):
    found, scaled = (
      self.step(optimizer, clipvalue=0.1, clipnorm=0.1)
      for optimizer in (
        keras.optimizers.SGD(1.0),
        keras.optimizers.SGD(1.0, loss_scale_factor=1024.0),
      )
    )
    for one, other in zip(found, scaled, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-12)


class SettingsTest(parameterized.TestCase):
  def test_a_sequential_model_will_do(self):
    head = keras.Sequential(
      [
        keras.Input((FEATURES,)),
        keras.layers.UnitNormalization(),
        keras.layers.Dense(WAYS, use_bias=False),
      ]
    )
    support_x, support_y, query_x, _ = (
      tf.cast(t, "float32") if t.dtype == tf.float64 else t for t in task()
    )
    learner = tfmeta.LEO(head, num_latents=4)
    outputs = learner.predict_with(learner.adapt(support_x, support_y), query_x)
    self.assertEqual(outputs.shape, (len(query_x), WAYS))

  def test_losses_without_labels_are_refused(self):
    with self.assertRaisesRegex(ValueError, "integer labels.*mean_squared"):
      make(inner_loss="mse")

  def test_models_that_end_otherwise_are_refused(self):
    for model in (
      tfmeta.models.mlp((4,), outputs=3, hidden=(5,)),
      tfmeta.models.embedding_head(4, ways=3, use_bias=True),
    ):
      with self.assertRaisesRegex(ValueError, "Dense layer without bias"):
        tfmeta.LEO(model)

  @parameterized.parameters(
    {"num_latents": 0},
    {"variant": "mine"},
    {"spread": "relu"},
    {"dropout_rate": 1.0},
    {"kl_weight": -1.0},
    {"clipvalue": 0.0},
    {"clipnorm": -1.0},
  )
  def test_settings_out_of_range_are_refused(self, **options):
    with self.assertRaisesRegex(ValueError, "Received"):
      make(**options)


if __name__ == "__main__":
  absltest.main()
