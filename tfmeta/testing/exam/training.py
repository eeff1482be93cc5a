"""Questions on adapting and training."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta import models
from tfmeta.testing.exam import subject as subjects


def check_fit_lowers_loss(case: Any, subject: subjects.Subject) -> None:
  """Checks that training on four fixed tasks lowers their query loss."""
  learner = subject.reuse()
  data = subject.dataset().cache().repeat()
  before = learner.evaluate(data.take(1), verbose=0, return_dict=True)
  learner.fit(data, steps_per_epoch=20, epochs=1, verbose=0)
  after = learner.evaluate(data.take(1), verbose=0, return_dict=True)
  case.assertLess(after["loss"], before["loss"])


def check_loss_is_query_loss(case: Any, subject: subjects.Subject) -> None:
  """Checks that `loss` is the mean query loss after adaptation.

  This must hold in `fit` and in `evaluate`.
  """
  fixed = subject.init_kwargs.get("eval_inner_steps") is not None
  learner = subject.make(eval_inner_steps=None) if fixed else subject.reuse()
  tested = learner.evaluate(subject.dataset(), verbose=0, return_dict=True)
  inputs, query_y = subject.tasks()
  logits = learner.predict(inputs, verbose=0)
  expected = keras.losses.sparse_categorical_crossentropy(
    query_y, logits, from_logits=True
  )
  history = learner.fit(subject.dataset(), verbose=0).history
  case.assertAlmostEqual(tested["loss"], np.mean(expected), places=5)
  if not subject.draws:
    case.assertAlmostEqual(history["loss"][0], tested["loss"], places=5)
  case.assertNotIn("meta_loss", tested)


def check_adapting_lowers_support_loss(
  case: Any, subject: subjects.Subject
) -> None:
  """Checks that the inner loop lowers the support loss."""
  learner = subject.reuse()
  inputs, _ = subject.tasks()
  x = tf.constant(inputs["support_x"][0])
  y = tf.constant(inputs["support_y"][0])
  path = learner.adaptation_path(x, y)
  losses = [
    learner.reduce_support(y, learner.predict_with(weights, x))
    for weights in (path[0], path[-1])
  ]
  case.assertLess(float(losses[1]), float(losses[0]))


def check_adapting_assigns_nothing(
  case: Any, subject: subjects.Subject
) -> None:
  """Checks that adapting, predicting and evaluating assign no variable."""
  del case
  learner = subject.reuse()
  inputs, _ = subject.tasks()
  before = subjects.values(learner)
  learner.adapt(
    tf.constant(inputs["support_x"][0]), tf.constant(inputs["support_y"][0])
  )
  learner.predict(inputs, verbose=0)
  counted = {id(v) for m in learner.metrics for v in m.variables}
  learner.evaluate(subject.dataset(), verbose=0)
  for variable, value in zip(learner.variables, before, strict=True):
    if id(variable) not in counted:
      np.testing.assert_array_equal(variable, value)


def check_query_labels_stay_out(case: Any, subject: subjects.Subject) -> None:
  """Checks that no query label reaches a prediction."""
  learner = subject.reuse()
  inputs, query_y = subject.tasks()
  first = learner.predict(inputs, verbose=0)
  hits = [
    learner.evaluate(inputs, labels, verbose=0, return_dict=True)["accuracy"]
    for labels in (query_y, (query_y + 1) % subjects.WAYS)
  ]
  predicted = first.argmax(axis=-1)
  case.assertAlmostEqual(hits[0], np.mean(predicted == query_y), places=5)
  case.assertAlmostEqual(
    hits[1], np.mean(predicted == (query_y + 1) % subjects.WAYS), places=5
  )


def check_runs_repeat(case: Any, subject: subjects.Subject) -> None:
  """Checks that histories are equal if, and only if, initial weights are."""
  histories = []
  for other in (False, False, True):
    learner = subject.reuse()
    if other:
      for variable in learner.trainable_variables:
        variable.assign(variable * 1.5)
    data = subject.dataset(batch=2)
    histories.append(learner.fit(data, epochs=2, verbose=0).history["loss"])
  case.assertEqual(histories[0], histories[1])
  case.assertNotEqual(histories[0], histories[2])


def check_task_order(case: Any, subject: subjects.Subject) -> None:
  """Checks that the order of the tasks in a batch does not change the loss."""
  inputs, query_y = subject.tasks()
  reverse = {key: value[::-1] for key, value in inputs.items()}
  learner = subject.reuse()
  logits = learner.predict(inputs, verbose=0)
  turned = learner.predict(reverse, verbose=0)[::-1]
  np.testing.assert_allclose(logits, turned, rtol=1e-4, atol=1e-5)
  losses = [
    learner.evaluate(*batch, verbose=0, return_dict=True)["loss"]
    for batch in ((inputs, query_y), (reverse, query_y[::-1]))
  ]
  case.assertAlmostEqual(losses[0], losses[1], places=5)


def check_regression(case: Any, subject: subjects.Subject) -> None:
  """Checks that a model with one output learns from targets of rank 2."""
  if subject.backbone != "mlp":
    return
  random = np.random.default_rng(0)
  shape = (subjects.TASKS, 5)
  inputs = {
    "support_x": random.normal(size=(*shape, 1)).astype("float32"),
    "support_y": random.normal(size=(*shape, 1)).astype("float32"),
    "query_x": random.normal(size=(*shape, 1)).astype("float32"),
  }
  target = random.normal(size=(*shape, 1)).astype("float32")
  model = models.mlp((1,), outputs=1, hidden=(8,))
  kwargs = {**subject.init_kwargs, "inner_loss": "mse"}
  learner = subject.learner_class(model, **kwargs)
  learner.compile(optimizer=subject.optimizer())
  history = learner.fit(inputs, target, epochs=10, verbose=0).history["loss"]
  with subjects.run_eagerly(learner):
    tested = learner.evaluate(inputs, target, verbose=0, return_dict=True)
  outputs = subjects.predictions(learner, inputs)
  case.assertEqual(outputs.shape, target.shape)
  case.assertLess(history[-1], history[0])
  expected = np.mean((outputs - target) ** 2)
  case.assertAlmostEqual(tested["loss"], expected, places=4)


def check_unbuilt_model(case: Any, subject: subjects.Subject) -> None:
  """Checks that a model that is not built is refused with a reason."""
  model = keras.Sequential([keras.layers.Dense(subjects.WAYS)])
  with case.assertRaisesRegex(ValueError, "must be built.*Received"):
    subject.learner_class(model, **subject.init_kwargs)


CHECKS = (
  check_fit_lowers_loss,
  check_loss_is_query_loss,
  check_adapting_lowers_support_loss,
  check_adapting_assigns_nothing,
  check_query_labels_stay_out,
  check_runs_repeat,
  check_task_order,
  check_regression,
  check_unbuilt_model,
)
