"""Tests what `fit`, `evaluate` and `predict` say of their arguments."""

import contextlib
import os
import tempfile
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

X = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
LABELS = np.tile([0, 1, 2], (2, 2)).astype("int32")


def make(outputs=3, metrics=("accuracy",), jit_compile=False, **kwargs):
  model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs)])
  learner = tfmeta.MAML(model, **kwargs)
  learner.compile("sgd", metrics=list(metrics), jit_compile=jit_compile)
  return learner


def pair(targets, x=X):
  return {"support_x": x, "support_y": targets, "query_x": x}, targets


def tasks(targets):
  return tf.data.Dataset.from_tensor_slices(pair(targets)).batch(2)


class EndlessTest(parameterized.TestCase):
  @parameterized.parameters(
    ("fit", "x", "steps_per_epoch"),
    ("evaluate", "x", "steps"),
    ("predict", "x", "steps"),
  )
  def test_endless_tasks_need_a_number_of_steps(self, name, data, steps):
    call = getattr(make(), name)
    endless = tasks(LABELS).repeat()
    with self.assertRaisesRegex(ValueError, f"`{data}` has no end.*`{steps}`"):
      call(endless, verbose=0)
    call(endless, verbose=0, **{steps: 1})

  def test_endless_validation_data_need_a_number_of_steps(self):
    endless = tasks(LABELS).repeat()
    with self.assertRaisesRegex(ValueError, "`validation_data` has no end"):
      make().fit(tasks(LABELS), validation_data=endless, verbose=0)

  @parameterized.parameters("fit", "evaluate", "predict")
  def test_empty_data_sets_are_refused(self, name):
    with self.assertRaisesRegex(ValueError, "`x` must hold at least one batch"):
      getattr(make(), name)(tasks(LABELS).take(0), verbose=0)

  @parameterized.parameters("fit", "evaluate")
  def test_data_without_a_known_length_may_be_empty_too(self, name):
    nothing = tasks(LABELS).filter(lambda x, y: False)
    with self.assertRaisesRegex(ValueError, "at least one batch"):
      getattr(make(), name)(nothing, verbose=0)

  @parameterized.parameters("list", "text")
  def test_what_keras_cannot_take_is_one_sentence(self, kind):
    inputs, targets = pair(LABELS)
    if kind == "list":
      inputs["support_x"] = inputs["support_x"].tolist()
    else:
      inputs["support_y"] = inputs["support_y"].astype(str)
    with self.assertRaisesRegex(ValueError, "^support_. must be an array"):
      make().fit(inputs, targets, verbose=0)

  def test_training_needs_an_optimizer(self):
    learner = make()
    learner.compile(None)
    with self.assertRaisesRegex(ValueError, "needs an optimizer.*Received"):
      learner.fit(*pair(LABELS), verbose=0)

  def test_empty_arrays_are_refused(self):
    with self.assertRaisesRegex(ValueError, "arrays of length 0"):
      make().fit(*pair(LABELS[:0], X[:0]), verbose=0)

  def test_evaluating_again_and_again_warns_of_nothing(self):
    # TensorFlow warns of the fifth graph of one function.
    learner = make()
    with self.assertNoLogs("tensorflow", "WARNING"):
      for _ in range(7):
        tfmeta.evaluate(learner, tasks(LABELS))

  def test_fit_warns_of_nothing_that_its_user_did_not_cause(self):
    # Keras warns of its own default `shuffle=True` on every data set.
    with warnings.catch_warnings():
      warnings.simplefilter("error", UserWarning)
      make().fit(tasks(LABELS), validation_data=tasks(LABELS), verbose=0)
      batches = (pair(LABELS) for _ in range(2))
      make().fit(batches, steps_per_epoch=1, verbose=0)
    with self.assertWarnsRegex(UserWarning, "shuffle=True"):
      make().fit(tasks(LABELS), shuffle=True, verbose=0)


