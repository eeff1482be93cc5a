"""Tests what learners say of the metrics that `compile` was given."""

import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

import tfmeta

X = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
LABELS = np.tile([0, 1], (2, 3)).astype("int32")
LOGITS = keras.losses.BinaryCrossentropy(from_logits=True)
ONE_HOT = keras.losses.CategoricalCrossentropy(from_logits=True)


def measured(metric, targets=LABELS, outputs=2, weights=None, **kwargs):
  model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs)])
  learner = tfmeta.MAML(model, task_map="vectorize", **kwargs)
  learner.compile("sgd", metrics=[metric], run_eagerly=True)
  inputs = {"support_x": X, "support_y": targets, "query_x": X}
  logs = learner.evaluate(
    inputs, targets, sample_weight=weights, verbose=0, return_dict=True
  )
  return learner, logs


class MisfitTest(parameterized.TestCase):
  @parameterized.parameters(
    "categorical_accuracy", "binary_accuracy", "mse", keras.metrics.F1Score()
  )
  def test_metrics_of_each_output_take_no_integer_labels(self, metric):
    # Keras compares the label of one example with the best of all examples.
    with self.assertRaisesRegex(
      ValueError, "^The metric .* integer labels: use 'accuracy'.*Received: "
    ):
      measured(metric)

  def test_metrics_of_labels_take_no_one_hot_labels(self):
    with self.assertRaisesRegex(ValueError, "one-hot labels.*Received"):
      measured(
        "sparse_categorical_accuracy", np.eye(2)[LABELS], inner_loss=ONE_HOT
      )

  @parameterized.parameters(
    "accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)
  )
  def test_metrics_that_fit_are_taken(self, metric):
    _, logs = measured(metric)
    self.assertLen(logs, 2)

  @parameterized.parameters(None, 1.0)
  def test_a_failing_metric_is_named(self, weight):
    def difference(y, y_pred):
      return keras.ops.mean(y_pred - keras.ops.cast(y, "float32"), axis=-1)

    weights = None if weight is None else np.full((2, 6), weight)
    with self.assertRaisesRegex(
      ValueError,
      r"^The metric 'difference' must take targets of shape \(12,\) for "
      r"outputs of shape \(12, 2\)[^\n]*Received[^\n]*$",
    ):
      measured(difference, weights=weights)


class WarningsTest(parameterized.TestCase):
  @parameterized.parameters(
    ("binary_accuracy", "threshold=0.0"),
    ("auc", "from_logits=True"),
    ("recall", "thresholds=0.0"),
    ("binary_crossentropy", "from_logits=True"),
  )
  def test_metrics_of_probabilities_and_logits(self, metric, argument):
    targets = LABELS[..., np.newaxis].astype("float32")
    options = {"targets": targets, "outputs": 1, "inner_loss": LOGITS}
    with self.assertWarnsRegex(UserWarning, rf"logits: use .*\({argument}\)"):
      measured(metric, **options)

  def test_metrics_that_take_logits_are_not_warned_of(self):
    metric = keras.metrics.SparseCategoricalCrossentropy(from_logits=True)
    with warnings.catch_warnings():
      warnings.simplefilter("error", UserWarning)
      _, logs = measured(metric)
    self.assertAlmostEqual(
      logs["loss"], logs["sparse_categorical_crossentropy"], places=5
    )


class LossWeightsTest(absltest.TestCase):
  def test_weights_of_losses_are_refused(self):
    learner, _ = measured("accuracy")
    learner.compile("sgd", loss_weights=100.0)
    inputs = {"support_x": X, "support_y": LABELS, "query_x": X}
    with self.assertRaisesRegex(
      ValueError, "no `loss_weights`.*Received: .*100"
    ):
      learner.fit(inputs, LABELS, verbose=0)


if __name__ == "__main__":
  absltest.main()
