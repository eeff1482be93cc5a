"""Tests the residual network."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

from tfmeta import layers
from tfmeta import models


class Resnet12Test(parameterized.TestCase):
  def test_network_of_the_paper(self):
    model = models.resnet12((84, 84, 3), ways=5)
    convolutions = [
      layer
      for layer in model.layers
      if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3)
    ]
    self.assertLen(convolutions, 12)
    widths = [layer.filters for layer in convolutions[::3]]
    self.assertEqual(widths, [64, 160, 320, 640])
    # Kernels, and scale and shift of each normalization, for the widths above.
    kernels = sum(
      9 * (a + 2 * b) * b + a * b + 8 * b
      for a, b in ((3, 64), (64, 160), (160, 320), (320, 640))
    )
    count = sum(np.prod(v.shape) for v in model.trainable_variables)
    self.assertEqual(count, kernels + 640 * 5 + 5)

  def test_layers_are_exact(self):
    model = models.resnet12((16, 16, 1), ways=2, filters=(2, 4, 4, 4))
    self.assertEqual(layers.inexact_layers(model, jit_compile=True), {})
    self.assertEqual(model(np.zeros((3, 16, 16, 1), "float32")).shape, (3, 2))

  def test_shortcut_reaches_the_output(self):
    model = models.resnet12((4, 4, 1), ways=2, filters=(2,))
    for layer in model.layers:
      if layer.name == "stage_0_norm_2":
        layer.gamma.assign([0.0, 0.0])
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype("float32")
    self.assertGreater(np.ptp(model(x), axis=0).max(), 0.0)

  @parameterized.parameters(
    {"filters": (4, 0)}, {"normalization": "bn"}, {"input_shape": (8, 8, 1)}
  )
  def test_bad_argument_is_refused(self, **options):
    (name,) = options
    options = {"input_shape": (16, 16, 1), "ways": 2, **options}
    with self.assertRaisesRegex(ValueError, f"{name}="):
      models.resnet12(options.pop("input_shape"), **options)


if __name__ == "__main__":
  absltest.main()
