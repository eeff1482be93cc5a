import functools
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta import evaluation


class Recorder(tfmeta.MAML):
  """A MAML that counts how often its inner loop is traced."""

  traces = 0

  def adaptation_path(self, support_x, support_y, context=tfmeta.EVALUATION):
    self.traces += 1
    return super().adaptation_path(support_x, support_y, context)


class BeforeAndAfter(tfmeta.MetaLearner):
  """A learner that returns no weights between its steps."""

  def adapt(self, support_x, support_y, context=tfmeta.EVALUATION):
    return [w + 1.0 for w in self.model.trainable_variables]


def classification_tasks(count=7, *, ways=3, shots=2, query_shots=4, seed=0):
  """Returns tasks of Gaussian classes in the plane, new ones for each task."""
  random = np.random.default_rng(seed)
  centers = 2 * random.normal(size=(count, ways, 1, 2))
  examples = shots + query_shots
  x = centers + random.normal(size=(count, ways, examples, 2))
  y = np.broadcast_to(np.arange(ways)[:, None], (count, ways, examples))
  x, y = x.astype("float32"), y.astype("int32")

  def rows(array, part):
    part = array[:, :, part]
    return part.reshape(count, -1, *array.shape[3:])

  support, query = slice(0, shots), slice(shots, None)
  inputs = {
    "support_x": rows(x, support),
    "support_y": rows(y, support),
    "query_x": rows(x, query),
  }
  return inputs, rows(y, query)


def regression_tasks(count=5):
  random = np.random.default_rng(1)
  x = random.uniform(-5, 5, (count, 18, 1)).astype("float32")
  y = np.sin(x) * random.uniform(0.1, 5, (count, 1, 1)).astype("float32")
  inputs = {
    "support_x": x[:, :10],
    "support_y": y[:, :10],
    "query_x": x[:, 10:],
  }
  return inputs, y[:, 10:]


def dataset(tasks, batch=3):
  return tf.data.Dataset.from_tensor_slices(tasks).batch(batch)


def make_classifier(cls=tfmeta.MAML, **options):
  keras.utils.set_random_seed(0)
  model = tfmeta.models.mlp((2,), outputs=3, hidden=(8,))
  options = {"inner_steps": 2, "inner_learning_rate": 0.3, **options}
  return cls(model, **options)


@functools.cache
def result_of_classifier():
  """Returns the result of the default classifier on the default tasks."""
  return tfmeta.evaluate(make_classifier(), dataset(classification_tasks()))


def make_regressor(**options):
  keras.utils.set_random_seed(0)
  model = tfmeta.models.mlp((1,), outputs=1, hidden=(8,))
  return tfmeta.MAML(model, inner_loss="mse", inner_steps=3, **options)