class ValuesTest(parameterized.TestCase):
  @parameterized.product(jit_compile=(False, True), arrays=(False, True))
  def test_wrong_labels_are_one_sentence(self, jit_compile, arrays):
    learner = make(jit_compile=jit_compile)
    data = pair(LABELS + 5) if arrays else (tasks(LABELS + 5),)
    with self.assertRaises(ValueError) as raised:
      learner.fit(*data, verbose=0)
    self.assertRegex(
      str(raised.exception),
      r"^\w+ labels must be integers from 0 to 2, .* Received: 5 to 7$",
    )

  @parameterized.product(
    jit_compile=(False, True),
    name=("evaluate", "predict", "train_on_batch", "test_on_batch"),
  )
  def test_wrong_labels_are_one_sentence_everywhere(self, name, jit_compile):
    learner = make(jit_compile=jit_compile)
    data = pair(LABELS + 5) if name != "predict" else pair(LABELS + 5)[:1]
    options = {} if name.endswith("batch") else {"verbose": 0}
    with self.assertRaisesRegex(ValueError, "^[^\n]* Received: 5 to 7$"):
      getattr(learner, name)(*data, **options)

  def test_wrong_labels_of_validation_are_said_under_xla(self):
    wrong = {"validation_data": tasks(LABELS + 5), "verbose": 0}
    with self.assertRaisesRegex(ValueError, "^[^\n]* Received: 5 to 7$"):
      make(jit_compile=True).fit(tasks(LABELS), **wrong)

  @parameterized.product(
    jit_compile=(False, True), key=("support_x", "query_x"), loss=(None, "mse")
  )
  def test_examples_that_are_not_finite_are_said(self, jit_compile, key, loss):
    targets = LABELS if loss is None else X[..., :3]
    inputs, targets = pair(targets)
    inputs[key] = np.where(X == X.max(), np.nan, X)
    learner = make(jit_compile=jit_compile, inner_loss=loss, metrics=())
    sentence = f"^{key} must be finite. Received: NaN or inf$"
    with self.assertRaisesRegex(ValueError, sentence):
      learner.fit(inputs, targets, verbose=0)
    with self.assertRaisesRegex(ValueError, sentence):
      learner.predict(inputs, verbose=0)

  @parameterized.parameters(False, True)
  def test_targets_that_are_not_finite_are_said(self, jit_compile):
    learner = make(jit_compile=jit_compile, inner_loss="mse", metrics=())
    inputs, targets = pair(X[..., :3])
    missing = np.where(targets == targets.max(), np.nan, targets)
    with self.assertRaisesRegex(ValueError, "^Query targets must be finite"):
      learner.fit(inputs, missing, verbose=0)
    with self.assertRaisesRegex(ValueError, "^Support targets must be finite"):
      learner.fit({**inputs, "support_y": missing}, targets, verbose=0)

  def test_a_loss_of_the_user_may_leave_out_missing_targets(self):
    def known(y, y_pred):
      missing = tf.math.is_nan(y)
      errors = tf.where(missing, y_pred, y) - y_pred
      return tf.reduce_sum(errors**2, axis=-1)

    missing = np.where(X == X.max(), np.nan, X)[..., :3]
    inputs, targets = pair(missing)
    learner = make(inner_loss=known, metrics=())
    history = learner.fit(inputs, targets, verbose=0).history
    self.assertTrue(np.isfinite(history["loss"][0]))
    learner.adapt(inputs["support_x"][0], missing[0])

  @parameterized.product(
    jit_compile=(False, True), weight=(-1.0, float("nan"), float("inf"))
  )
  def test_weights_that_are_no_weights_are_said(self, jit_compile, weight):
    inputs, labels = pair(LABELS)
    inputs["support_weight"] = np.where(LABELS == 1, weight, 1.0)
    with self.assertRaisesRegex(ValueError, "^`support_weight` must hold fin"):
      make(jit_compile=jit_compile).fit(inputs, labels, verbose=0)

  def test_more_outputs_than_ways_are_said(self):
    with self.assertWarnsRegex(UserWarning, "10 outputs, and no.* 3 classes"):
      tfmeta.evaluate(make(10), tasks(LABELS))
    with tempfile.TemporaryFile("w+") as file, contextlib.ExitStack() as stack:
      stack.callback(os.dup2, os.dup(2), 2)
      os.dup2(file.fileno(), 2)
      make(10).fit(tasks(LABELS), epochs=2, verbose=0)
      file.seek(0)
      self.assertEqual(file.read().count("has 10 outputs"), 1)

  def test_other_errors_of_a_graph_stay_as_they_are(self):
    def fails(x, y):
      with tf.control_dependencies([tf.debugging.assert_less(y, 0)]):
        return x, tf.identity(y)

    x = tasks(LABELS).map(fails)
    with self.assertRaises(tf.errors.InvalidArgumentError):
      make().fit(x, verbose=0)


