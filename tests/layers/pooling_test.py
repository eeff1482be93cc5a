"""Tests max pooling: the values of Keras, and exact derivatives under XLA."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta import layers
from tfmeta.core import keras_internals

# The first two differ by less than bfloat16 can represent.
NEAR_TIE = np.array([1.0, 1.001, 0.5, 0.2], "float32").reshape(1, 2, 2, 1)


def _second_derivative(layer, x):
  """Returns the derivative of a gradient by the upstream gradient."""
  push = tf.constant(np.arange(1.0, 5.0, dtype="float32").reshape(x.shape))
  above = tf.ones((1, 1, 1, 1))
  with tf.GradientTape() as outer:
    outer.watch(above)
    with tf.GradientTape() as inner:
      inner.watch(x)
      loss = tf.reduce_sum(above * layer(x))
    scalar = tf.reduce_sum(push * inner.gradient(loss, x))
  return outer.gradient(scalar, above)


def _compiled(function):
  return tf.function(function, jit_compile=True, autograph=False)


class MaxPooling2DTest(parameterized.TestCase):
  @parameterized.product(
    options=[
      {},
      {"pool_size": 3, "strides": 2},
      {"pool_size": (2, 3), "strides": (3, 1)},
      {"padding": "same"},
      {"pool_size": 3, "strides": 2, "padding": "same"},
    ],
    dtype=["float32", "bfloat16", "float64"],
  )
  def test_slices_are_bit_equal_to_keras(self, options, dtype):
    x = tf.cast(np.random.default_rng(0).normal(size=(2, 7, 8, 3)), dtype)
    stock = keras.layers.MaxPooling2D(dtype=dtype, **options)
    ours = layers.MaxPooling2D(method="slices", dtype=dtype, **options)
    np.testing.assert_array_equal(stock(x), ours(x))

  def test_channels_first(self):
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 8))
    options = {"data_format": "channels_first", "padding": "same"}
    stock = keras.layers.MaxPooling2D(**options)
    ours = layers.MaxPooling2D(method="slices", **options)
    np.testing.assert_array_equal(stock(x), ours(x))

  def test_gradient_of_a_tie_goes_to_the_first(self):
    x = tf.ones((1, 2, 2, 1))
    for method in ("stock", "slices"):
      with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layers.MaxPooling2D(method=method)(x)
      gradient = tf.reshape(tape.gradient(outputs, x), [-1])
      np.testing.assert_array_equal(gradient, [1, 0, 0, 0])

  def test_gradient_may_be_sparse(self):
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 4, 4, 2)))
    found = []
    for pool in (layers.MaxPooling2D(), keras.layers.MaxPooling2D()):
      with tf.GradientTape() as tape:
        tape.watch(x)
        chosen = tf.gather(pool(x), [2, 0, 2])
      found.append(tape.gradient(chosen, x))
    np.testing.assert_array_equal(*found)

  def test_gradient_in_another_function_holds_the_pooling_too(self):
    # oneDNN's fast gradient needs both in one graph.
    pool = tf.function(layers.MaxPooling2D(), autograph=False)

    @tf.function(autograph=False)
    def gradient(x):
      with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = pool(x)
      return tape.gradient(outputs, x)

    graph = gradient.get_concrete_function(tf.TensorSpec((1, 4, 4, 1))).graph
    functions = graph.as_graph_def().library.function
    backward = [f for f in functions if "backward" in f.signature.name]
    types = [{node.op for node in f.node_def} for f in backward]
    self.assertTrue(types)
    for found in types:
      self.assertContainsSubset({"MaxPool", "MaxPoolGrad"}, found)

  def test_unknown_spatial_shape(self):
    inputs = keras.Input((None, None, 1))
    for padding in ("valid", "same"):
      pool = layers.MaxPooling2D(method="slices", padding=padding)
      model = keras.Model(inputs, pool(inputs))
      stock = keras.layers.MaxPooling2D(padding=padding)
      x = np.random.default_rng(0).normal(size=(1, 5, 7, 1)).astype("float32")
      np.testing.assert_array_equal(model(x), stock(x))

  def test_second_derivative_is_right_when_compiled(self):
    """This fails if the layer no longer notices that XLA compiles it."""
    layer = layers.MaxPooling2D()
    expected = _second_derivative(layer, tf.constant(NEAR_TIE))
    found = _compiled(lambda x: _second_derivative(layer, x))(NEAR_TIE)
    np.testing.assert_array_equal(expected, found)

  def test_stock_layer_is_still_wrong_when_compiled(self):
    """If this test fails, XLA is fixed, and this layer can be removed."""
    layer = keras.layers.MaxPooling2D()
    expected = _second_derivative(layer, tf.constant(NEAR_TIE))
    found = _compiled(lambda x: _second_derivative(layer, x))(NEAR_TIE)
    self.assertFalse(np.allclose(expected, found))

  @parameterized.parameters(("auto", True), ("stock", False))
  def test_second_derivative_of_windows_that_move_by_one(self, method, right):
    """The kernel overwrites its inputs if the outputs have the same size."""
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 5, 1)))
    pool, slices = (
      layers.MaxPooling2D(
        2, strides=1, padding="same", method=method, dtype="float64"
      )
      for method in (method, "slices")
    )

    def second(layer):
      def evaluate(x):
        with tf.GradientTape() as outer:
          outer.watch(x)
          with tf.GradientTape() as inner:
            inner.watch(x)
            value = tf.reduce_sum(layer(x) ** 3)
          along = tf.reduce_sum(tf.sin(inner.gradient(value, x)))
        return outer.gradient(along, x)

      return tf.function(evaluate, autograph=False)(x).numpy()

    error = np.abs(second(pool) - second(slices)).max()
    self.assertEqual(error < 1e-12, right)

  def test_stock_operation_serves_where_nothing_is_compiled(self):
    function = tf.function(layers.MaxPooling2D(), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec((1, 4, 4, 1))).graph
    self.assertIn("MaxPool", {op.type for op in graph.get_operations()})

  def test_context_is_seen_from_inside_a_map(self):
    seen = []

    def function(x):
      def body(row):
        seen.append(keras_internals.in_xla_context())
        return row

      return tf.map_fn(body, x)

    x = tf.zeros((2, 3))
    _compiled(function)(x)
    self.assertEqual(seen, [True])
    tf.function(function, autograph=False)(x)
    self.assertEqual(seen, [True, False])
    self.assertFalse(keras_internals.in_xla_context())

  def test_configuration(self):
    layer = layers.MaxPooling2D(3, strides=2, method="slices", name="pool")
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    self.assertIsInstance(again, layers.MaxPooling2D)
    self.assertEqual(again.get_config(), layer.get_config())
    self.assertEqual(again.method, "slices")

  def test_unknown_method_is_refused(self):
    with self.assertRaisesRegex(ValueError, "Received: method='fast'"):
      layers.MaxPooling2D(method="fast")


if __name__ == "__main__":
  absltest.main()
