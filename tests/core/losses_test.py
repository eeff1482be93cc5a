"""Tests the kinds of targets of a loss, and the mean of several predictions."""

import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import losses
from tfmeta.core.losses import Targets


def _model(*layers):
  return keras.Sequential([keras.Input((4,)), *layers])


SOFTMAX = {
  "activation": lambda: _model(keras.layers.Dense(3, activation="softmax")),
  "layer": lambda: _model(keras.layers.Dense(3), keras.layers.Softmax()),
}


class OwnLabels(keras.losses.SparseCategoricalCrossentropy):
  """A user's loss for class labels, whose name does not show this."""


class OwnSquares(keras.losses.Loss):
  def call(self, y_true, y_pred):
    return tf.reduce_mean(tf.square(y_true - y_pred), axis=-1)


def of_labels(y, y_pred):
  return keras.losses.sparse_categorical_crossentropy(
    y, y_pred, from_logits=True
  )


def gathered(y, y_pred):
  logs = tf.nn.log_softmax(y_pred)
  return -tf.gather(
    logs, tf.cast(y, tf.int32), batch_dims=y_pred.shape.rank - 1
  )


def sparse_in_name_only(y, y_pred):
  return tf.reduce_mean(tf.abs(y - y_pred), axis=-1)


class KindTest(parameterized.TestCase):
  @parameterized.parameters(
    (keras.losses.SparseCategoricalCrossentropy(), Targets.LABELS),
    (keras.losses.sparse_categorical_crossentropy, Targets.LABELS),
    (OwnLabels(from_logits=True), Targets.LABELS),
    (of_labels, Targets.LABELS),
    (gathered, Targets.LABELS),
    (keras.losses.CategoricalCrossentropy(), Targets.ONE_HOT),
    (keras.losses.categorical_focal_crossentropy, Targets.ONE_HOT),
    (keras.losses.BinaryCrossentropy(from_logits=True), Targets.BINARY),
    (keras.losses.MeanSquaredError(), Targets.NUMBERS),
    (keras.losses.Huber(), Targets.NUMBERS),
    (keras.losses.mean_absolute_error, Targets.NUMBERS),
    (OwnSquares(), Targets.NUMBERS),
    (sparse_in_name_only, Targets.NUMBERS),
  )
  def test_the_loss_decides_and_not_its_name(self, loss, expected):
    for shape in ((None, 3), (None, 2)):
      self.assertEqual(losses.kind_of_targets(loss, shape), expected)

  @parameterized.parameters(of_labels, gathered)
  def test_labels_of_pixels_are_labels(self, loss):
    shape = (None, 4, 4, 3)
    self.assertEqual(losses.kind_of_targets(loss, shape), Targets.LABELS)

  def test_numbers_may_come_one_by_one(self):
    for loss in (OwnSquares(), lambda y, y_pred: tf.square(y - y_pred)):
      self.assertEqual(losses.kind_of_targets(loss, (None, 1)), Targets.NUMBERS)

  def test_it_is_known_while_a_graph_is_traced(self):
    kinds = []

    @tf.function
    def trace():
      kinds.append(losses.kind_of_targets(of_labels, (None, 3)))

    trace()
    self.assertEqual(kinds, [Targets.LABELS])

  @parameterized.parameters(
    (keras.losses.SparseCategoricalCrossentropy(from_logits=True), True),
    (keras.losses.SparseCategoricalCrossentropy(), False),
    # Functions of Keras take probabilities unless told otherwise.
    (keras.losses.sparse_categorical_crossentropy, False),
    (of_labels, True),
  )
  def test_logits_or_probabilities(self, loss, expected):
    self.assertEqual(losses.takes_logits(loss), expected)


