"""Tests that each kind of targets works from `fit` to the exported file."""

import functools
import tempfile
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.testing.exam import subject

X = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
STEPS = np.random.default_rng(1).normal(size=(2, 6, 5, 4)).astype("float32")
LOGIT = keras.losses.BinaryCrossentropy(from_logits=True)

# LEO takes one label for each example only.
LEARNERS = (
  (tfmeta.MAML, {}),
  (tfmeta.FOMAML, {}),
  (tfmeta.ANIL, {}),
  (tfmeta.MetaSGD, {}),
  (tfmeta.Reptile, {}),
  (tfmeta.MAMLPlusPlus, {"inner_steps": 1}),
  (tfmeta.PLATIPUS, {"num_samples": 2}),
  (tfmeta.EMAML, {"num_particles": 2}),
  (tfmeta.BMAML, {"num_particles": 2}),
)


def dense(outputs, shape=(4,)):
  layers = [keras.Input(shape), keras.layers.Dense(outputs)]
  return keras.Sequential(layers)


def u_net():
  """Returns a U-Net of two scales, for images of 8x8 pixels and 3 classes."""
  inputs = keras.Input((8, 8, 1))
  conv = {"padding": "same", "activation": "relu"}
  fine = keras.layers.Conv2D(4, 3, **conv)(inputs)
  coarse = keras.layers.Conv2D(8, 3, strides=2, **conv)(fine)
  up = keras.layers.Conv2DTranspose(4, 2, strides=2)(coarse)
  both = keras.layers.Concatenate()([fine, up])
  return keras.Model(inputs, keras.layers.Conv2D(3, 1)(both))


def pair(x, y):
  return {"support_x": x, "support_y": y, "query_x": x}, y


def batched(x, y):
  return tf.data.Dataset.from_tensor_slices(pair(x, y)).batch(2)


def check_files(learner, x, labels):
  """Checks that the saved and the exported learner predict the same."""
  folder = tempfile.mkdtemp()
  tasks = pair(x, labels)[0]
  expected = learner.predict(tasks, verbose=0)
  learner.save(f"{folder}/learner.keras")
  again = keras.models.load_model(f"{folder}/learner.keras")
  np.testing.assert_allclose(again.predict(tasks, verbose=0), expected, 1e-4)
  learner.export(f"{folder}/served")
  served = tf.saved_model.load(f"{folder}/served").signatures
  found = served["serving_default"](**tasks)["outputs"]
  np.testing.assert_allclose(found, expected, 1e-4, 1e-5)
  adapted = served["adapt"](support_x=x[0], support_y=labels[0])
  found = served["predict"](query_x=x[0], **adapted)["outputs"]
  np.testing.assert_allclose(found, expected[0], 1e-4, 1e-5)


def one_logit_results(labels):
  """Returns the training loss and all results of a learner with one logit."""
  keras.utils.set_random_seed(0)
  learner = tfmeta.MAML(dense(1), inner_loss=LOGIT)
  learner.compile("sgd")
  tasks = batched(X, labels)
  loss = learner.fit(tasks, verbose=0).history["loss"]
  result = tfmeta.evaluate(learner, tasks)
  outputs = subject.predictions(learner, pair(X, labels)[0])
  right = ((outputs > 0) == (X[..., :1] > 0)).mean(axis=(1, 2))
  np.testing.assert_allclose(result.per_task[:, -1], right, rtol=1e-6)
  return loss, result.per_task, result.nll_per_task


@functools.cache
def with_an_axis():
  return one_logit_results((X[..., :1] > 0).astype("float32"))


class OneLogitTest(parameterized.TestCase):
  @parameterized.parameters("int32", "float32", "bool")
  def test_labels_of_any_type_are_the_same(self, dtype):
    found = one_logit_results((X[..., 0] > 0).astype(dtype))
    for one, other in zip(found, with_an_axis(), strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-6)

  def test_from_fit_to_the_exported_file(self):
    learner = tfmeta.MAML(dense(1), inner_loss=LOGIT, inner_learning_rate=0.5)
    learner.compile("sgd")
    labels = (X[..., :1] > 0).astype("float32")
    learner.fit(batched(X, labels), verbose=0)
    check_files(learner, X, labels)

  def test_the_accuracy_that_takes_logits_for_probabilities_is_said(self):
    labels = (X[..., :1] > 0).astype("float32")
    learner = tfmeta.MAML(dense(1), inner_loss=LOGIT)
    learner.compile("sgd", metrics=["accuracy"])
    with self.assertWarnsRegex(UserWarning, r"BinaryAccuracy\(threshold=0.0\)"):
      learner.fit(batched(X, labels), verbose=0)
    right = keras.metrics.BinaryAccuracy(threshold=0.0)
    learner.compile("sgd", metrics=[right])
    with warnings.catch_warnings():
      warnings.simplefilter("error", UserWarning)
      found = learner.evaluate(batched(X, labels), verbose=0, return_dict=True)
    result = tfmeta.evaluate(learner, batched(X, labels))
    np.testing.assert_allclose(
      found["binary_accuracy"], result.per_task[:, -1].mean(), rtol=1e-6
    )

  @parameterized.parameters(
    (LOGIT, 1, np.full([2, 6, 1], 2)),
    (LOGIT, 1, np.full([2, 6, 1], -1.0)),
    (
      keras.losses.CategoricalCrossentropy(from_logits=True),
      3,
      np.full([2, 6, 3], 5.0),
    ),
  )
  def test_probabilities_out_of_range_are_refused(self, loss, outputs, labels):
    learner = tfmeta.MAML(dense(outputs), inner_loss=loss)
    learner.compile("sgd")
    with self.assertRaisesRegex(ValueError, "must be between 0 and 1"):
      learner.fit(batched(X, labels), verbose=0)
    with self.assertRaisesRegex(ValueError, "must be between 0 and 1"):
      learner.adapt(X[0], labels[0])


