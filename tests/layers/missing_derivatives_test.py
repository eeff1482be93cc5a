"""Tests finding operations that cannot be differentiated twice."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import tensorflow as tf

from tfmeta import models
from tfmeta.layers import missing_derivatives


class Function(keras.layers.Layer):
  """Layer that applies a function."""

  def __init__(self, function, **kwargs):
    super().__init__(**kwargs)
    self.function = function

  def call(self, inputs):
    return self.function(inputs)


def _crop(x):
  return tf.image.crop_and_resize(x, [[0.0, 0.0, 1.0, 1.0]], [0], [3, 3])


def _area(x):
  return tf.image.resize(x, [3, 3], method="area")


def _quantized(x):
  return tf.quantization.fake_quant_with_min_max_args(x)


def _in_a_loop(x):
  _, x = tf.while_loop(
    lambda i, x: i < 2, lambda i, x: (i + 1, _quantized(x)), (0, x)
  )
  return x


def _in_a_branch(x):
  return tf.cond(tf.reduce_sum(x) > 0, lambda: _quantized(x), lambda: x)


def _rotated(x):
  return tf.raw_ops.ImageProjectiveTransformV3(
    images=x,
    transforms=[[1.0, 0.1, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]],
    output_shape=[4, 4],
    fill_value=0.0,
    interpolation="BILINEAR",
  )


def _moments(x):
  return x * tf.nn.moments(x, [0])[1]


def _recomputed(x):
  return keras.remat(tf.tanh)(x)


def _model(function, *, before=False):
  conv = keras.layers.Conv2D(3, 3, name="conv")
  layer = Function(function, name="mine")
  parts = [layer, conv] if before else [conv, layer]
  head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
  return keras.Sequential([keras.Input((6, 6, 3)), *parts, *head])


class MissingDerivativesTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("second", _crop, "CropAndResizeGradImage"),
    ("first", _area, "ResizeArea"),
    ("treated_as_constant", _quantized, "FakeQuantWithMinMaxArgsGradient"),
    ("loop", _in_a_loop, "FakeQuantWithMinMaxArgsGradient"),
    ("branch", _in_a_branch, "FakeQuantWithMinMaxArgsGradient"),
    ("function", tf.function(_quantized), "FakeQuantWithMinMaxArgsGradient"),
    ("approximated", _rotated, "ImageProjectiveTransformV3"),
    (
      "approximated_in_a_function",
      tf.function(_rotated),
      "ImageProjectiveTransformV3",
    ),
    (
      "approximated_in_a_branch",
      lambda x: tf.cond(x[0, 0, 0, 0] > 0, lambda: _rotated(x), lambda: x),
      "ImageProjectiveTransformV3",
    ),
    (
      "function_with_custom_gradients",
      tf.function(lambda x: tf.nn.silu(_moments(x))),
      "StopGradient in a tf.function with custom gradients",
    ),
    (
      "pooling_with_custom_gradients",
      tf.function(lambda x: tf.nn.silu(tf.nn.max_pool2d(x, 3, 1, "SAME"))),
      "MaxPool in a tf.function with custom gradients",
    ),
    ("recomputed", _recomputed, "recompute_grad"),
    ("recomputed_in_a_function", tf.function(_recomputed), "recompute_grad"),
  )
  def test_is_found(self, function, op_type):
    model = _model(function)
    found = missing_derivatives.find(model)
    self.assertEqual(found, {"mine": op_type})
    text = missing_derivatives.describe(model, found)
    self.assertIn(f"mine ({op_type})", text)
    self.assertIn("tfmeta.FOMAML", text)
    self.assertNotIn("exact(", text)

  def test_is_found_in_a_nested_model_and_by_each_call_of_a_layer(self):
    block = keras.Sequential(
      [keras.Input((4, 4, 3)), Function(_quantized, name="mine")], name="block"
    )
    inputs = keras.Input((4, 4, 3))
    x = block(keras.layers.Conv2D(3, 1)(block(inputs)))
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    self.assertEqual([*missing_derivatives.find(model)], ["block/mine"])

  @parameterized.parameters(_crop, _area, _quantized)
  def test_before_the_first_weights_nothing_is_missing(self, function):
    """Pixels have no gradient, and so no second one."""
    self.assertEqual(
      missing_derivatives.find(_model(function, before=True)), {}
    )

  def test_frozen_weights_do_not_count(self):
    model = _model(_crop)
    model.get_layer("conv").trainable = False
    self.assertEqual(missing_derivatives.find(model), {})

  @parameterized.parameters(
    tf.stop_gradient,
    tf.round,
    lambda x: x + tf.cast(tf.argmax(x, -1), x.dtype)[..., None],
    lambda x: tf.where(x > 0, x, tf.zeros_like(x)),
    lambda x: tf.image.resize(x, [5, 5]),
    lambda x: tf.nn.softsign(tf.nn.dropout(x, 0.5)),
    tf.function(_moments),
    tf.function(lambda x: tf.image.resize(x, [5, 5])),
    tf.function(lambda x: tf.nn.max_pool2d(x, 3, 1, "SAME")),
    tf.function(lambda x: tf.stop_gradient(tf.nn.silu(x)) * x),
  )
  def test_what_is_right_is_not_found(self, function):
    self.assertEqual(missing_derivatives.find(_model(function)), {})

  @parameterized.named_parameters(
    ("conv4", lambda: models.conv4((16, 16, 1), ways=2, filters=2)),
    ("mlp", lambda: models.mlp((2,), outputs=1)),
  )
  def test_models_of_the_package_lack_nothing(self, build):
    self.assertEqual(missing_derivatives.find(build()), {})

  def test_several_inputs(self):
    inputs = {"a": keras.Input((3,)), "b": keras.Input((3,))}
    x = keras.layers.Dense(3)(inputs["a"]) + inputs["b"]
    self.assertEqual(missing_derivatives.find(keras.Model(inputs, x)), {})


if __name__ == "__main__":
  absltest.main()
