"""Questions on configuration, saving and export.

Predictions that a saved learner must reproduce are computed eagerly, which
needs no graph.
"""

import pathlib
import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context
from tfmeta.testing.exam import subject as subjects


def check_config_round_trip(case: Any, subject: subjects.Subject) -> None:
  """Checks that `from_config(get_config())` keeps all arguments."""
  learner = subject.make()
  again = type(learner).from_config(learner.get_config())
  case.assertEqual(learner.get_config(), again.get_config())
  case.assertEqual(set(dir(learner)), set(dir(again)) | _compiled(learner))


def _compiled(learner: keras.Model) -> set[str]:
  """Returns the names of the attributes that `compile` adds."""
  fresh = type(learner).from_config(learner.get_config())
  return set(dir(learner)) - set(dir(fresh))


def check_keras_file(case: Any, subject: subjects.Subject) -> None:
  """Checks that a reloaded learner predicts the same and continues to train."""
  learner = subject.reuse()
  data = subject.dataset()
  learner.fit(data.repeat(2), verbose=0)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "learner.keras"
    learner.save(path)
    again = keras.models.load_model(path)
  inputs, _ = subject.tasks()
  np.testing.assert_array_equal(
    subjects.predictions(learner, inputs), subjects.predictions(again, inputs)
  )
  case.assertEqual(int(again.optimizer.iterations), 2)
  for model in (learner, again):
    with subjects.run_eagerly(model):
      model.fit(data, verbose=0)
  pairs = zip(subjects.values(learner), subjects.values(again), strict=True)
  for expected, value in pairs:
    np.testing.assert_array_equal(expected, value)


def check_saved_model(case: Any, subject: subjects.Subject) -> None:
  """Checks that the exported signatures predict as the learner does.

  They must do so for tasks of other sizes too, and take and refuse the same
  support sets. `predict`, which runs in a graph, must give the same
  predictions. A transductive learner is exported for single queries.
  """
  learner = subject.reuse()
  inputs, _ = subject.tasks()
  np.testing.assert_allclose(
    learner.predict(inputs, verbose=0),
    subjects.predictions(learner, inputs),
    rtol=1e-4,
    atol=1e-5,
  )
  with tempfile.TemporaryDirectory() as folder:
    single = "support_stats" if learner.transductive else None
    learner.export(folder, normalization=single)
    loaded = tf.saved_model.load(folder)
  served = loaded.signatures
  inputs, _ = subject.tasks(tasks=3, shots=3)
  context = EVALUATION.replace(normalization=single)
  expected = subjects.predictions(learner, inputs, context)
  tensors = {key: tf.constant(value) for key, value in inputs.items()}
  outputs = served["serving_default"](**tensors)["outputs"]
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
  adapted = served["adapt"](
    support_x=tensors["support_x"][0], support_y=tensors["support_y"][0]
  )
  outputs = served["predict"](query_x=tensors["query_x"][0], **adapted)
  np.testing.assert_allclose(
    outputs["outputs"], expected[0], rtol=1e-4, atol=1e-5
  )
  outputs = served["predict"](query_x=tensors["query_x"][0, :1], **adapted)
  np.testing.assert_allclose(
    outputs["outputs"], expected[0, :1], rtol=1e-4, atol=1e-5
  )
  if learner.probabilistic:
    sampled = served["predict_samples"](
      query_x=tensors["query_x"][0], **adapted
    )
    mean = learner.mean_prediction(sampled["outputs"])
    np.testing.assert_allclose(mean, expected[0], rtol=1e-4, atol=1e-5)
  _check_same_support_sets(case, learner, served, tensors, context)


def _check_same_support_sets(
  case: Any,
  learner: Any,
  served: Any,
  tensors: dict[str, tf.Tensor],
  context: Context,
) -> None:
  """Checks that learner and signatures take, or refuse, the same labels.

  Args:
    case: A test case.
    learner: The learner.
    served: The signatures of the exported learner.
    tensors: A batch of tasks.
    context: The context in which the signatures predict.
  """
  x, labels, query_x = (
    tensors[name][0] for name in ("support_x", "support_y", "query_x")
  )
  # No example of the last class.
  fewer = tf.where(labels == subjects.WAYS - 1, 0, labels)
  weights = learner.adapt(x, fewer, context)
  expected = learner.predict_with(weights, query_x, context)
  adapted = served["adapt"](support_x=x, support_y=fewer)
  outputs = served["predict"](query_x=query_x, **adapted)["outputs"]
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
  case.assertTrue(np.isfinite(expected).all())
  sentence = f"must be integers from 0 to {subjects.WAYS - 1}"
  with case.assertRaisesRegex(ValueError, sentence):
    learner.adapt(x, labels + 1)
  for name, leading in (("adapt", ()), ("serving_default", (tf.newaxis,))):
    inputs = {"support_x": x[leading], "support_y": (labels + 1)[leading]}
    if leading:
      inputs["query_x"] = query_x[leading]
    with case.assertRaisesRegex(tf.errors.InvalidArgumentError, sentence):
      served[name](**inputs)


def check_to_model(case: Any, subject: subjects.Subject) -> None:
  """Checks that `to_model` gives a model that predicts like `predict_with`."""
  del case
  learner = subject.reuse()
  inputs, _ = subject.tasks()
  weights = learner.adapt(
    tf.constant(inputs["support_x"][0]), tf.constant(inputs["support_y"][0])
  )
  x = inputs["query_x"][0]
  expected = learner.predict_with(weights, tf.constant(x))
  model = learner.to_model(weights)
  np.testing.assert_allclose(
    model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5
  )


CHECKS = (
  check_config_round_trip,
  check_keras_file,
  check_saved_model,
  check_to_model,
)
