"""Tests `check_second_order`, as a function and as a command."""

import contextlib
import io
import runpy
import sys

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta import layers
from tfmeta.testing.second_order import __main__ as second_order

check = tfmeta.testing.check_second_order


@keras.saving.register_keras_serializable("second_order_test")
class Noise(keras.layers.Layer):
  """Layer that adds new random numbers, so that no two calls agree."""

  def call(self, inputs):
    return inputs + tf.random.normal(tf.shape(inputs), dtype=inputs.dtype)


@keras.saving.register_keras_serializable("second_order_test")
class Wrong(keras.layers.Layer):
  """Tangent whose second derivative is wrong, as its first one is constant."""

  def call(self, inputs):
    @tf.custom_gradient
    def tangent(x):
      y = tf.tanh(x)
      slope = tf.stop_gradient(1 - y * y)
      return y, lambda upstream: upstream * slope

    return tangent(inputs)


@keras.saving.register_keras_serializable("second_order_test")
class Cropped(keras.layers.Layer):
  """Operation whose gradient has no gradient."""

  def call(self, inputs):
    x = tf.cast(inputs, tf.float32)
    return tf.image.crop_and_resize(x, [[0.0, 0.0, 1.0, 1.0]], [0], [3, 3])


@keras.saving.register_keras_serializable("second_order_test")
class LocalResponse(keras.layers.Layer):
  """Operation that TensorFlow has in float32 only."""

  def call(self, inputs):
    return tf.nn.lrn(inputs, depth_radius=1, alpha=0.5)


def _network(*parts, shape=(6, 6, 1)):
  return keras.Sequential(
    [keras.Input(shape), *parts, keras.layers.Flatten(), _dense(2)]
  )


def _dense(units, activation="linear"):
  return keras.layers.Dense(units, activation=activation)


def _conv(activation="linear"):
  return keras.layers.Conv2D(3, 3, activation=activation, padding="same")


def _images(n=10):
  generator = np.random.default_rng(0)
  return generator.normal(size=(n, 6, 6, 1)).astype("float32")


def _graph(model, x=None, **kwargs):
  x = _images() if x is None else x
  return check(model, x, modes=["graph"], inner_steps=1, **kwargs)


class CheckSecondOrderTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  def test_kinks_and_random_layers_are_no_fault(self):
    model = _network(
      _conv("relu"),
      layers.BatchNormalization(),
      layers.MaxPooling2D(),
      keras.layers.Dropout(0.3),
    )
    report = _graph(model)
    self.assertTrue(report.passed, msg=str(report))
    self.assertEqual(report.guilty, {})
    self.assertLess(report.modes[0].error, 1e-5)

  def test_blank_images_are_no_fault(self):
    """Zero biases put every unit on the kink of ReLU if images are blank."""
    report = _graph(_network(_conv("relu")), np.zeros((10, 6, 6, 1)))
    self.assertTrue(report.passed, msg=str(report))

  def test_guilty_layers_are_named_at_any_depth(self):
    block = keras.Sequential(
      [
        keras.Input((6, 6, 3)),
        keras.layers.Activation("tanh"),
        Wrong(name="tangent"),
        keras.layers.BatchNormalization(),
      ],
      name="block",
    )
    report = _graph(_network(_conv(), block))
    self.assertFalse(report.passed)
    self.assertEqual(list(report.guilty), ["block/tangent"])
    self.assertIn("use another layer", str(report))

  def test_operations_that_learners_make_exact_are_right(self):
    """TensorFlow by itself has wrong second derivatives of them, or none."""
    inputs = keras.Input((6, 6, 1))
    x = _conv("softsign")(inputs)
    x = keras.ops.image.resize(x, (7, 7), interpolation="nearest")
    x = keras.layers.LayerNormalization()(x)
    _, variance = keras.ops.moments(_conv("tanh")(x), axes=[1, 2])
    report = _graph(keras.Model(inputs, _dense(2)(variance)))
    self.assertTrue(report.passed, msg=str(report))
    self.assertLess(report.modes[0].error, 1e-5)

  def test_missing_second_derivative_is_told(self):
    crop = Cropped(name="crop")
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.GlobalAveragePooling2D()(crop(_conv("tanh")(inputs)))
    report = _graph(keras.Model(inputs, _dense(2)(x)))
    self.assertFalse(report.passed)
    self.assertEqual(list(report.guilty), ["crop"])
    self.assertIn("CropAndResizeGradImage", str(report))

  @parameterized.named_parameters(
    (
      "resize",
      keras.layers.UpSampling2D(interpolation="bilinear"),
      (6, 6, 1),
    ),
    ("local_response", LocalResponse(), (6, 6, 1)),
    ("average_pooling", keras.layers.AveragePooling3D(2), (4, 4, 4, 1)),
    ("max_pooling", keras.layers.MaxPooling3D(2), (4, 4, 4, 1)),
  )
  def test_operations_in_float32_only_get_a_verdict(self, layer, shape):
    conv = keras.layers.Conv2D if len(shape) == 3 else keras.layers.Conv3D
    first = conv(3, 3, activation="tanh", padding="same")
    x = np.random.default_rng(0).normal(size=(8, *shape))
    report = _graph(_network(first, layer, shape=shape), x)
    self.assertTrue(report.passed, msg=str(report))
    self.assertIn("float32", report.modes[0].note)

  def test_fault_is_found_in_float32_too(self):
    parts = [_conv("tanh"), LocalResponse(), Wrong(name="tangent")]
    report = _graph(_network(*parts))
    self.assertFalse(report.passed)
    self.assertEqual(list(report.guilty), ["tangent"])

  def test_lora_is_no_fault(self):
    model = _network(_dense(4, "tanh"), shape=(3,))
    model.layers[0].enable_lora(2)
    x = np.random.default_rng(0).normal(size=(8, 3))
    self.assertTrue(_graph(model, x).passed)

  def test_model_that_cannot_be_copied_gets_a_verdict(self):
    class Scaled(keras.layers.Layer):
      def __init__(self, factor):
        super().__init__()
        self.factor = factor

      def call(self, inputs):
        return self.factor * inputs

    report = _graph(_network(_conv("tanh"), Scaled(2.0)))
    self.assertTrue(report.passed, msg=str(report))
    self.assertIn("float32", report.modes[0].note)

  def test_noise_leaves_the_verdict_open(self):
    report = _graph(_network(_conv("tanh"), Noise()))
    self.assertIsNone(report.modes[0].passed)
    self.assertFalse(report.passed)
    self.assertIn("undecided", str(report))

  def test_model_is_left_as_it_was(self):
    model = _network(_conv(), keras.layers.BatchNormalization())
    before = model.get_weights()
    policy = keras.config.dtype_policy()
    _graph(model)
    for old, new in zip(before, model.get_weights(), strict=True):
      np.testing.assert_array_equal(old, new)
    self.assertEqual(keras.config.dtype_policy(), policy)
    self.assertEqual(model.variables[0].dtype, "float32")

  def test_reduced_precision_of_the_model_does_not_matter(self):
    model = _network(keras.layers.Conv2D(3, 3, dtype="mixed_bfloat16"))
    self.assertTrue(_graph(model).passed)

  def test_compiled_model_without_fault(self):
    model = _network(_dense(3, "tanh"), shape=(2,))
    report = check(model, np.random.default_rng(0).normal(size=(8, 2)))
    self.assertTrue(report.passed, msg=str(report))
    self.assertEqual(
      [mode.mode for mode in report.modes], ["graph", "compiled"]
    )

  @parameterized.parameters(keras.layers.MaxPooling2D, layers.MaxPooling2D)
  def test_max_pooling_is_right_when_compiled(self, pooling):
    model = _network(_conv(), pooling())
    report = check(model, _images(4), modes=["compiled"])
    self.assertTrue(report.passed, msg=str(report))
    self.assertLess(report.modes[0].error, 1e-5)

  @parameterized.named_parameters(
    ("few", {"x": _images(3)}, "3 examples"),
    ("steps", {"inner_steps": 0}, "inner_steps=0"),
    ("tolerance", {"tolerance": 0.0}, "tolerance=0.0"),
    ("modes", {"modes": ["eager"]}, r"modes=\['eager'\]"),
    ("unbuilt", {"model": keras.Sequential([_dense(2)])}, "must be built"),
  )
  def test_bad_argument_is_named(self, options, message):
    options = {"model": _network(), "x": _images(), **options}
    with self.assertRaisesRegex(ValueError, message):
      check(options.pop("model"), options.pop("x"), **options)


class CommandTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  def _run(self, *arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      code = second_order.main([*arguments, "--modes", "graph"])
    return code, out.getvalue(), err.getvalue()

  def _saved(self, model, name="model.keras"):
    path = self.create_tempfile(name).full_path
    model.save(path)
    return path

  def test_right_model(self):
    code, out, _ = self._run(self._saved(_network(_conv("tanh"))))
    self.assertEqual(code, 0)
    self.assertIn("right", out)

  def test_wrong_model(self):
    tangent = Wrong(name="tangent")
    code, out, _ = self._run(self._saved(_network(_conv(), tangent)))
    self.assertEqual(code, 1)
    self.assertIn("guilty: tangent", out)

  def test_model_inside_a_learner(self):
    learner = tfmeta.MAML(tfmeta.models.mlp((2,), outputs=3, hidden=(4,)))
    code, out, _ = self._run(self._saved(learner))
    self.assertEqual(code, 0)
    self.assertIn("'mlp'", out)

  def test_open_shape_is_asked_for(self):
    model = keras.Sequential(
      [
        keras.Input((None, None, 1)),
        _conv("tanh"),
        keras.layers.GlobalAveragePooling2D(),
        _dense(2),
      ]
    )
    path = self._saved(model)
    code, _, err = self._run(path)
    self.assertEqual(code, 2)
    self.assertIn("give --input_shape", err)
    code, _, _ = self._run(path, "--input_shape", "5", "5", "1")
    self.assertEqual(code, 0)

  @parameterized.named_parameters(
    ("missing", "no/such.keras", "no such file"),
    ("not_a_model", __file__, "does not load it as a model"),
  )
  def test_bad_file_gets_one_sentence(self, path, message):
    code, out, err = self._run(path)
    self.assertEqual((code, out), (2, ""))
    self.assertIn(message, err)
    self.assertEqual(err.count("\n"), 1)

  def test_wrong_shape_gets_one_sentence(self):
    path = self._saved(_network(_conv()))
    code, _, err = self._run(path, "--input_shape", "9", "9", "1")
    self.assertEqual(code, 2)
    self.assertEqual(err.count("\n"), 1)

  def test_module_is_a_command(self):
    before = sys.argv
    sys.argv = ["second_order", "no/such.keras"]
    try:
      with self.assertRaises(SystemExit) as caught:
        with contextlib.redirect_stderr(io.StringIO()):
          runpy.run_module("tfmeta.testing.second_order", run_name="__main__")
    finally:
      sys.argv = before
    self.assertEqual(caught.exception.code, 2)


if __name__ == "__main__":
  absltest.main()
