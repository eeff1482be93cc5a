"""Tests the four-block network, in the variants of the papers."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

from tfmeta import layers
from tfmeta import models


class Conv4Test(parameterized.TestCase):
  @parameterized.named_parameters(
    # Weights of 4 convolutions, of normalization and of the head, counted by
    # hand.
    (
      "omniglot",
      (28, 28, 1),
      {
        "ways": 5,
        "pooling": "stride",
        "head_input": "mean",
        "scale": False,
        "head_initializer": keras.initializers.RandomNormal(stddev=1.0),
      },
      640 + 3 * 36928 + 4 * 64 + 325,
      64,
    ),
    (
      "mini_imagenet",
      (84, 84, 3),
      {"ways": 5, "filters": 32, "scale": False},
      896 + 3 * 9248 + 4 * 32 + 4005,
      800,
    ),
    (
      "default",
      (28, 28, 1),
      {"ways": 20},
      640 + 3 * 36928 + 8 * 64 + 1300,
      64,
    ),
  )
  def test_networks_of_the_papers(self, shape, options, weights, features):
    model = models.conv4(shape, **options)
    self.assertEqual(model.output_shape, (None, options["ways"]))
    count = sum(np.prod(v.shape) for v in model.trainable_variables)
    self.assertEqual(count, weights)
    self.assertEqual(model.get_layer("features").output.shape[-1], features)

  @parameterized.product(
    pooling=["max", "average", "stride"],
    normalization=["batch", "layer", "group", "none"],
  )
  def test_every_combination_is_exact(self, pooling, normalization):
    model = models.conv4(
      (16, 16, 1),
      ways=2,
      filters=4,
      pooling=pooling,
      normalization=normalization,
    )
    self.assertEqual(layers.inexact_layers(model, jit_compile=True), {})
    self.assertEqual(model(np.zeros((3, 16, 16, 1), "float32")).shape, (3, 2))

  def test_logits_are_linear(self):
    model = models.conv4((16, 16, 1), ways=2, filters=2)
    self.assertIs(model.get_layer("head").activation, keras.activations.linear)

  def test_double_precision_is_kept(self):
    model = models.conv4((16, 16, 1), ways=2, filters=2, dtype="float64")
    x = np.random.default_rng(0).normal(size=(3, 16, 16, 1))
    self.assertEqual(model(x).dtype, "float64")
    self.assertFalse(np.array_equal(model(x), model(x.astype("float32"))))

  def test_mixed_precision_keeps_float32_variables(self):
    model = models.conv4((16, 16, 1), ways=2, dtype="mixed_bfloat16")
    self.assertEqual({v.dtype for v in model.variables}, {"float32"})
    self.assertEqual(model.output.dtype, "bfloat16")

  def test_is_saved_and_loaded(self):
    model = models.conv4((16, 16, 1), ways=2, filters=2)
    path = self.create_tempfile("model.keras").full_path
    model.save(path)
    x = np.random.default_rng(0).normal(size=(3, 16, 16, 1)).astype("float32")
    np.testing.assert_array_equal(keras.saving.load_model(path)(x), model(x))

  @parameterized.named_parameters(
    ("pooling", {"pooling": "mean"}, "pooling='mean'"),
    ("normalization", {"normalization": "bn"}, "normalization='bn'"),
    ("head", {"head_input": "max"}, "head_input='max'"),
    ("ways", {"ways": 0}, "ways=0"),
    ("filters", {"filters": 0}, "filters=0"),
    ("small", {"input_shape": (15, 28, 1)}, r"input_shape=\(15, 28, 1\)"),
    ("flat", {"input_shape": (784,)}, r"input_shape=\(784,\)"),
  )
  def test_bad_argument_is_named(self, options, message):
    options = {"input_shape": (16, 16, 1), "ways": 2, **options}
    with self.assertRaisesRegex(ValueError, f"Received: {message}"):
      models.conv4(options.pop("input_shape"), **options)


if __name__ == "__main__":
  absltest.main()