class TargetsTest(parameterized.TestCase):
  def absolute(y, y_pred):
    return tf.reduce_mean(tf.abs(y - y_pred), axis=-1)

  @parameterized.parameters(
    "mse", absolute, keras.losses.Huber(), keras.losses.mean_squared_error
  )
  def test_targets_without_the_last_axis_are_the_same(self, loss):
    found = []
    for targets in (X[..., :1], X[..., 0]):
      keras.utils.set_random_seed(0)
      learner = make(1, metrics=["mae"], inner_loss=loss)
      history = learner.fit(tasks(targets), epochs=2, verbose=0).history
      adapted = learner.adapt(X[0], targets[0])
      loss_of_task, _ = learner.task_loss(
        tf.constant(X[0]),
        tf.constant(targets[0]),
        tf.constant(X[0]),
        tf.constant(targets[0]),
      )
      found.append([history["loss"], history["mae"], adapted, loss_of_task])
    for one, other in zip(*map(tf.nest.flatten, found), strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-6)

  @parameterized.parameters("mse", absolute, keras.losses.Huber())
  def test_several_targets_for_one_output_are_refused(self, loss):
    learner = make(1, metrics=(), inner_loss=loss)
    calls = (
      lambda: learner.fit(tasks(X[..., :3]), verbose=0),
      lambda: learner.evaluate(tasks(X[..., :3]), verbose=0),
      lambda: tfmeta.evaluate(learner, tasks(X[..., :3])),
      lambda: learner.adapt(X[0], X[0, :, :3]),
    )
    for call in calls:
      with self.assertRaisesRegex(ValueError, r"numbers of the shape \["):
        call()

  @parameterized.parameters(([2, 6],), ([2, 6, 1],), ([2, 6, 1, 1],))
  def test_one_target_for_several_time_steps_is_refused(self, shape):
    # A function that gets [n] and [n, 5, 1] compares each step with the targets
    # of all examples.
    def absolute(y, y_pred):
      return tf.reduce_mean(tf.abs(y - y_pred), axis=-1)

    layers = [keras.Input((5, 4)), keras.layers.Dense(1)]
    learner = tfmeta.MAML(keras.Sequential(layers), inner_loss=absolute)
    learner.compile("sgd")
    x, y = np.zeros([2, 6, 5, 4], "float32"), np.zeros(shape, "float32")
    with self.assertRaisesRegex(ValueError, r"of the shape \[T, n, 5, 1\]"):
      learner.fit(*pair(y, x), verbose=0)
    with self.assertRaisesRegex(ValueError, r"of the shape \[n, 5, 1\]"):
      learner.adapt(x[0], y[0])

  @parameterized.parameters("mse", absolute)
  def test_one_target_for_all_queries_is_refused(self, loss):
    targets = X[..., :1]
    data = (pair(targets)[0], targets[:, :1])
    batches = tf.data.Dataset.from_tensor_slices(data).batch(2)
    learner = make(1, metrics=(), inner_loss=loss)
    for call in (
      lambda: learner.fit(batches, verbose=0),
      lambda: learner.evaluate(batches, verbose=0),
      lambda: tfmeta.evaluate(learner, batches),
    ):
      with self.assertRaisesRegex(ValueError, "one target for each example"):
        call()

  @parameterized.parameters(0, 255)
  def test_an_ignored_class_is_left_out_as_in_keras(self, ignored):
    loss = keras.losses.SparseCategoricalCrossentropy(
      from_logits=True, ignore_class=ignored
    )
    labels = np.where(LABELS == 0, ignored, LABELS)
    learner = make(metrics=(), inner_loss=loss, inner_steps=0)
    found = learner.evaluate(tasks(labels), verbose=0)
    flat = X.reshape(-1, 4), labels.reshape(-1)
    expected = loss(flat[1], learner.model(flat[0]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)

  def test_a_loss_of_the_user_may_take_more_outputs_than_targets(self):
    def likelihood(y, y_pred):
      mean, log_variance = y_pred[..., :1], y_pred[..., 1:]
      error = tf.square(y - mean) / tf.exp(log_variance) + log_variance
      return error[..., 0]

    learner = make(2, metrics=(), inner_loss=likelihood)
    learner.fit(tasks(X[..., :1]), verbose=0)
    with self.assertRaisesRegex(ValueError, r"numbers of the shape \["):
      make(2, metrics=(), inner_loss="mse").fit(tasks(X[..., :1]), verbose=0)

  def test_one_target_for_several_outputs_that_broadcast_is_refused(self):
    # As many examples as outputs: the loss would compare the wrong pairs.
    def squared(y, y_pred):
      return tf.reduce_mean((y - y_pred) ** 2, axis=-1)

    learner = make(inner_loss=squared, metrics=())
    with self.assertRaisesRegex(ValueError, "Received: float32 of shape"):
      learner.adapt(X[0, :3], X[0, :3, 0])

  def test_labels_may_have_a_last_axis(self):
    found = []
    for labels in (LABELS, LABELS[..., np.newaxis]):
      keras.utils.set_random_seed(0)
      found.append(make().evaluate(tasks(labels), verbose=0))
    self.assertEqual(*found)

  @parameterized.parameters(
    (3, None, X[..., 0], 'A regression needs inner_loss="mse"'),
    (
      3,
      None,
      np.eye(3, dtype="float32")[LABELS],
      "one-hot labels need a CategoricalCrossentropy",
    ),
    (
      3,
      None,
      np.eye(3, dtype="int32")[LABELS],
      "One-hot labels need a CategoricalCrossentropy",
    ),
    (1, None, LABELS, "for two classes and one output BinaryCrossentropy"),
    (
      3,
      keras.losses.CategoricalCrossentropy(from_logits=True),
      LABELS,
      "Integer labels need a SparseCategoricalCrossentropy",
    ),
  )
  def test_targets_of_another_loss_are_said(self, outputs, loss, y, sentence):
    learner = make(outputs, metrics=(), inner_loss=loss)
    with self.assertRaisesRegex(ValueError, f"{sentence}.*Received"):
      learner.fit(tasks(y), verbose=0)

  def test_accuracy_of_a_regression_is_said(self):
    with self.assertWarnsRegex(UserWarning, "says nothing about a regression"):
      make(1, inner_loss="mse").fit(tasks(X[..., :1]), verbose=0)

  @parameterized.parameters(
    (1, "mse", X[..., :1], keras.metrics.R2Score()),
    (
      3,
      keras.losses.CategoricalCrossentropy(from_logits=True),
      np.eye(3, dtype="float32")[LABELS],
      keras.metrics.F1Score(),
    ),
  )
  def test_metrics_see_the_axes_that_a_plain_model_gives(
    self, outputs, loss, y, metric
  ):
    learner = make(outputs, metrics=[metric], inner_loss=loss, inner_steps=0)
    found = learner.evaluate(tasks(y), verbose=0, return_dict=True)
    plain = learner.model
    plain.compile("sgd", loss, metrics=[type(metric)()])
    flat = X.reshape(-1, 4), y.reshape(-1, y.shape[-1])
    expected = plain.evaluate(*flat, verbose=0, return_dict=True, batch_size=12)
    for name, value in expected.items():
      np.testing.assert_allclose(found[name], value, rtol=1e-5)


class KeysTest(absltest.TestCase):
  def test_a_misspelled_key_is_said(self):
    inputs, labels = pair(LABELS)
    inputs["support_weights"] = np.ones(LABELS.shape)
    with self.assertRaisesRegex(ValueError, "Inputs must.*support_weights"):
      make().fit(inputs, labels, verbose=0)

  def test_weights_of_queries_come_once(self):
    inputs, labels = pair(LABELS)
    inputs["query_weight"] = weight = np.ones(LABELS.shape)
    with self.assertRaisesRegex(ValueError, "must come once.*Received: both"):
      make().fit(inputs, labels, sample_weight=weight, verbose=0)

  def test_a_single_task_is_said(self):
    inputs, labels = pair(LABELS)
    one = {name: value[0] for name, value in inputs.items()}
    one["query_x"] = one["query_x"][:4]
    with self.assertRaisesRegex(ValueError, "newaxis.*support_x 6.*query_x 4"):
      make().predict(one, verbose=0)
    with self.assertRaisesRegex(ValueError, "first axis.*query_x 2, y 1"):
      make().fit(inputs, labels[:1], verbose=0)


class ShapesTest(parameterized.TestCase):
  def test_unknown_ranks_are_said(self):
    def read(value):
      return tf.py_function(lambda t: t, [value], value.dtype)

    unknown = tasks(LABELS).map(
      lambda x, y: ({k: read(v) for k, v in x.items()}, read(y))
    )
    for metrics in ((), ("accuracy",)):
      with self.assertRaisesRegex(ValueError, "a known number of axes"):
        make(metrics=metrics).fit(unknown, verbose=0)

  def test_ragged_batches_are_said(self):
    few = pair(LABELS[:1, :3], X[:1, :3])
    data = tasks(LABELS).unbatch()
    data = data.concatenate(tf.data.Dataset.from_tensor_slices(few))
    with self.assertRaisesRegex(ValueError, "the same number of examples"):
      make().fit(data.ragged_batch(3), verbose=0)

  def test_lists_of_numbers_are_arrays(self):
    learner = make()
    expected = learner.adapt(X[0], LABELS[0])
    for examples in (X[0].tolist(), list(X[0])):
      found = learner.adapt(examples, LABELS[0].tolist())
      for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    with self.assertRaisesRegex(ValueError, "support_x .* of one shape"):
      learner.adapt([[1.0, 2.0, 3.0, 4.0], [1.0]], [0, 1])

  def test_strings_are_said(self):
    x = tf.data.Dataset.from_tensors(pair(LABELS, X.astype(str)))
    with self.assertRaisesRegex(ValueError, "must be float32.*type string"):
      make().fit(x, verbose=0)

  def test_missing_targets_are_said(self):
    for data in (tasks(LABELS).map(lambda x, _: x), pair(LABELS)[0]):
      with self.assertRaisesRegex(ValueError, "query_y must not be missing"):
        make().fit(data, verbose=0)

  def test_swapped_arguments_are_said(self):
    learner = make()
    weights = learner.adapt(X[0], LABELS[0])
    with self.assertRaisesRegex(TypeError, "comes before the examples"):
      learner.predict_with(X[0], weights)

  def test_pixels_that_are_not_scaled_are_said(self):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1))
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    plain = tfmeta.MAML(keras.Sequential([keras.Input((4, 4, 1)), *layers]))
    with self.assertWarnsRegex(UserWarning, "pixels from 0 to 255"):
      plain.adapt(images.astype("uint8"), LABELS[0])
    scaling = [keras.layers.Rescaling(1 / 255), *layers]
    scaled = tfmeta.MAML(keras.Sequential([keras.Input((4, 4, 1)), *scaling]))
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      plain.adapt((images / 255).astype("float32"), LABELS[0])
      scaled.adapt(images.astype("float32"), LABELS[0])


if __name__ == "__main__":
  absltest.main()