class ClassificationTest(parameterized.TestCase):
  @parameterized.parameters("map", "vectorize", "auto")
  def test_metrics_after_adaptation_equal_those_of_keras(self, task_map):
    learner = make_classifier(task_map=task_map)
    learner.compile(
      metrics=["accuracy", tfmeta.metrics.ExpectedCalibrationError()]
    )
    tasks = dataset(classification_tasks())
    expected = learner.evaluate(tasks, return_dict=True, verbose=0)
    found = tfmeta.evaluate(learner, tasks)
    self.assertAlmostEqual(found.mean, expected["accuracy"], places=6)
    self.assertAlmostEqual(found.nll[-1], expected["loss"], places=5)
    self.assertAlmostEqual(
      found.ece[-1], expected["expected_calibration_error"], places=5
    )

  def test_every_step_is_measured_under_its_own_weights(self):
    learner = make_classifier()
    inputs, targets = classification_tasks()
    found = result_of_classifier()
    self.assertEqual(found.after_steps, (0, 1, 2))
    for task in range(4):
      path = learner.adaptation_path(
        tf.constant(inputs["support_x"][task]),
        tf.constant(inputs["support_y"][task]),
      )
      for point, weights in enumerate(path):
        outputs = learner.predict_with(weights, inputs["query_x"][task])
        right = np.argmax(outputs, axis=-1) == targets[task]
        self.assertAlmostEqual(found.per_task[task, point], right.mean())

  def test_before_adaptation_is_the_initial_model(self):
    learner = make_classifier()
    inputs, targets = classification_tasks()
    outputs = learner.model.predict(
      inputs["query_x"].reshape(-1, 2), verbose=0
    ).reshape(*targets.shape, 3)
    found = result_of_classifier()
    expected = (outputs.argmax(axis=-1) == targets).mean()
    self.assertAlmostEqual(found.to_dict()["before_adaptation"], expected)

  def test_evaluation_steps_are_taken_and_not_training_steps(self):
    learner = make_classifier(inner_steps=1, eval_inner_steps=4)
    found = tfmeta.evaluate(learner, dataset(classification_tasks()))
    self.assertEqual(found.after_steps, (0, 1, 2, 3, 4))

  def test_many_steps_are_measured_before_and_after(self):
    learner = make_classifier(eval_inner_steps=30)
    found = tfmeta.evaluate(learner, dataset(classification_tasks()))
    self.assertEqual(found.after_steps, (0, 30))

  def test_learners_without_a_path_are_measured_before_and_after(self):
    learner = make_classifier(BeforeAndAfter, inner_steps=3)
    found = tfmeta.evaluate(learner, dataset(classification_tasks()))
    self.assertEqual(found.after_steps, (0, 3))
    self.assertEqual(found.per_task.shape, (7, 2))

  def test_random_numbers_of_a_task_are_those_of_call(self):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
      [
        keras.Input((2,)),
        keras.layers.Dense(8),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(3),
      ]
    )
    inputs, targets = classification_tasks(6)
    nll = []
    for seed in (0, 1):
      learner = tfmeta.MAML(model, inner_learning_rate=1.0, seed=seed)
      found = tfmeta.evaluate(learner, dataset((inputs, targets), batch=6))
      expected = (np.argmax(learner(inputs), axis=-1) == targets).mean(axis=1)
      np.testing.assert_allclose(found.per_task[:, -1], expected, atol=1e-6)
      nll.append(np.array(found.nll_per_task)[:, -1])
    # Dropout in the inner loop matters.
    self.assertGreater(np.abs(nll[0] - nll[1]).max(), 1e-3)

  def test_one_trace_for_all_batches_and_a_partial_last_one(self):
    learner = make_classifier(Recorder, task_map="map")
    tfmeta.evaluate(learner, dataset(classification_tasks(7), batch=3))
    self.assertEqual(learner.traces, 1)

  def test_figures_of_outputs_that_are_no_numbers_are_nan(self):
    inputs, targets = classification_tasks(3)
    inputs["query_x"][1, 0] = np.nan
    data = dataset((inputs, targets), batch=2)
    with self.assertWarnsRegex(UserWarning, "NaN for task 1 at point 0"):
      result = tfmeta.evaluate(make_classifier(), data)
    expected = tfmeta.evaluate(
      make_classifier(), dataset(classification_tasks(3))
    )
    for found, right in (
      (result.per_task, expected.per_task),
      (result.nll_per_task, expected.nll_per_task),
      (result.brier_per_task, expected.brier_per_task),
    ):
      np.testing.assert_allclose(found[::2], right[::2], rtol=1e-5)
      self.assertTrue(np.isnan(found[1]).all())
    self.assertTrue(np.isnan(result.mean))
    self.assertTrue(np.isnan(result.ece).all())
    self.assertTrue(np.isnan(result.selective_accuracy[-1]))

  def test_batch_size_does_not_change_the_metrics(self):
    one = result_of_classifier()  # Batches have 3, 3 and 1 tasks.
    other = tfmeta.evaluate(
      make_classifier(), dataset(classification_tasks(), batch=7)
    )
    np.testing.assert_allclose(one.per_task, other.per_task)
    np.testing.assert_allclose(one.nll, other.nll, rtol=1e-5)
    np.testing.assert_allclose(one.ece, other.ece, rtol=1e-4)

  def test_unrolled_tasks(self):
    learner = make_classifier(task_map="unroll")
    inputs, targets = classification_tasks()
    two = {key: value[:2] for key, value in inputs.items()}
    tasks = tf.data.Dataset.from_tensors((two, targets[:2]))
    found = tfmeta.evaluate(learner, tasks)
    expected = result_of_classifier().per_task[:2]
    np.testing.assert_allclose(found.per_task, expected)

  def test_nearest_neighbour_is_measured_per_task(self):
    inputs, targets = classification_tasks(4)
    tasks = dataset((inputs, targets))
    learner = make_classifier()
    found = tfmeta.evaluate(learner, tasks, nearest_neighbour=True)
    gaps = inputs["query_x"][:, :, None] - inputs["support_x"][:, None]
    nearest = (gaps**2).sum(axis=-1).argmin(axis=-1)
    labels = np.take_along_axis(inputs["support_y"], nearest, axis=1)
    expected = (labels == targets).mean(axis=1)
    np.testing.assert_allclose(found.nearest_neighbour, expected, atol=1e-6)
    self.assertIsNone(result_of_classifier().nearest_neighbour)

  def test_inner_loss_tells_probabilities_from_logits(self):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(3, activation="softmax")(inputs)
    learner = tfmeta.MAML(
      keras.Model(inputs, outputs),
      inner_loss=keras.losses.SparseCategoricalCrossentropy(),
    )
    learner.compile()
    tasks = dataset(classification_tasks())
    expected = learner.evaluate(tasks, return_dict=True, verbose=0)["loss"]
    found = tfmeta.evaluate(learner, tasks)
    self.assertAlmostEqual(found.nll[-1], expected, places=5)

  def test_result_describes_the_evaluation(self):
    found = result_of_classifier()
    self.assertIsInstance(found, evaluation.EvaluationResult)
    self.assertEqual((found.learner, found.tasks), ("MAML", 7))
    self.assertEqual((found.ways, found.shots, found.query_shots), (3, 2, 4))
    self.assertEqual((found.normalization, found.transductive), ("none", False))

  def test_fewer_classes_than_outputs_are_reported(self):
    tasks = classification_tasks(ways=2, shots=3, query_shots=4)
    found = tfmeta.evaluate(make_classifier(), dataset(tasks))
    self.assertEqual((found.ways, found.shots, found.query_shots), (2, 3, 4))

  @parameterized.parameters(("transductive", True), ("support_stats", False))
  def test_normalization_is_reported(self, normalization, transductive):
    inputs = keras.Input((2,))
    x = tfmeta.layers.BatchNormalization()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    learner = tfmeta.MAML(model, normalization=normalization)
    found = tfmeta.evaluate(learner, dataset(classification_tasks(2)))
    self.assertEqual(found.normalization, normalization)
    self.assertEqual(found.transductive, transductive)


