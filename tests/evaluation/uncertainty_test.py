"""Tests the uncertainty metrics of `evaluate`, for all kinds of learners."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.evaluation import measurements


def classification_tasks(count=6):
  random = np.random.default_rng(0)
  labels = np.tile(np.arange(3), (count, 4))
  x = random.normal(size=(count, 3, 2))[np.arange(count)[:, None], labels]
  x = (2 * x + random.normal(size=x.shape)).astype("float32")
  inputs = {
    "support_x": x[:, :6],
    "support_y": labels[:, :6].astype("int32"),
    "query_x": x[:, 6:],
  }
  return inputs, labels[:, 6:].astype("int32")


def regression_tasks(count=5):
  random = np.random.default_rng(1)
  x = random.uniform(-1, 1, (count, 9, 1)).astype("float32")
  y = x * random.normal(size=(count, 1, 1)).astype("float32")
  inputs = {"support_x": x[:, :4], "support_y": y[:, :4], "query_x": x[:, 4:]}
  return inputs, y[:, 4:]


def make(cls, *, outputs, **options):
  keras.utils.set_random_seed(0)
  inputs = 2 if outputs == 3 else 1
  model = tfmeta.models.mlp((inputs,), outputs=outputs, hidden=(8,))
  options = {"inner_steps": 1, "inner_learning_rate": 0.1, **options}
  return cls(model, **options)


def batches(tasks):
  return tf.data.Dataset.from_tensor_slices(tasks).batch(4)


@functools.cache
def result_of_maml():
  """Returns the result of a MAML of three classes on the default tasks."""
  learner = make(tfmeta.MAML, outputs=3)
  return tfmeta.evaluate(learner, batches(classification_tasks()))


LEARNERS = (
  (tfmeta.MAML, {}),
  (tfmeta.PLATIPUS, {"num_samples": 3}),
  (tfmeta.EMAML, {"num_particles": 3}),
  (tfmeta.BMAML, {"num_particles": 3, "inner_learning_rate": 0.01}),
)


class ClassificationTest(parameterized.TestCase):
  @parameterized.parameters(*LEARNERS)
  def test_metrics_equal_those_of_the_predictions(self, cls, options):
    learner = make(cls, outputs=3, **options)
    learner.compile(
      metrics=["accuracy", tfmeta.metrics.BrierScore()],
    )
    inputs, labels = classification_tasks()
    found = tfmeta.evaluate(learner, batches((inputs, labels)))
    expected = learner.evaluate(
      batches((inputs, labels)), verbose=0, return_dict=True
    )
    # Keras 3.12 returns tensors, which have no `round`.
    expected = {name: float(value) for name, value in expected.items()}
    self.assertAlmostEqual(found.mean, expected["accuracy"], places=5)
    self.assertAlmostEqual(found.brier[-1], expected["brier_score"], places=5)
    self.assertAlmostEqual(found.nll[-1], expected["loss"], places=4)

  def test_reliability_counts_all_queries_after_adapting(self):
    _, labels = classification_tasks()
    found = result_of_maml()
    count, confidence, right = found.reliability.T
    self.assertEqual(count.sum(), labels.size)
    self.assertAlmostEqual(right.sum() / labels.size, found.mean)
    gaps = np.abs(confidence - right).sum() / labels.size
    self.assertAlmostEqual(gaps, found.ece[-1], places=6)

  def test_selective_accuracy_is_over_the_queries_of_all_tasks(self):
    learner = make(tfmeta.MAML, outputs=3)
    inputs, labels = classification_tasks()
    found = result_of_maml()
    chances = tf.nn.softmax(learner(inputs)).numpy()
    expected = tfmeta.metrics.selective_accuracy(
      chances.max(axis=-1), chances.argmax(axis=-1) == labels
    )
    np.testing.assert_allclose(found.selective_accuracy, expected, atol=1e-6)
    self.assertAlmostEqual(found.selective_accuracy[-1], found.mean)

  def test_all_metrics_are_in_the_dict_and_the_text(self):
    found = result_of_maml()
    numbers = found.to_dict()
    self.assertLen(numbers["selective_accuracy"], 10)
    self.assertLen(numbers["reliability"], 15)
    self.assertAlmostEqual(numbers["brier"], found.brier[-1])
    self.assertIn("Brier", str(found))
    self.assertIn("most confident half", str(found))

  def test_confidence_keeps_its_order_if_probabilities_round_to_1(self):
    learner = make(tfmeta.MAML, outputs=3)
    outputs = tf.constant([[40.0, 0, 0], [0, 60, 0], [0, 0, 50], [1, 2, 3]])
    labels = tf.constant([0, 1, 2, 0])
    measured = measurements.of_outputs(learner, labels, outputs, None, None)
    found = measured["confidence"]
    expected = [40 - np.log(2), 60 - np.log(2), 50 - np.log(2), None]
    expected[3] = 3 - np.log(np.exp(1) + np.exp(2))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


class RegressionTest(parameterized.TestCase):
  @parameterized.parameters(
    (tfmeta.PLATIPUS, {"num_samples": 3, "noise_stddev": 0.5}),
    (tfmeta.EMAML, {"num_particles": 3, "noise_stddev": 0.5}),
    (tfmeta.BMAML, {"num_particles": 3, "inner_learning_rate": 1e-3}),
  )
  def test_likelihood_equals_that_of_the_distribution(self, cls, options):
    learner = make(cls, outputs=1, inner_loss="mse", **options)
    inputs, targets = regression_tasks(1)
    found = tfmeta.evaluate(learner, batches((inputs, targets)))
    weights = learner.adapt(inputs["support_x"][0], inputs["support_y"][0])
    predicted = learner.predict_distribution(weights, inputs["query_x"][0])
    expected = -tf.reduce_mean(predicted.log_prob(targets[0]))
    self.assertAlmostEqual(found.nll[-1], float(expected), places=4)

  @parameterized.parameters(
    (tfmeta.EMAML, {}), (tfmeta.BMAML, {"inner_learning_rate": 1e-3})
  )
  def test_given_noise_replaces_that_of_the_learner(self, cls, options):
    tasks = batches(regression_tasks())
    learner = make(cls, outputs=1, inner_loss="mse", num_particles=1, **options)
    found = tfmeta.evaluate(learner, tasks, noise_stddev=3.0)
    expected = found.mean / 18 + np.log(3.0) + 0.5 * np.log(2 * np.pi)
    self.assertAlmostEqual(found.nll[-1], expected, places=5)

  def test_an_ensemble_has_the_likelihood_of_its_mean(self):
    learner = make(tfmeta.MAML, outputs=1, inner_loss="mse")
    tasks = batches(regression_tasks())
    one, two = (
      tfmeta.evaluate(learners, tasks, noise_stddev=0.5)
      for learners in (learner, [learner, learner])
    )
    np.testing.assert_allclose(two.nll, one.nll, rtol=1e-5)

  def test_noise_may_be_given_to_a_learner_without(self):
    learner = make(tfmeta.MAML, outputs=1, inner_loss="mse")
    tasks = batches(regression_tasks())
    self.assertIsNone(tfmeta.evaluate(learner, tasks).nll)
    found = tfmeta.evaluate(learner, tasks, noise_stddev=0.5)
    # For a Gaussian of known spread, the likelihood follows from the squared
    # error.
    expected = 2 * found.mean + np.log(0.5) + 0.5 * np.log(2 * np.pi)
    self.assertAlmostEqual(found.nll[-1], expected, places=5)
    self.assertIn("NLL", str(found))

  @parameterized.parameters(0.0, -1.0, float("nan"), "much")
  def test_noise_must_be_positive(self, noise):
    learner = make(tfmeta.MAML, outputs=1, inner_loss="mse")
    with self.assertRaisesRegex(ValueError, "Received: noise_stddev="):
      tfmeta.evaluate(learner, batches(regression_tasks()), noise_stddev=noise)

  def test_noise_makes_no_sense_for_classes(self):
    learner = make(tfmeta.MAML, outputs=3)
    with self.assertRaisesRegex(
      ValueError, "applies to a regression .*only. Received"
    ):
      tfmeta.evaluate(
        learner, batches(classification_tasks()), noise_stddev=0.5
      )


if __name__ == "__main__":
  absltest.main()