class LearnersTest(parameterized.TestCase):
  @parameterized.parameters(*LEARNERS)
  def test_a_label_for_each_time_step(self, learner_class, kwargs):
    labels = (STEPS[..., 0] > 0).astype("int32")
    model = dense(1, STEPS.shape[2:])
    learner = learner_class(model, inner_loss=LOGIT, **kwargs)
    learner.compile("sgd")
    learner.fit(batched(STEPS, labels), verbose=0)
    result = tfmeta.evaluate(learner, batched(STEPS, labels))
    outputs = subject.predictions(learner, pair(STEPS, labels)[0])[..., 0]
    right = ((outputs > 0) == labels).mean(axis=(1, 2))
    np.testing.assert_allclose(result.per_task[:, -1], right, rtol=1e-6)

  def test_gradients_without_a_known_shape_are_exported(self):
    # The kernel of a Dense layer on time steps has such a gradient where the
    # number of examples is not known. BMAML merged its axes.
    labels = np.random.default_rng(0).integers(0, 3, STEPS.shape[:3])
    labels[:, 0, :3] = [0, 1, 2]
    model = dense(3, STEPS.shape[2:])
    learner = tfmeta.BMAML(model, num_particles=2)
    check_files(learner, STEPS, labels.astype("int32"))

  def test_a_dense_layer_on_pixels_is_exported(self):
    # A step of its kernel lost the shape of the kernel.
    images = np.random.default_rng(0).normal(size=(2, 6, 4, 4, 1))
    labels = np.tile(np.arange(6, dtype="int32") % 3, (2, 1))
    layers = [
      keras.layers.LayerNormalization(),
      keras.layers.Dense(4),
      keras.layers.GlobalAveragePooling2D(),
      keras.layers.Dense(3),
    ]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    check_files(tfmeta.MAML(model), images.astype("float32"), labels)

  def test_leo_refuses_other_losses_by_name(self):
    model = tfmeta.models.embedding_head(4, ways=1)
    with self.assertRaisesRegex(ValueError, "must take integer labels"):
      tfmeta.LEO(model, inner_loss=LOGIT)


class SegmentationTest(absltest.TestCase):
  def test_a_u_net_from_fit_to_the_exported_file(self):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 8, 8, 1)).astype("float32")
    labels = (np.digitize(x[..., 0], [-0.5, 0.5])).astype("int32")
    learner = tfmeta.MAML(u_net(), inner_learning_rate=0.1)
    learner.compile(keras.optimizers.Adam(0.02), metrics=["accuracy"])
    losses = learner.fit(batched(x, labels), epochs=8, verbose=0).history[
      "loss"
    ]
    self.assertLess(losses[-1], 0.9 * losses[0])
    result = tfmeta.evaluate(learner, batched(x, labels))
    outputs = learner.predict(pair(x, labels)[0], verbose=0)
    right = (outputs.argmax(-1) == labels).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(result.per_task[:, -1], right, rtol=1e-6)
    self.assertEqual(result.ways, 3)
    check_files(learner, x, labels)

  def test_ignored_pixels_change_nothing(self):
    # The label 255 marks pixels that belong to no class. Counting them as zeros
    # in the mean, or as class 0 in the accuracy, would change the numbers.
    x = np.random.default_rng(0).normal(size=(2, 6, 3, 4)).astype("float32")
    labels = np.tile([0, 1, 255], (2, 6, 1)).astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy(
      from_logits=True, ignore_class=255
    )
    found = []
    for kept in (2, 3):
      keras.utils.set_random_seed(0)
      model = dense(2, (kept, 4))
      learner = tfmeta.MAML(model, inner_loss=loss, inner_learning_rate=0.5)
      learner.compile("sgd")
      tasks = batched(x[:, :, :kept], labels[:, :, :kept])
      losses = learner.fit(tasks, verbose=0).history["loss"]
      result = tfmeta.evaluate(learner, tasks)
      found.append(
        [losses, result.per_task, result.nll_per_task, result.ways]
        + [result.ece, result.selective_accuracy]
      )
    for one, other in zip(*found, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-5)
    check_files(learner, x, labels)


@keras.saving.register_keras_serializable("targets_test")
def gaussian(y, y_pred):
  """Returns the loss of one number, given its mean and log-variance."""
  mean, log_variance = y_pred[..., 0], y_pred[..., 1]
  return tf.square(y - mean) * tf.exp(-log_variance) + log_variance


@keras.saving.register_keras_serializable("targets_test")
def gaussian_of_columns(y, y_pred):
  return gaussian(y[..., 0], y_pred)


class OneTargetForTwoOutputsTest(parameterized.TestCase):
  @parameterized.parameters((gaussian, 0), (gaussian_of_columns, slice(1)))
  def test_from_fit_to_the_exported_file(self, loss, place):
    learner = tfmeta.MAML(dense(2), inner_loss=loss)
    learner.compile("sgd")
    targets = X[..., place]
    tasks = batched(X, targets)
    learner.fit(tasks, verbose=0)
    result = tfmeta.evaluate(learner, tasks)
    self.assertAlmostEqual(
      result.mean, learner.evaluate(tasks, verbose=0), places=5
    )
    self.assertRegex(str(result), r"loss \(95% interval\)")
    with self.assertRaisesRegex(ValueError, "`noise_stddev`.*Received"):
      tfmeta.evaluate(learner, tasks, noise_stddev=1.0)
    check_files(learner, X, targets)


if __name__ == "__main__":
  absltest.main()