class KindsOfLabelsTest(absltest.TestCase):
  """Tests that each kind of labels gives the metrics of integer labels."""

  def assert_same(self, found, expected):
    np.testing.assert_allclose(found.per_task, expected.per_task, atol=1e-6)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-4)
    np.testing.assert_allclose(found.brier, expected.brier, rtol=1e-4)
    self.assertEqual(found.ways, expected.ways)

  def test_one_hot(self):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    inputs, targets = classification_tasks()
    one_hot = np.eye(3, dtype="float32")
    inputs = {**inputs, "support_y": one_hot[inputs["support_y"]]}
    tasks = dataset((inputs, one_hot[targets]))
    found = tfmeta.evaluate(make_classifier(inner_loss=loss), tasks)
    self.assert_same(found, result_of_classifier())

  def test_binary(self):
    # A logit z means the same as the two logits 0 and z.
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(8, activation="tanh")
    x = keras.Input((2,))
    one = keras.Model(x, keras.layers.Dense(1)(hidden(x)))
    both = keras.Model(x, keras.ops.concatenate([0 * one(x), one(x)], axis=-1))
    inputs, targets = classification_tasks(ways=2)
    columns = {**inputs, "support_y": inputs["support_y"][..., None]}
    binary = tfmeta.MAML(
      one, inner_loss=keras.losses.BinaryCrossentropy(from_logits=True)
    )
    found = tfmeta.evaluate(binary, dataset((columns, targets[..., None])))
    expected = tfmeta.evaluate(tfmeta.MAML(both), dataset((inputs, targets)))
    self.assert_same(found, expected)

  def test_several_binary_labels_count_one_by_one(self):
    inputs, targets = classification_tasks()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    one_hot = np.eye(3, dtype="float32")
    inputs = {**inputs, "support_y": one_hot[inputs["support_y"]]}
    targets = one_hot[targets]
    learner = make_classifier(inner_loss=loss)
    learner.compile()
    tasks = dataset((inputs, targets))
    with warnings.catch_warnings():
      warnings.simplefilter("error", UserWarning)
      found = tfmeta.evaluate(learner, tasks)
    right = (learner.predict(inputs, verbose=0) > 0) == (targets > 0)
    np.testing.assert_allclose(found.per_task[:, -1], right.mean(axis=(1, 2)))
    loss = learner.evaluate(inputs, targets, verbose=0)
    self.assertAlmostEqual(found.nll[-1], loss, places=5)
    self.assertIsNone(found.ways)


