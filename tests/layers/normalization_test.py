"""Tests normalization: the values of Keras, and exact derivatives."""

import functools
import inspect

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta import layers
from tfmeta.layers import normalization

CASES = (
  ("batch", "BatchNormalization", {}),
  ("batch_first_axis", "BatchNormalization", {"axis": 1}),
  ("batch_bare", "BatchNormalization", {"scale": False, "center": False}),
  ("layer", "LayerNormalization", {}),
  ("layer_two_axes", "LayerNormalization", {"axis": [1, -1]}),
  ("layer_rms", "LayerNormalization", {"rms_scaling": True}),
  ("layer_bare", "LayerNormalization", {"scale": False, "center": False}),
  ("group", "GroupNormalization", {"groups": 2}),
  ("group_first_axis", "GroupNormalization", {"groups": 2, "axis": 1}),
  ("group_instance", "GroupNormalization", {"groups": -1}),
)
POLICIES = ("float32", "float64", "mixed_bfloat16")
# Images with channels last, which kernels normalize: they round differently.
BY_KERNELS = ("batch", "batch_bare")


def _pair(kind, **kwargs):
  """Returns Keras's layer and ours with the same random weights."""
  pair = [getattr(module, kind)(**kwargs) for module in (keras.layers, layers)]
  for layer in pair:
    layer.build((None, 6, 5, 4))
    generator = np.random.default_rng(0)
    for variable in layer.trainable_variables:
      variable.assign(generator.normal(size=variable.shape))
  return pair


def _images(dtype="float32"):
  values = np.random.default_rng(1).normal(3.0, 2.0, (7, 6, 5, 4))
  return tf.constant(values, dtype)


def _wide(outputs):
  """Returns an array that NumPy can compare, because it has no bfloat16."""
  return tf.cast(outputs, tf.float64)


def _call(layer, x):
  weights = [v.value for v in layer.trainable_variables]
  state = [v.value for v in layer.non_trainable_variables]
  training = {"training": True} if state else {}
  return layer.stateless_call(weights, state, x, **training)


