"""Tests evaluations in which few queries are predicted at once."""

from typing import Any

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.evaluation import passes

WAYS, QUERIES = 3, 5


def _learner(cls: Any = tfmeta.MAML, outputs=WAYS, **options):
  keras.utils.set_random_seed(0)
  inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((1,), name="b")}
  x = keras.layers.Concatenate()(list(inputs.values()))
  x = tfmeta.layers.BatchNormalization()(keras.layers.Dense(5)(x))
  model = keras.Model(inputs, keras.layers.Dense(outputs)(x))
  return cls(model, inner_learning_rate=0.1, **options)


def _tasks(queries=QUERIES):
  """Returns three tasks for a model with two inputs."""
  random = np.random.default_rng(0)

  def examples(count):
    a = random.normal(size=(3, count, 2)).astype("float32")
    b = random.normal(size=(3, count, 1)).astype("float32")
    return {"a": a, "b": b}

  inputs = {
    "support_x": examples(6),
    "support_y": np.tile(np.arange(WAYS, dtype="int32"), (3, 2)),
    "query_x": examples(QUERIES),
  }
  labels = random.integers(WAYS, size=(3, QUERIES)).astype("int32")
  part = {k: v[:, :queries] for k, v in inputs["query_x"].items()}
  return {**inputs, "query_x": part}, labels[:, :queries]


def _data(tasks, batch=2):
  return tf.data.Dataset.from_tensor_slices(tasks).batch(batch)


def _assert_equal(found, expected, *names):
  """Asserts that two results have the same numbers."""
  for name in names:
    np.testing.assert_allclose(
      getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-6
    )


def _accuracy_in_passes(learner, size):
  """Returns the accuracy of each task, computed eagerly pass by pass."""
  inputs, labels = _tasks()
  found = []
  for t in range(len(labels)):
    one = tf.nest.map_structure(lambda x, t=t: tf.constant(x[t]), inputs)
    weights = learner.adapt(one["support_x"], one["support_y"])
    outputs = [
      learner.predict_with(
        weights, {k: v[i : i + size] for k, v in one["query_x"].items()}
      )
      for i in range(0, QUERIES, size)
    ]
    guess = np.argmax(np.concatenate(outputs), axis=-1)
    found.append(np.mean(guess == labels[t]))
  return found


class QueriesAtOnceTest(parameterized.TestCase):
  @parameterized.parameters(
    (1, "map"), (2, "map"), (2, "vectorize"), (9, "map")
  )
  def test_equals_predictions_pass_by_pass(self, size, task_map):
    # This catches one pass for all queries, passes that lose the last queries
    # or change their order, and structures that are taken for tensors.
    learner = _learner(task_map=task_map)
    result = tfmeta.evaluate(learner, _data(_tasks()), queries_at_once=size)
    expected = _accuracy_in_passes(learner, size)
    np.testing.assert_allclose(result.per_task[:, -1], expected, atol=1e-6)
    self.assertEqual(result.queries_at_once, size)
    self.assertEqual(result.to_dict()["queries_at_once"], size)
    at_once = "1 query at once" if size == 1 else f"{size} queries at once"
    self.assertIn(f"on the other queries, {at_once}\n", str(result))

  def test_passes_see_the_queries_that_count(self):
    # This catches passes in which padding takes the place of a query.
    learner = _learner()
    inputs, labels = _tasks(queries=4)
    alone = tfmeta.evaluate(learner, _data((inputs, labels)), queries_at_once=2)
    places = [0, 0, 1, 0, 2, 3]
    weight = np.array([[1, 0, 1, 0, 1, 1]] * 3, "float32")
    query_x = {k: v[:, places] for k, v in inputs["query_x"].items()}
    padded = ({**inputs, "query_x": query_x}, labels[:, places], weight)
    found = tfmeta.evaluate(learner, _data(padded), queries_at_once=2)
    names = ("per_task", "nll_per_task", "ece", "selective_accuracy")
    _assert_equal(found, alone, *names)

  def test_takes_batches_whose_tasks_have_other_numbers_of_queries(self):
    learner = _learner()

    def batches():
      yield _tasks(queries=4)
      yield _tasks(queries=1)

    spec = tf.nest.map_structure(
      lambda x: tf.TensorSpec([3, None, *x.shape[2:]], x.dtype), _tasks()
    )
    data = tf.data.Dataset.from_generator(batches, output_signature=spec)
    result = tfmeta.evaluate(learner, data.take(2), queries_at_once=3)
    expected = [
      tfmeta.evaluate(learner, _data(_tasks(n), 3), queries_at_once=3).per_task
      for n in (4, 1)
    ]
    np.testing.assert_allclose(result.per_task, np.concatenate(expected))

  def test_samples_of_a_regression_keep_their_likelihood(self):
    # This catches passes that are put together along the axis of samples. The
    # support set normalizes, so passes change nothing.
    learner = _learner(
      tfmeta.EMAML,
      outputs=1,
      num_particles=2,
      inner_loss="mse",
      normalization="support_stats",
    )
    inputs, labels = _tasks()
    targets = labels[..., np.newaxis].astype("float32")
    support_y = inputs["support_y"][..., np.newaxis].astype("float32")
    data = _data(({**inputs, "support_y": support_y}, targets))
    whole = tfmeta.evaluate(learner, data)
    single = tfmeta.evaluate(learner, data, queries_at_once=2)
    _assert_equal(single, whole, "per_task", "nll_per_task")

  def test_support_statistics_measure_what_is_exported(self):
    learner = _learner()
    data = _data(_tasks())
    made = _learner(normalization="support_stats")
    expected = tfmeta.evaluate(made, data)
    found = tfmeta.evaluate(
      learner, data, normalization="support_stats", queries_at_once=1
    )
    _assert_equal(found, expected, "nll_per_task")
    self.assertEqual(found.normalization, "support_stats")
    self.assertFalse(found.transductive)

  def test_refuses_numbers_below_1(self):
    sizes: tuple[Any, ...] = (0, -1, 1.5, True)
    for size in sizes:
      with self.assertRaisesRegex(ValueError, "queries_at_once.*Received"):
        tfmeta.evaluate(_learner(), _data(_tasks()), queries_at_once=size)
    with self.assertRaisesRegex(ValueError, "normalization.*Received"):
      tfmeta.evaluate(_learner(), _data(_tasks()), normalization="none")


class InPassesTest(absltest.TestCase):
  def test_each_query_is_in_one_pass(self):
    sizes = []

    def predict(x, context):
      del context
      sizes.append(int(tf.shape(x)[0]))
      return x + 1.0

    x = tf.range(7.0)
    outputs = passes.in_passes(predict, x, tfmeta.EVALUATION, 3)
    np.testing.assert_array_equal(outputs, x + 1.0)
    self.assertEqual(sizes, [3, 3, 1])


if __name__ == "__main__":
  absltest.main()
