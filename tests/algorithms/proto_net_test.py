"""Tests prototypical networks against distances to class means."""

import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

WAYS = 4
LABELS = np.array([2, 0, 1, 2, 1, 0], "int32")  # No example of class 3.


def classifier(head=None):
  keras.utils.set_random_seed(0)
  layers = [
    keras.layers.Dense(8, activation="tanh", name="body"),
    head or keras.layers.Dense(WAYS, name="head"),
  ]
  return keras.Sequential([keras.Input((3,)), *layers])


def examples(count=6):
  x = np.random.default_rng(0).normal(size=(count, 3))
  return tf.constant(x, tf.float32)


def log_softmax_of_distances(model, support_x, support_y, queries):
  """Returns log probabilities by the formula of the paper, in NumPy."""
  body = model.get_layer("body")
  support, query = np.array(body(support_x)), np.array(body(queries))
  present = np.unique(support_y)
  means = np.stack([support[support_y == c].mean(axis=0) for c in present])
  logits = -((query[:, None] - means) ** 2).sum(axis=-1)
  logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
  return present, logits


class ProtoNetTest(parameterized.TestCase):
  def test_probabilities_are_those_of_distances_to_class_means(self):
    learner = tfmeta.ProtoNet(classifier())
    queries = examples(9)[6:]
    adapted = learner.adapt(examples(), LABELS)
    found = tf.nn.log_softmax(learner.predict_with(adapted, queries))
    present, expected = log_softmax_of_distances(
      learner.model, examples(), LABELS, queries
    )
    np.testing.assert_allclose(
      found.numpy()[:, present], expected, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(tf.exp(found)[:, 3], np.zeros(3))

  def test_before_adapting_all_classes_are_equally_likely(self):
    learner = tfmeta.ProtoNet(classifier())
    before = learner.adaptation_path(examples(), LABELS)[0]
    outputs = learner.predict_with(before, examples())
    np.testing.assert_array_equal(outputs, np.zeros((6, WAYS)))

  def test_gradients_flow_through_prototypes_and_queries(self):
    """Central differences of the loss; stopping either one is far off."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
      learner = tfmeta.ProtoNet(classifier(), dtype="float64")
    finally:
      keras.config.set_dtype_policy(policy)
    x, y = tf.cast(examples(), "float64"), tf.constant(LABELS)
    task = (x, y, 2 * x, y)
    kernel = learner.model.trainable_variables[0]
    with tf.GradientTape() as tape:
      loss, _ = learner.task_loss(*task)
    found = tape.gradient(loss, kernel.value)[1, 2]
    value, losses = np.array(kernel), []
    for sign in (1, -1):
      moved = value.copy()
      moved[1, 2] += sign * 1e-6
      kernel.assign(moved)
      losses.append(float(learner.task_loss(*task)[0]))
    slope = (losses[0] - losses[1]) / 2e-6
    self.assertAlmostEqual(float(found), slope, places=8)

  def test_adapted_weights_make_an_ordinary_model(self):
    learner = tfmeta.ProtoNet(classifier())
    adapted = learner.adapt(examples(), LABELS)
    model = learner.to_model(adapted)
    np.testing.assert_allclose(
      model(examples()), learner.predict_with(adapted, examples()), rtol=1e-6
    )
    self.assertLen(model.layers, 2)

  def test_an_example_of_weight_two_counts_like_two_examples(self):
    learner = tfmeta.ProtoNet(classifier())
    weight = tf.constant([2.0, 1, 1, 1, 1, 1])
    weighted = learner.adapt(
      examples(), LABELS, tfmeta.EVALUATION.replace(support_weight=weight)
    )
    twice = learner.adapt(
      tf.concat([examples()[:1], examples()], axis=0), [LABELS[0], *LABELS]
    )
    for a, b in zip(weighted, twice, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

  def test_one_hot_labels_are_the_same(self):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    one_hot = tfmeta.ProtoNet(classifier(), inner_loss=loss)
    adapted = one_hot.adapt(examples(), np.eye(WAYS, dtype="float32")[LABELS])
    expected = tfmeta.ProtoNet(classifier()).adapt(examples(), LABELS)
    for a, b in zip(adapted, expected, strict=True):
      np.testing.assert_array_equal(a, b)

  def test_soft_labels_are_shares_of_an_example(self):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    learner = tfmeta.ProtoNet(classifier(), inner_loss=loss)
    soft = np.eye(WAYS, dtype="float32")[LABELS]
    soft[0] = [0.25, 0.75, 0, 0]
    kernel = np.array(learner.adapt(examples(), soft)[-2])
    features = np.array(learner.model.get_layer("body")(examples()))
    # The examples 1 and 5 are of class 0.
    mean = (0.25 * features[0] + features[1] + features[5]) / 2.25
    np.testing.assert_allclose(kernel[:, 0], 2 * mean, rtol=1e-5, atol=1e-6)

  def test_a_head_that_cannot_be_replaced_is_refused_by_its_cause(self):
    changes = {
      "frozen": lambda head: setattr(head, "trainable", False),
      "with LoRA": lambda head: head.enable_lora(2),
      "quantized": lambda head: head.quantize("int8"),
    }
    for cause, change in changes.items():
      model = classifier()
      change(model.layers[-1])
      with self.assertRaisesRegex(ValueError, f"Received:.*Dense, {cause}"):
        tfmeta.ProtoNet(model)

  def test_more_outputs_than_ways_are_usual(self):
    x, y = examples()[tf.newaxis], tf.constant(LABELS)[tf.newaxis]
    task = {"support_x": x, "support_y": y, "query_x": x}
    data = tf.data.Dataset.from_tensors((task, y))
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      tfmeta.evaluate(tfmeta.ProtoNet(classifier()), data)

  @parameterized.parameters(
    keras.layers.Dense(WAYS, use_bias=False),
    keras.layers.Dense(WAYS, activation="softmax"),
    keras.layers.EinsumDense("ab,bc->ac", WAYS, bias_axes="c"),
  )
  def test_other_last_layers_are_refused(self, head):
    with self.assertRaisesRegex(ValueError, "last layer.*Received"):
      tfmeta.ProtoNet(classifier(head))

  def test_an_ignored_class_makes_no_prototype(self):
    loss = keras.losses.SparseCategoricalCrossentropy(
      from_logits=True, ignore_class=1
    )
    learner = tfmeta.ProtoNet(classifier(), inner_loss=loss)
    bias = np.array(learner.adapt(examples(), LABELS)[-1])
    np.testing.assert_array_equal(bias < -1e8, [False, True, False, True])

  def test_a_label_for_each_time_step_is_refused(self):
    network = keras.Sequential(
      [keras.Input((5, 3)), keras.layers.Dense(8), keras.layers.Dense(WAYS)]
    )
    with self.assertRaisesRegex(ValueError, r"one label .*\(None, 5, 4\)"):
      tfmeta.ProtoNet(network)

  def test_inner_steps_are_refused(self):
    with self.assertRaisesRegex(ValueError, "no gradient steps.*inner_steps"):
      tfmeta.ProtoNet(classifier(), inner_steps=3)

  def test_a_regression_is_refused(self):
    with self.assertRaisesRegex(ValueError, "class labels.*Received.*mse"):
      tfmeta.ProtoNet(classifier(), inner_loss="mse")


if __name__ == "__main__":
  absltest.main()
