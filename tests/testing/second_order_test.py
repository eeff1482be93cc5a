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
        keras.layers.BatchNormalization(name="norm"),
      ],
      name="block",
    )
    model = _network(_conv(), block)
    report = _graph(model)
    self.assertFalse(report.passed)
    self.assertEqual(list(report.guilty), ["block/norm"])
    self.assertIn("tfmeta.layers.exact(model)", str(report))
    self.assertTrue(_graph(layers.exact(model)).passed)

  def test_guilty_operation_is_named(self):
    inputs = keras.Input((6, 6, 1))
    x = _conv("tanh")(inputs)
    _, variance = keras.ops.moments(x, axes=[1, 2])
    report = _graph(keras.Model(inputs, _dense(2)(variance)))
    self.assertLen(report.guilty, 1)
    self.assertIn("moments", next(iter(report.guilty)))

  def test_missing_second_derivative_is_told(self):
    model = _network(_conv("tanh"), _conv("softsign"))
    report = _graph(model)
    self.assertFalse(report.passed)
    self.assertEqual(list(report.guilty), [model.layers[1].name])
    self.assertIn("SoftsignGrad", str(report))

  def test_resize_after_trained_weights_is_guilty(self):
    up = keras.layers.UpSampling2D(interpolation="bilinear", name="up")
    report = _graph(_network(_conv("tanh"), up, _conv("tanh")))
    self.assertEqual(list(report.guilty), ["up"])
    self.assertIn("Conv2DTranspose", str(report))

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

  def test_stock_max_pooling_is_guilty_only_when_compiled(self):
    pool = keras.layers.MaxPooling2D(name="pool")
    report = check(_network(_conv(), pool), _images())
    graph, compiled = report.modes
    self.assertTrue(graph.passed)
    self.assertFalse(compiled.passed)
    self.assertEqual(list(compiled.guilty), ["pool"])
    shown = compiled.error > 1e-4 or "on other inputs" in compiled.note
    self.assertTrue(shown, msg=str(report))

  def test_exact_max_pooling_is_right_when_compiled(self):
    model = _network(_conv(), layers.MaxPooling2D())
    report = check(model, _images(4), modes=["compiled"])
    self.assertTrue(report.passed, msg=str(report))

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
    norm = keras.layers.BatchNormalization(name="norm")
    code, out, _ = self._run(self._saved(_network(_conv("tanh"), norm)))
    self.assertEqual(code, 1)
    self.assertIn("guilty: norm", out)

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