class EnsembleTest(parameterized.TestCase):
  def members(self):
    learners = [make_classifier() for _ in range(2)]
    for variable in learners[1].model.trainable_variables:
      variable.assign(-2.0 * variable + 0.1)
    return learners

  def test_logits_are_averaged(self):
    learners = self.members()
    inputs, targets = classification_tasks(4)
    found = tfmeta.evaluate(learners, dataset((inputs, targets)))
    logits = [learner.predict(inputs, verbose=0) for learner in learners]
    logs = tf.nn.log_softmax((logits[0] + logits[1]) / 2).numpy()
    nll = -np.take_along_axis(logs, targets[..., None], axis=-1).mean()
    self.assertAlmostEqual(found.nll[-1], nll, places=5)
    probabilities = (tf.nn.softmax(logits[0]) + tf.nn.softmax(logits[1])) / 2
    other = -np.log(
      np.take_along_axis(probabilities.numpy(), targets[..., None], axis=-1)
    ).mean()
    self.assertNotAlmostEqual(nll, other, places=3)
    self.assertEqual(found.to_dict()["members"], 2)
    self.assertStartsWith(str(found), "Ensemble of 2 MAML on 4 tasks")

  def test_equal_members_predict_as_one(self):
    tasks = dataset(classification_tasks())
    one = result_of_classifier()
    three = tfmeta.evaluate([make_classifier() for _ in range(3)], tasks)
    np.testing.assert_allclose(three.per_task, one.per_task)
    np.testing.assert_allclose(three.nll, one.nll, rtol=1e-5)

  def test_members_must_fit_each_other(self):
    tasks = dataset(classification_tasks())
    with self.assertRaisesRegex(
      ValueError, "same `inner_steps`.*Received: .2, 3"
    ):
      tfmeta.evaluate(
        [make_classifier(), make_classifier(inner_steps=3)], tasks
      )
    with self.assertRaisesRegex(TypeError, "or a list of learners.*Received"):
      tfmeta.evaluate([], tasks)