def _directional_derivatives(layer, x):
  """Returns a second derivative, by two tapes and by central differences."""
  generator = np.random.default_rng(2)
  direction, mix, top = (
    tf.constant(generator.normal(size=x.shape)) for _ in range(3)
  )

  def first(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      outputs = _call(layer, x)[0]
      loss = tf.reduce_sum(top * outputs + outputs**3)
    return tf.reduce_sum(mix * tape.gradient(loss, x))

  with tf.GradientTape() as tape:
    tape.watch(x)
    scalar = first(x)
  exact = tf.reduce_sum(direction * tape.gradient(scalar, x))
  above, below = first(x + 1e-5 * direction), first(x - 1e-5 * direction)
  return float(exact), float(above - below) / 2e-5


class NormalizationTest(parameterized.TestCase):
  @parameterized.named_parameters(
    *(
      (f"{label}_{policy}", name, kwargs, policy, label in BY_KERNELS)
      for label, name, kwargs in CASES
      for policy in POLICIES
    )
  )
  def test_values_and_moving_statistics_are_those_of_keras(
    self, name, kwargs, policy, by_kernels
  ):
    stock, ours = _pair(name, dtype=policy, **kwargs)
    x = _images("float64" if policy == "float64" else "float32")
    (expected, state), (found, own_state) = (
      _call(layer, x) for layer in (stock, ours)
    )
    check = np.testing.assert_array_equal
    if by_kernels and policy != "float64":
      # At most the last digit of the outputs' dtype may differ.
      rtol = 2**-7 if policy == "mixed_bfloat16" else 1e-5
      check = functools.partial(
        np.testing.assert_allclose, rtol=rtol, atol=1e-6
      )
    self.assertEqual(found.dtype, ours.compute_dtype)
    # Older versions of Keras leave group normalization in float32.
    expected = tf.cast(expected, found.dtype)
    check(_wide(expected), _wide(found))
    for old, new in zip(state, own_state, strict=True):
      check(old, new)

  @parameterized.named_parameters(*CASES)
  def test_first_derivatives_are_those_of_keras(self, name, kwargs):
    gradients = []
    for layer in _pair(name, dtype="float64", **kwargs):
      x = _images("float64")
      with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(_call(layer, x)[0] ** 3)
      gradients.append(tape.gradient(loss, x))
    np.testing.assert_allclose(*gradients, rtol=1e-9, atol=1e-9)

  @parameterized.named_parameters(*CASES)
  def test_second_derivatives_are_exact(self, name, kwargs):
    _, ours = _pair(name, dtype="float64", **kwargs)
    exact, differences = _directional_derivatives(ours, _images("float64"))
    self.assertAlmostEqual(exact / differences, 1.0, delta=1e-7)

  @parameterized.parameters(
    "BatchNormalization", "LayerNormalization", "GroupNormalization"
  )
  def test_stock_layer_is_still_wrong(self, name):
    """If this test fails, Keras is fixed, and these layers can be removed."""
    kwargs = {"groups": 2} if name.startswith("Group") else {}
    stock, _ = _pair(name, dtype="float64", **kwargs)
    wrong, differences = _directional_derivatives(stock, _images("float64"))
    self.assertGreater(abs(wrong / differences - 1.0), 1e-5)

  def test_masked_statistics_are_those_of_keras(self):
    stock, ours = _pair("BatchNormalization")
    mask = tf.constant(np.arange(7 * 6 * 5).reshape(7, 6, 5) % 3 > 0)
    np.testing.assert_array_equal(
      *(layer(_images(), training=True, mask=mask) for layer in (stock, ours))
    )

  @parameterized.parameters({"training": False}, {"frozen": True})
  def test_moving_statistics_serve_without_training(
    self, training=True, frozen=False
  ):
    pair = _pair("BatchNormalization")
    for layer in pair:
      layer.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
      layer.trainable = not frozen
    np.testing.assert_array_equal(
      *(layer(_images(), training=training) for layer in pair)
    )
    np.testing.assert_array_equal(pair[1].moving_mean, [1.0, 2.0, 3.0, 4.0])

  @parameterized.named_parameters(*CASES)
  def test_configuration_is_that_of_keras(self, name, kwargs):
    stock, ours = _pair(name, name="norm", **kwargs)
    self.assertEqual(stock.get_config(), ours.get_config())
    config = keras.saving.serialize_keras_object(ours)
    self.assertEqual(config["registered_name"], f"tfmeta>{name}")
    again = keras.saving.deserialize_keras_object(config)
    self.assertIs(type(again), type(ours))

  @parameterized.parameters("renorm", "synchronized")
  def test_options_that_cannot_be_exact_are_refused(self, option):
    known = inspect.signature(keras.layers.BatchNormalization).parameters
    if option not in known:
      self.skipTest(f"This version of Keras has no `{option}`.")
    with self.assertRaisesRegex(ValueError, f"`{option}` must be False"):
      layers.BatchNormalization(**{option: True})

  def test_keras_may_have_no_batch_renormalization(self):
    """Keras 3.13 and earlier set no attribute `renorm`."""

    def without(layer, *args, **kwargs):
      made(layer, *args, **kwargs)
      layer.__dict__.pop("renorm", None)

    stock = keras.layers.BatchNormalization
    made = stock.__init__
    with absltest.mock.patch.object(stock, "__init__", without):
      layers.BatchNormalization()

  def test_unknown_spatial_shape(self):
    inputs = keras.Input((None, None, 4))
    outputs = layers.GroupNormalization(groups=2)(inputs)
    outputs = layers.LayerNormalization()(outputs)
    outputs = layers.BatchNormalization()(outputs)
    model = keras.Model(inputs, outputs)
    self.assertEqual(model.output_shape, (None, None, None, 4))
    self.assertEqual(model(_images()).shape, (7, 6, 5, 4))

  def test_moments_do_not_cancel_far_from_zero(self):
    """`E[x**2] - E[x]**2` would lose all digits here."""
    x = 1e4 + np.random.default_rng(3).normal(size=(1000, 2))
    _, variance = normalization.exact_moments(tf.constant(x, tf.float32), [0])
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-2)


if __name__ == "__main__":
  absltest.main()
