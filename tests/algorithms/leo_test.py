"""Tests LEO: its latent codes, its degenerate cases and its gradients."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import directional
import keras
import numpy as np
import tensorflow as tf

import tfmeta

FEATURES, WAYS = 6, 3
NO_PENALTY = {
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


def ids_of_weights(network):
  return {id(v) for v in network.trainable_variables}


class CodeTest(parameterized.TestCase):
  @parameterized.product(variant=("paper", "release"), num_samples=(1, 3))
  def test_order_of_examples_does_not_matter(self, variant, num_samples):
    learner = make(variant=variant, num_samples=num_samples)
    support_x, support_y, *_ = task()
    order = [3, 1, 2, 0, 4, 5]  # Labels are 0, 1, 2, 0, 1, 2.
    one = learner.adapt(support_x, support_y)[0]
    other = learner.adapt(
      tf.gather(support_x, order), tf.gather(support_y, order)
    )[0]
    np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)

  def test_numbering_of_classes_does_not_matter(self):
    learner = make()
    support_x, support_y, *_ = task()
    one = learner.adapt(support_x, support_y)[0].numpy()
    other = learner.adapt(support_x, (support_y + 1) % WAYS)[0].numpy()
    np.testing.assert_allclose(
      other, one[..., [2, 0, 1]], rtol=1e-8, atol=1e-10
    )

  def test_inner_loss_is_a_sum(self):
    # If each example comes twice, a step on the codes is twice as long. The
    # kernel is linear in the codes, so it moves twice as far too.
    learner = make(inner_steps=1, finetuning_steps=0, variant="paper")
    support_x, support_y, *_ = task()
    once = learner.adaptation_path(support_x, support_y)
    twice = learner.adaptation_path(
      tf.repeat(support_x, 2, axis=0), tf.repeat(support_y, 2)
    )
    (before,), (after,) = once
    (before_twice,), (after_twice,) = twice
    self.assertGreater(np.abs(after - before).max(), 1e-4)
    np.testing.assert_allclose(before, before_twice, rtol=1e-8)
    np.testing.assert_allclose(
      after_twice - before_twice, 2 * (after - before), rtol=1e-7, atol=1e-14
    )

  @parameterized.parameters(("paper", WAYS), ("release", 2 * WAYS))
  def test_there_is_a_code_for_each_class_or_example(self, variant, count):
    for num_samples in (1, 2):
      learner = make(variant=variant, num_samples=num_samples)
      decode, shapes = learner.generator.decode, set()

      def recorded(codes, decode=decode, shapes=shapes):
        shapes.add(tuple(codes.shape))
        return decode(codes)

      learner.generator.decode = recorded
      learner.adapt(*task()[:2])
      self.assertEqual(shapes, {(count, 4)})


class DegenerateTest(parameterized.TestCase):
  def test_without_steps_it_is_its_decoder(self):
    learner = make(inner_steps=0, finetuning_steps=0)
    support_x, support_y, query_x, _ = task()
    unit = support_x / tf.norm(support_x, axis=1, keepdims=True)
    shares = tf.one_hot(support_y, WAYS, axis=0, dtype=tf.float64) / 2
    mean, _ = learner.generator.encode(unit, shares)
    classifiers, _ = learner.generator.decode(mean)
    query = query_x / tf.norm(query_x, axis=1, keepdims=True)
    expected = tf.nn.log_softmax(query @ tf.transpose(classifiers))
    found = learner.predict_with(learner.adapt(support_x, support_y), query_x)
    np.testing.assert_allclose(found, expected, rtol=1e-8)

  def test_one_sample_is_the_mean_and_several_are_random(self):
    for num_samples, differ in ((1, False), (3, True)):
      learner = make(num_samples=num_samples, spread="softplus")
      kernels = learner.adapt(*task()[:2])[0].numpy()
      self.assertEqual(kernels.shape, (num_samples, FEATURES, WAYS))
      self.assertEqual(np.ptp(kernels, axis=0).max() > 0, differ)


class LossTest(parameterized.TestCase):
  @parameterized.product(
    variant=("paper", "release"), spread=("softplus", "release")
  )
  def test_gradient_is_exact(self, variant, spread):
    # The encoder penalty stays out: it stops a gradient, which finite
    # differences would include.
    learner = make(
      variant=variant,
      spread=spread,
      encoder_penalty=0.0,
      kl_weight=0.1,
      l2=0.01,
    )
    # The scale of the release is an exponential, which overflows after larger
    # shifts, and the differences would cross a kink of the relation network.
    shift = 0.1 if spread == "softplus" else 0.05
    error = directional.error_of_gradient(learner, task(), shift=shift)
    self.assertLess(error, 1e-6)

  def test_encoder_penalty_moves_only_the_encoder(self):
    gradients = []
    for weight in (0.0, 1.0):
      learner = make(**{**NO_PENALTY, "encoder_penalty": weight})
      gradients.append(directional.gradients_of(learner, task()))
    generator = learner.generator
    encoders = ids_of_weights(generator.encoder)
    encoders |= ids_of_weights(generator.relation)
    for variable, without, having in zip(
      learner.trainable_variables, *gradients, strict=True
    ):
      moved = np.abs(having - without).max() > 1e-12
      self.assertEqual(moved, id(variable) in encoders, variable.path)

  def test_queries_have_dropout_only_in_training(self):
    # Without steps, dropout of the support set does not change the classifier.
    no_steps = {**NO_PENALTY, "inner_steps": 0, "finetuning_steps": 0}
    support_x, support_y, query_x, query_y = task()
    outputs = {}
    for rate in (0.0, 0.5):
      learner = make(**{**no_steps, "dropout_rate": rate})
      # Fixed codes do not depend on dropout of the support set either.
      learner.generator.encode = lambda x, shares, counted: (
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

  def test_each_task_has_its_own_samples(self):
    support_x, support_y, query_x, _ = task()
    inputs = {
      "support_x": tf.stack([support_x, support_x + 1e-6]),
      "support_y": tf.stack([support_y] * 2),
      "query_x": tf.stack([query_x] * 2),
    }
    for num_samples, differ in ((1, False), (3, True)):
      learner = make(num_samples=num_samples, task_map="unroll")
      one, other = learner(inputs)
      self.assertEqual(np.abs(one - other).max() > 1e-3, differ)


@functools.cache
def changes_of_update(*, clip, loss_scale_factor=None):
  """Returns the change of each variable in one update with SGD of rate 1."""
  bounds = {"clipvalue": 0.1, "clipnorm": 0.1} if clip else {}
  learner = make(kl_weight=10.0, task_map="unroll", **bounds)
  learner.compile(
    keras.optimizers.SGD(1.0, loss_scale_factor=loss_scale_factor),
    run_eagerly=True,
  )
  before = [np.array(v) for v in learner.trainable_variables]
  support_x, support_y, query_x, query_y = (t[None] for t in task())
  inputs = {"support_x": support_x, "support_y": support_y, "query_x": query_x}
  learner.train_on_batch(inputs, query_y)
  pairs = zip(learner.trainable_variables, before, strict=True)
  return [np.array(v) - old for v, old in pairs]


class ClipTest(parameterized.TestCase):
  def test_elements_are_clipped_before_norms(self):
    unclipped = changes_of_update(clip=False)
    self.assertGreater(max(np.abs(g).max() for g in unclipped), 0.1)
    for found, gradient in zip(
      changes_of_update(clip=True), unclipped, strict=True
    ):
      expected = np.clip(gradient, -0.1, 0.1)
      expected *= min(1.0, 0.1 / max(np.linalg.norm(expected), 1e-30))
      np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)

  def test_gradients_are_unscaled_before_they_are_clipped(self):
    for scaled, unscaled in zip(
      changes_of_update(clip=True, loss_scale_factor=1024.0),
      changes_of_update(clip=True),
      strict=True,
    ):
      np.testing.assert_allclose(scaled, unscaled, rtol=1e-6, atol=1e-12)


class ArgumentsTest(parameterized.TestCase):
  def test_sequential_models_are_accepted(self):
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

  def test_models_with_another_last_layer_are_refused(self):
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
  def test_arguments_out_of_range_are_refused(self, **options):
    with self.assertRaisesRegex(ValueError, "Received"):
      make(**options)


if __name__ == "__main__":
  absltest.main()