class RegressionTest(parameterized.TestCase):
  def test_metrics_equal_those_of_keras(self):
    learner = make_regressor()
    learner.compile()
    tasks = dataset(regression_tasks())
    found = tfmeta.evaluate(learner, tasks)
    expected = learner.evaluate(tasks, return_dict=True, verbose=0)["loss"]
    self.assertEqual(found.metric, "mse")
    self.assertAlmostEqual(found.mean, expected, places=5)
    self.assertEqual(found.after_steps, (0, 1, 2, 3))
    self.assertEqual((found.shots, found.query_shots), (10, 8))
    self.assertIsNone(found.nll)
    self.assertIsNone(found.ways)


class BadInputTest(parameterized.TestCase):
  def test_not_a_learner(self):
    with self.assertRaisesRegex(TypeError, "must be a tfmeta.MetaLearner"):
      tfmeta.evaluate(make_classifier().model, dataset(classification_tasks()))

  def test_not_a_dataset(self):
    with self.assertRaisesRegex(TypeError, "tf.data.Dataset.*type tuple"):
      tfmeta.evaluate(make_classifier(), classification_tasks())

  def test_infinite_dataset_is_told_to_take(self):
    tasks = dataset(classification_tasks()).repeat()
    with self.assertRaisesRegex(ValueError, r"use .take\(n\)"):
      tfmeta.evaluate(make_classifier(), tasks)

  def test_single_tasks_are_told_to_be_batched(self):
    tasks = tf.data.Dataset.from_tensor_slices(classification_tasks())
    with self.assertRaisesRegex(ValueError, r"use .batch\(n\)"):
      tfmeta.evaluate(make_classifier(), tasks)

  def test_empty_dataset(self):
    tasks = dataset(classification_tasks()).take(0)
    with self.assertRaisesRegex(ValueError, "at least one task with queries"):
      tfmeta.evaluate(make_classifier(), tasks)

  def test_wrong_structure(self):
    tasks = dataset(classification_tasks()).map(lambda x, y: x)
    with self.assertRaisesRegex(ValueError, r"pairs \(inputs, query_y\)"):
      tfmeta.evaluate(make_classifier(), tasks)

  def test_missing_key(self):
    tasks = dataset(classification_tasks())
    tasks = tasks.map(lambda x, y: ({"support_x": x["support_x"]}, y))
    with self.assertRaisesRegex(ValueError, "keys support_x"):
      tfmeta.evaluate(make_classifier(), tasks)

  def test_one_hot_labels(self):
    tasks = dataset(classification_tasks())
    tasks = tasks.map(lambda x, y: (x, tf.one_hot(y, 3)))
    with self.assertRaisesRegex(ValueError, "must be integers"):
      tfmeta.evaluate(make_classifier(), tasks)

  def test_targets_without_the_last_axis_are_the_same(self):
    tasks = dataset(regression_tasks())
    learner = make_regressor()
    expected = tfmeta.evaluate(learner, tasks).per_task
    tasks = tasks.map(lambda x, y: (x, tf.squeeze(y, -1)))
    found = tfmeta.evaluate(learner, tasks).per_task
    np.testing.assert_array_equal(found, expected)

  def test_several_targets_for_one_output(self):
    tasks = dataset(regression_tasks())
    tasks = tasks.map(lambda x, y: (x, tf.repeat(y, 3, axis=-1)))
    with self.assertRaisesRegex(
      ValueError, r"numbers of the shape \[T, n, 1\]"
    ):
      tfmeta.evaluate(make_regressor(), tasks)

  @parameterized.parameters("support_y", "query_y")
  def test_labels_out_of_range(self, which):
    inputs, targets = classification_tasks()
    if which == "support_y":
      inputs["support_y"] = inputs["support_y"] + 1
    else:
      targets = targets + 1
    with self.assertRaisesRegex(ValueError, "^[SQ].* 0 to 2.*1 to 3$"):
      tfmeta.evaluate(make_classifier(), dataset((inputs, targets)))


if __name__ == "__main__":
  absltest.main()