class MeanPredictionTest(parameterized.TestCase):
  def test_probabilities_of_binary_outputs_are_averaged(self):
    outputs = np.array([[[2.0]], [[-1.0]]], "float32")
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    mean = np.mean(1 / (1 + np.exp(-outputs)), axis=0)
    found = losses.mean_prediction(tf.constant(outputs), loss)
    np.testing.assert_allclose(found, np.log(mean / (1 - mean)), rtol=1e-6)

  @parameterized.parameters(
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalCrossentropy,
  )
  def test_probabilities_of_classes_are_averaged(self, loss):
    outputs = tf.constant([[[2.0, 0.0, 1.0]], [[-1.0, 3.0, 0.0]]])
    mean = tf.reduce_mean(tf.nn.softmax(outputs), axis=0)
    found = losses.mean_prediction(outputs, loss(from_logits=True))
    np.testing.assert_allclose(found, tf.math.log(mean), rtol=1e-6)
    found = losses.mean_prediction(tf.nn.softmax(outputs), loss())
    np.testing.assert_allclose(found, mean, rtol=1e-6)

  def test_a_learner_does_not_try_its_loss_for_each_prediction(self):
    calls = []

    def counted(y, y_pred):
      calls.append(1)
      return of_labels(y, y_pred)

    learner = tfmeta.EMAML(
      _model(keras.layers.Dense(3)), inner_loss=counted, num_particles=2
    )
    self.assertNotEmpty(calls)
    calls.clear()
    learner.mean_prediction(tf.zeros([2, 4, 3]))
    self.assertEmpty(calls)


class LossOfBatchTest(parameterized.TestCase):
  @parameterized.parameters(
    keras.losses.Dice(),
    keras.losses.SparseCategoricalCrossentropy(
      from_logits=True, ignore_class=-1
    ),
  )
  def test_is_the_mean_of_the_losses_of_tasks(self, loss):
    # These losses of all tasks together are another number.
    random = np.random.default_rng(0)
    outputs = tf.constant(random.normal(size=(3, 4, 2)), tf.float32)
    labels = np.array([[0, 1, -1, -1], [1, 1, 0, 0], [0, -1, 1, 0]])
    targets = tf.constant(labels)
    if isinstance(loss, keras.losses.Dice):
      targets = tf.one_hot(labels, 2)
      outputs = tf.nn.softmax(outputs)
    of_tasks = [
      float(losses.reduced_loss(loss, *one))
      for one in zip(targets, outputs, strict=True)
    ]
    found = losses.loss_of_batch(loss, targets, outputs)
    self.assertAlmostEqual(float(found), np.mean(of_tasks), places=6)
    together = losses.reduced_loss(
      loss, losses.merged(targets), losses.merged(outputs)
    )
    self.assertGreater(abs(float(found - together)), 1e-3)
    if not isinstance(loss, keras.losses.Dice):
      weight = tf.constant([[1.0] * 4, [0.0] * 4, [1.0] * 4])
      found = losses.loss_of_batch(loss, targets, outputs, weight)
      expected = (of_tasks[0] + of_tasks[2]) / 2
      self.assertAlmostEqual(float(found), expected, places=6)


class InnerLossTest(parameterized.TestCase):
  @parameterized.named_parameters(*SOFTMAX.items())
  def test_probabilities_where_logits_are_taken_are_warned_of(self, model):
    with self.assertWarnsRegex(UserWarning, "ends in probabilities"):
      tfmeta.MAML(model())

  @parameterized.parameters(
    "sparse_categorical_crossentropy", "categorical_focal_crossentropy"
  )
  def test_logits_where_probabilities_are_taken_are_warned_of(self, loss):
    with self.assertWarnsRegex(UserWarning, "takes probabilities, but .*from_"):
      tfmeta.MAML(_model(keras.layers.Dense(3)), inner_loss=loss)

  def test_one_logit_and_its_loss_fit_each_other(self):
    logit, probability = (
      _model(keras.layers.Dense(1, activation=name))
      for name in (None, "sigmoid")
    )
    of_logits = keras.losses.BinaryCrossentropy(from_logits=True)
    of_probabilities = keras.losses.BinaryCrossentropy()
    with self.assertWarnsRegex(UserWarning, "Remove the softmax or sigmoid"):
      tfmeta.MAML(probability, inner_loss=of_logits)
    with self.assertWarnsRegex(UserWarning, "without an activation"):
      tfmeta.MAML(logit, inner_loss=of_probabilities)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      tfmeta.MAML(logit, inner_loss=of_logits)
      tfmeta.MAML(probability, inner_loss=of_probabilities)
      tfmeta.MAML(logit, inner_loss="mse")

  def test_a_loss_of_probabilities_takes_them(self):
    loss = keras.losses.SparseCategoricalCrossentropy()
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      tfmeta.MAML(SOFTMAX["activation"](), inner_loss=loss)
      tfmeta.MAML(_model(keras.layers.Dense(3)))

  def test_an_unknown_loss_is_named(self):
    with self.assertRaisesRegex(ValueError, "Received: inner_loss='msee'"):
      tfmeta.MAML(_model(keras.layers.Dense(3)), inner_loss="msee")


if __name__ == "__main__":
  absltest.main()
