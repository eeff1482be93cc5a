"""Tests the classifier of cosine similarities."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

X = np.array([[3.0, 4.0], [-1.0, 0.0]], "float64")
KERNEL = np.array([[2.0, 0.0, -3.0], [0.0, 5.0, 3.0]], "float64")


def layer_with(kernel, **options):
  layer = tfmeta.layers.CosineDense(3, dtype="float64", **options)
  layer.build((None, 2))
  layer.kernel.assign(kernel)
  return layer


class CosineDenseTest(parameterized.TestCase):
  def test_outputs_are_scaled_cosines(self):
    layer = layer_with(KERNEL, scale=10.0)
    layer.gain.assign([1.0, 2.0, 1.0])
    half = np.sqrt(0.5)
    expected = [[6, 16, 10 * half * 0.2], [-10, 0, 10 * half]]
    np.testing.assert_allclose(layer(X), expected, rtol=1e-12, atol=1e-12)

  def test_lengths_of_inputs_and_columns_do_not_matter(self):
    outputs = layer_with(KERNEL)(X)
    np.testing.assert_allclose(layer_with(KERNEL)(1e3 * X), outputs, rtol=1e-12)
    longer = layer_with(KERNEL * [1e-3, 7.0, 1e3])
    np.testing.assert_allclose(longer(X), outputs, rtol=1e-12)

  def test_inputs_of_length_zero_have_finite_gradients(self):
    x = tf.constant(0 * X)
    with tf.GradientTape() as tape:
      tape.watch(x)
      outputs = layer_with(KERNEL)(x)
    np.testing.assert_array_equal(outputs, np.zeros((2, 3)))
    self.assertTrue(np.isfinite(tape.gradient(outputs, x)).all())

  def test_without_a_gain_there_is_one_weight(self):
    self.assertLen(layer_with(KERNEL, use_gain=False).weights, 1)

  def test_configuration_makes_the_same_layer(self):
    model = keras.Sequential(
      [
        keras.Input((2,)),
        tfmeta.layers.CosineDense(
          3, scale=4.0, use_gain=False, kernel_initializer="zeros"
        ),
      ]
    )
    copied = keras.Sequential.from_config(model.get_config())
    self.assertEqual(copied.get_config(), model.get_config())
    self.assertEqual(copied.layers[-1].scale, 4.0)
    np.testing.assert_array_equal(copied.layers[-1].kernel, np.zeros((2, 3)))

  @parameterized.parameters({"units": 0}, {"units": 3, "scale": 0.0})
  def test_arguments_out_of_range_are_refused(self, **options):
    with self.assertRaisesRegex(ValueError, "Received"):
      tfmeta.layers.CosineDense(**options)


if __name__ == "__main__":
  absltest.main()
