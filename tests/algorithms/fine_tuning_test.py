"""Tests fine-tuning of a head against steps that are computed in NumPy."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

WAYS = 3
LABELS = np.array([2, 0, 1, 2, 1, 0], "int32")
STEPS = {"inner_steps": 4, "inner_learning_rate": 0.3}


def linear_head():
  return keras.layers.Dense(WAYS, name="head")


def cosine_head():
  return tfmeta.layers.CosineDense(WAYS, name="head")


def network(head=linear_head, *between, trainable=True):
  keras.utils.set_random_seed(0)
  body = keras.Sequential(
    [
      keras.Input((4,), dtype="float64"),
      keras.layers.Dense(5, activation="tanh", name="dense"),
      *between,
    ],
    name="body",
  )
  body.trainable = trainable
  return keras.Sequential([body, head()])


def make(head=linear_head, **options):
  return tfmeta.FineTuning(network(head), **{**STEPS, **options})


def examples(seed=0):
  x = np.random.default_rng(seed).normal(size=(len(LABELS), 4))
  return tf.constant(x)


def features_of(learner, x):
  return np.array(learner.model.get_layer("body")(x))


def logistic_regression(z, kernel, bias, *, steps, rate, momentum, decay):
  """Returns kernel and bias after steps as PyTorch's SGD takes them."""
  weights, buffers = [kernel, bias], None
  target = np.eye(WAYS)[LABELS]
  for _ in range(steps):
    logits = z @ weights[0] + weights[1]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = shares / shares.sum(axis=1, keepdims=True) - target
    gradients = [z.T @ error / len(z), error.mean(axis=0)]
    gradients = [g + decay * w for g, w in zip(gradients, weights, strict=True)]
    if buffers is None:
      buffers = gradients
    else:  # With the dampening of the released code, which is its momentum.
      buffers = [
        momentum * b + (1 - momentum) * g
        for b, g in zip(buffers, gradients, strict=True)
      ]
    weights = [w - rate * b for w, b in zip(weights, buffers, strict=True)]
  return weights


class FineTuningTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    self.addCleanup(keras.config.set_dtype_policy, policy)

  @parameterized.parameters(
    (1, 0.9, 0.0), (7, 0.0, 0.0), (7, 0.9, 0.1), (25, 0.9, 0.1)
  )
  def test_a_linear_head_is_a_logistic_regression(self, steps, momentum, decay):
    learner = make(
      inner_steps=steps, inner_momentum=momentum, inner_weight_decay=decay
    )
    kernel, bias = map(np.array, learner.model.get_layer("head").weights)
    expected = logistic_regression(
      features_of(learner, examples()),
      kernel,
      bias,
      steps=steps,
      rate=STEPS["inner_learning_rate"],
      momentum=momentum,
      decay=decay,
    )
    found = learner.adapt(examples(), LABELS)[-2:]
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)

  @parameterized.parameters(linear_head, cosine_head)
  def test_without_momentum_and_decay_it_is_anil(self, head):
    learner = make(head, inner_momentum=0.0, inner_weight_decay=0.0)
    anil = tfmeta.ANIL(network(head), **STEPS)
    found, expected = (one.adapt(examples(), LABELS) for one in (learner, anil))
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-12)

  @parameterized.product(head=(linear_head, cosine_head), steps=(4, 12))
  def test_adapting_does_not_change_the_body(self, head, steps):
    learner = make(head, inner_steps=steps)
    adapted = learner.adapt(examples(), LABELS)
    count = len(learner.model.get_layer("body").weights)
    for index, weight in enumerate(learner.model.trainable_variables):
      same = np.array_equal(adapted[index], weight)
      self.assertEqual(same, index < count, weight.path)

  def test_a_cosine_head_does_not_see_the_length_of_features(self):
    kernels = []
    for factor in (1.0, 1e3):
      body = keras.layers.Rescaling(factor)
      learner = tfmeta.FineTuning(network(cosine_head, body), **STEPS)
      adapted = learner.adapt(examples(), LABELS)
      kernels.append((adapted, learner.predict_with(adapted, examples(1))))
    tf.nest.map_structure(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), *kernels
    )

  def test_the_outer_gradient_treats_the_head_as_a_constant(self):
    learner = make()
    x, queries = examples(), examples(1)
    *_, kernel, bias = learner.adapt(x, LABELS)
    body = learner.model.get_layer("body")
    labels = tf.constant(LABELS)
    with tf.GradientTape() as tape:
      logits = body(queries) @ kernel + bias
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
      loss = tf.reduce_mean(losses)
    expected = tape.gradient(loss, body.trainable_variables)
    with tf.GradientTape() as tape:
      loss, _ = learner.task_loss(x, labels, queries, labels)
    found = tape.gradient(loss, learner.model.trainable_variables)
    for one, other in zip(found[:2], expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-10)
    self.assertEqual(found[2:], [None, None])

  def test_a_frozen_body_gives_the_same_and_fit_changes_nothing(self):
    learner = make()
    frozen = tfmeta.FineTuning(network(trainable=False), **STEPS)
    outputs = [
      one.predict_with(one.adapt(examples(), LABELS), examples(1))
      for one in (learner, frozen)
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-12)
    before = frozen.get_weights()
    frozen.compile(keras.optimizers.SGD(1.0))
    x, y = examples()[tf.newaxis], LABELS[np.newaxis]
    task = {"support_x": x, "support_y": y, "query_x": x}
    frozen.fit(task, y, verbose=0)
    for one, other in zip(frozen.get_weights(), before, strict=True):
      np.testing.assert_array_equal(one, other)

  def test_moving_statistics_normalize_support_and_queries(self):
    layer = keras.layers.BatchNormalization()
    learner = tfmeta.FineTuning(network(linear_head, layer), **STEPS)
    self.assertEqual(learner.normalization, "none")
    layer.moving_mean.assign([0.5] * 5)
    layer.moving_variance.assign([4.0] * 5)
    body, head = learner.model.layers
    alone = tfmeta.FineTuning(
      keras.Sequential([keras.Input((5,), dtype="float64"), head]), **STEPS
    )
    support, queries = (
      body(examples(seed), training=False) for seed in range(2)
    )
    expected = alone.adapt(support, LABELS)
    found = learner.adapt(examples(), LABELS)
    np.testing.assert_allclose(found[-2], expected[0], rtol=1e-12)
    np.testing.assert_allclose(
      learner.predict_with(found, examples(1)),
      alone.predict_with(expected, queries),
      rtol=1e-12,
    )

  def test_mini_batches_pass_through_the_support_set(self):
    options = {"inner_momentum": 0.0, "inner_weight_decay": 0.0}
    whole = make(inner_steps=1, **options)
    batches = make(inner_steps=1, support_batch_size=6, **options)
    other = make(inner_steps=1, support_batch_size=2, **options)
    found = [
      np.array(one.adapt(examples(), LABELS)[-2])
      for one in (whole, batches, other)
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    self.assertGreater(np.abs(found[2] - found[0]).max(), 1e-3)

  @parameterized.parameters(
    {"inner_momentum": 1.0},
    {"inner_momentum": -0.1},
    {"inner_weight_decay": -1.0},
    {"inner_optimizer": "adam"},
  )
  def test_arguments_out_of_range_are_refused(self, **options):
    with self.assertRaisesRegex(ValueError, "Received"):
      make(**options)


if __name__ == "__main__":
  absltest.main()
