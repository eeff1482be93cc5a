"""Tests plain models of adapted weights in the formats that Keras exports."""

import importlib
import importlib.util
import logging
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

SINGLE = tfmeta.EVALUATION.replace(normalization="support_stats")


def _is_installed(*names):
  return all(importlib.util.find_spec(name) for name in names)


class ToModelTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
      [
        keras.Input((6, 6, 1)),
        keras.layers.Conv2D(3, 3),
        tfmeta.layers.BatchNormalization(),
        keras.layers.Activation("relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
      ]
    )
    self.learner = tfmeta.MAML(network, inner_learning_rate=0.1)
    random = np.random.default_rng(0)
    x, self.query_x = random.normal(size=(2, 6, 6, 6, 1)).astype("float32")
    self.support = tf.constant(x), tf.constant([0, 1, 2] * 2)

  def adapted(self, context=tfmeta.EVALUATION):
    """Returns the adapted model and its outputs."""
    weights = self.learner.adapt(*self.support, context)
    outputs = self.learner.predict_with(weights, self.query_x)
    return self.learner.to_model(weights), np.array(outputs)

  @parameterized.parameters(tfmeta.EVALUATION, SINGLE)
  def test_is_saved_and_loaded(self, context):
    model, expected = self.adapted(context)
    path = self.create_tempdir().full_path + "/adapted.keras"
    model.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_allclose(again(self.query_x), expected, atol=1e-5)

  def test_is_exported_as_a_saved_model_that_warns_of_nothing(self):
    model, expected = self.adapted()
    folder = self.create_tempdir().full_path
    model.export(folder, verbose=False)
    with self.assertNoLogs(logging.getLogger("absl"), "WARNING"):
      loaded = tf.saved_model.load(folder)
    np.testing.assert_allclose(loaded.serve(self.query_x), expected, atol=1e-5)

  def test_functional_models_and_particles_have_been_called(self):
    # Keras refuses to export a model to ONNX that was never called.
    inputs = keras.Input((6, 6, 1))
    network = keras.Model(
      inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    )
    for learner in (
      tfmeta.MAML(network),
      tfmeta.EMAML(network, num_particles=2),
    ):
      model = learner.to_model(learner.adapt(*self.support))
      self.assertTrue(model._called)

  def test_predicting_assigns_nothing(self):
    # This catches moving statistics that inference updates: other formats have
    # no variables.
    model, expected = self.adapted()
    before = [np.array(v) for v in model.variables]
    np.testing.assert_allclose(
      model.predict(self.query_x, verbose=0), expected, atol=1e-5
    )
    for value, variable in zip(before, model.variables, strict=True):
      np.testing.assert_array_equal(value, variable)
    graph = tf.function(lambda x: model(x)).get_concrete_function(
      tf.TensorSpec([None, 6, 6, 1])
    )
    kinds = {operation.type for operation in graph.graph.get_operations()}
    self.assertEmpty({kind for kind in kinds if "Assign" in kind})

  @parameterized.parameters(tfmeta.EVALUATION, SINGLE)
  def test_runs_with_tensorflow_lite(self, context):
    # This catches moving statistics that inference updates: they keep the
    # kernel of TensorFlow, which TensorFlow Lite does not have.
    model, expected = self.adapted(context)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
      interpreter = tf.lite.Interpreter(model_content=converted)
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], self.query_x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], self.query_x)
    interpreter.invoke()
    (found,) = interpreter.get_output_details()
    np.testing.assert_allclose(
      interpreter.get_tensor(found["index"]), expected, atol=1e-5
    )

  @parameterized.parameters(tfmeta.EVALUATION, SINGLE)
  @absltest.skipUnless(
    _is_installed("onnx", "tf2onnx", "onnxruntime"),
    "This test needs onnx, tf2onnx and onnxruntime.",
  )
  def test_runs_with_onnx(self, context):
    onnxruntime = importlib.import_module("onnxruntime")
    # This catches a Sequential model that was never called.
    model, expected = self.adapted(context)
    path = self.create_tempdir().full_path + "/adapted.onnx"
    model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    (found,) = session.run(None, {given.name: self.query_x})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def _normalizing():
  layer = keras.layers.Normalization()
  layer.adapt(np.random.default_rng(0).normal(3, 2, (20, 2)))
  return keras.Input((2,)), layer, np.float32([[1, 2], [5, 3], [2, 2]])


def _looking_up():
  layer = keras.layers.IntegerLookup(output_mode="multi_hot")
  layer.adapt(np.array([[2], [5], [9]]))
  inputs = keras.Input((2,), dtype="int32")
  return inputs, layer, np.int32([[2, 9], [5, 3], [9, 9]])


class LayersWithAssetsTest(parameterized.TestCase):
  """What these layers learn in `adapt` is not among their variables."""

  @parameterized.product(
    make=[_normalizing, _looking_up], batch_normalization=[False, True]
  )
  def test_keep_what_they_learned(self, make, batch_normalization):
    inputs, layer, x = make()
    features = layer(inputs)
    if batch_normalization:
      features = keras.layers.BatchNormalization()(features)
    network = keras.Model(inputs, keras.layers.Dense(3)(features))
    learner = tfmeta.MAML(network)
    weights = learner.adapt(x, np.array([0, 1, 2]))
    outputs = learner.predict_with(weights, x)
    model = learner.to_model(weights)
    np.testing.assert_allclose(model.predict(x, verbose=0), outputs, atol=1e-5)

  def test_layer_without_configuration_is_refused(self):
    class Scaled(keras.layers.Layer):
      def __init__(self, factor):
        super().__init__()
        self.factor = factor

      def call(self, x):
        return self.factor * x

    network = keras.Sequential(
      [keras.Input((2,)), Scaled(2.0), keras.layers.Dense(2)]
    )
    learner = tfmeta.MAML(network)
    weights = learner.adapt(np.eye(2, dtype="float32"), np.array([0, 1]))
    with self.assertRaisesRegex(ValueError, "`get_config` returns all.*Recei"):
      learner.to_model(weights)


if __name__ == "__main__":
  absltest.main()
