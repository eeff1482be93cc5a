"""Tests replacing layers: the same model with exact second derivatives."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

from tfmeta import layers


@keras.saving.register_keras_serializable("exact_test")
class Wrapper(keras.layers.Layer):
  """A layer that keeps another one in its configuration."""

  def __init__(self, inner, **kwargs):
    super().__init__(**kwargs)
    self.inner = inner

  def build(self, input_shape):
    if not self.inner.built:
      self.inner.build(input_shape)

  def call(self, inputs):
    return self.inner(inputs)

  def get_config(self):
    inner = keras.saving.serialize_keras_object(self.inner)
    return {**super().get_config(), "inner": inner}

  @classmethod
  def from_config(cls, config):
    config["inner"] = keras.saving.deserialize_keras_object(config["inner"])
    return cls(**config)


class Hidden(keras.Model):
  """A model that makes its normalization in code."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.norm = keras.layers.BatchNormalization(name="hidden_norm")

  def call(self, inputs):
    return self.norm(inputs)


class NoConfig(keras.Model):
  """A model that cannot be rebuilt from its configuration."""

  def __init__(self, units, inner):
    super().__init__()
    self.inner = inner

  def call(self, inputs):
    return self.inner(inputs)


def _nested_model():
  block = keras.Sequential(
    [
      keras.Input((8, 8, 3)),
      keras.layers.BatchNormalization(name="norm", scale=False),
      keras.layers.MaxPooling2D(name="pool"),
    ],
    name="block",
  )
  shared = keras.layers.BatchNormalization(name="shared", momentum=0.5)
  inputs = keras.Input((8, 8, 3), name="images")
  x = shared(keras.layers.Conv2D(3, 3, padding="same")(shared(inputs)))
  x = keras.layers.Dropout(0.5, seed=3)(block(x))
  x = Wrapper(keras.layers.GroupNormalization(3, name="group"), name="wrap")(x)
  x = keras.layers.TimeDistributed(
    keras.layers.LayerNormalization(name="layer"), name="rows"
  )(x)
  outputs = keras.layers.Dense(2)(keras.layers.Flatten()(x))
  model = keras.Model(inputs, outputs, name="nested")
  generator = np.random.default_rng(0)
  for variable in model.trainable_variables:
    variable.assign(generator.normal(size=variable.shape))
  return model


def _images():
  return np.random.default_rng(1).normal(size=(6, 8, 8, 3)).astype("float32")


class ExactTest(parameterized.TestCase):
  def test_layers_are_found_at_any_depth(self):
    self.assertEqual(
      list(layers.inexact_layers(_nested_model())),
      ["shared", "block/norm", "wrap/group", "rows/layer"],
    )
    compiled = layers.inexact_layers(_nested_model(), jit_compile=True)
    self.assertIn("block/pool", compiled)

  def test_layers_are_replaced_at_any_depth(self):
    model = layers.exact(_nested_model())
    self.assertEqual(layers.inexact_layers(model, jit_compile=True), {})

  def test_outputs_and_state_are_the_same(self):
    model = _nested_model()
    model.compile("adam", "mse", metrics=["mae"])
    model(_images(), training=True)  # Moves all state.
    copy = layers.exact(model)
    both = [m(_images(), training=False) for m in (model, copy)]
    np.testing.assert_array_equal(*both)
    for old, new in zip(model.variables, copy.variables, strict=True):
      self.assertEqual(old.name, new.name)
      np.testing.assert_array_equal(old, new)
    # The kernels of batch normalization round differently.
    both = [m(_images(), training=True) for m in (model, copy)]
    np.testing.assert_allclose(*both, rtol=1e-5)

  def test_names_and_configuration_are_the_same(self):
    model = _nested_model()
    copy = layers.exact(model)
    self.assertEqual(model.name, copy.name)
    for old, new in zip(model.layers, copy.layers, strict=True):
      self.assertEqual(old.name, new.name)
      self.assertEqual(old.trainable, new.trainable)
    self.assertEqual(copy.get_layer("shared").momentum, 0.5)
    self.assertFalse(copy.get_layer("block").get_layer("norm").scale)

  def test_shared_layer_stays_shared(self):
    model = _nested_model()
    self.assertLen(layers.exact(model).variables, len(model.variables))

  def test_copy_shares_no_variable(self):
    model = _nested_model()
    before = model.get_weights()
    for variable in layers.exact(model).trainable_variables:
      variable.assign(variable + 1)
    for old, new in zip(before, model.get_weights(), strict=True):
      np.testing.assert_array_equal(old, new)

  def test_frozen_layers_stay_frozen_and_are_not_listed(self):
    model = _nested_model()
    model.get_layer("shared").trainable = False
    copy = layers.exact(model)
    self.assertFalse(copy.get_layer("shared").trainable)
    self.assertNotIn("shared", layers.inexact_layers(model))

  def test_copy_is_saved_and_loaded(self):
    copy = layers.exact(_nested_model())
    path = self.create_tempfile("model.keras").full_path
    copy.save(path)
    loaded = keras.saving.load_model(path)
    self.assertEqual(layers.inexact_layers(loaded), {})
    np.testing.assert_array_equal(copy(_images()), loaded(_images()))

  @parameterized.named_parameters(("before", True), ("after", False))
  def test_resize_counts_only_after_trained_weights(self, before):
    resize = keras.layers.UpSampling2D(interpolation="bilinear", name="up")
    convolution = keras.layers.Conv2D(1, 3)
    parts = [resize, convolution] if before else [convolution, resize]
    model = keras.Sequential([keras.Input((8, 8, 1)), *parts])
    self.assertEqual("up" in layers.inexact_layers(model), not before)

  def test_max_pooling_that_keeps_the_size_is_listed_without_xla(self):
    pool = keras.layers.MaxPooling2D(2, 1, "same", name="pool")
    model = keras.Sequential([keras.Input((8, 8, 1)), pool])
    self.assertEqual([*layers.inexact_layers(model)], ["pool"])
    self.assertEqual(layers.inexact_layers(layers.exact(model)), {})

  def test_layers_made_in_code_are_refused(self):
    model = Hidden(name="hidden")
    model(np.zeros((2, 3), "float32"))
    with self.assertRaisesRegex(ValueError, "hidden_norm cannot be replaced"):
      layers.exact(model)

  def test_model_without_configuration_is_refused(self):
    model = NoConfig(3, keras.layers.Dense(2))
    model(np.zeros((2, 3), "float32"))
    with self.assertRaisesRegex(
      ValueError, "whose `get_config` returns all arguments"
    ):
      layers.exact(model)

  def test_constants_made_from_variables_are_copied(self):
    """`Normalization` computes with tensors, not with its variables."""
    adapted = keras.layers.Normalization()
    adapted.adapt(np.arange(12.0).reshape(4, 3))
    model = keras.Sequential([keras.Input((3,)), adapted])
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(model(x), layers.exact(model)(x))

  def test_functions_of_ones_own_are_found(self):
    def doubled(x):
      return 2 * x

    dense = keras.layers.Dense(2, activation=doubled)
    model = keras.Sequential([keras.Input((3,)), dense])
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(model(x), layers.exact(model)(x))

  def test_unbuilt_model_is_refused(self):
    with self.assertRaisesRegex(ValueError, "must be built"):
      layers.exact(keras.Sequential([keras.layers.Dense(2)]))


if __name__ == "__main__":
  absltest.main()
