"""Tests the multilayer perceptron."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

from tfmeta import models


class MlpTest(parameterized.TestCase):
  def test_network_of_the_sinusoid_experiments(self):
    model = models.mlp((1,), outputs=1)
    shapes = [tuple(v.shape) for v in model.trainable_variables]
    self.assertEqual(shapes, [(1, 40), (40,), (40, 40), (40,), (40, 1), (1,)])

  def test_layers_have_names_of_their_own(self):
    # Automatic names count all layers of the program, so that a second model
    # of the same kind would have others.
    for _ in range(2):
      model = models.mlp((1,), outputs=1)
      names = [v.path for v in model.trainable_variables]
      self.assertEqual(
        [name for name in names if name.endswith("/kernel")],
        ["hidden_1/kernel", "hidden_2/kernel", "head/kernel"],
      )

  def test_outputs_are_linear_and_hidden_layers_are_not(self):
    model = models.mlp((2,), outputs=1, hidden=(3,))
    functions = [layer.activation for layer in model.layers[1:]]
    self.assertEqual(
      functions, [keras.activations.relu, keras.activations.linear]
    )

  def test_examples_of_several_axes_are_flattened(self):
    model = models.mlp((4, 4, 1), outputs=3, hidden=(5,))
    self.assertEqual(model(np.zeros((2, 4, 4, 1), "float32")).shape, (2, 3))

  def test_initializer_serves_all_kernels(self):
    model = models.mlp((2,), outputs=1, hidden=(3,), kernel_initializer="ones")
    for layer in model.layers[1:]:
      np.testing.assert_array_equal(layer.kernel, np.ones(layer.kernel.shape))

  def test_double_precision_is_kept(self):
    model = models.mlp((1,), outputs=1, dtype="float64")
    self.assertEqual(model.input.dtype, "float64")
    self.assertEqual(model.output.dtype, "float64")

  def test_context_is_learned_and_starts_at_zero(self):
    plain = models.mlp((2,), outputs=1, hidden=(3,))
    model = models.mlp((2,), outputs=1, hidden=(3,), context=4)
    names = [v.path for v in model.trainable_variables]
    self.assertEqual(names[:2], ["context/values", "hidden_1/kernel"])
    context, kernel, *others = model.trainable_variables
    self.assertEqual((context.shape, kernel.shape), ((4,), (6, 3)))
    for own, other in zip(plain.weights, [kernel[:2], *others], strict=True):
      own.assign(other)
    x = np.array([[1.0, -2.0], [0.5, 3.0]], "float32")
    np.testing.assert_allclose(model(x), plain(x), rtol=1e-6)
    # The context acts like a bias of the first hidden layer.
    context.assign([1.0, -1.0, 2.0, 0.5])
    plain.weights[1].assign_add((context[np.newaxis] @ kernel[2:])[0])
    np.testing.assert_allclose(model(x), plain(x), rtol=1e-5, atol=1e-6)
    copied = keras.Model.from_config(model.get_config())
    self.assertEqual(copied.get_layer("context").units, 4)

  def test_negative_context_is_refused(self):
    with self.assertRaisesRegex(ValueError, "`context` must.*-1"):
      models.mlp((1,), outputs=1, context=-1)

  @parameterized.parameters({"outputs": 0}, {"hidden": (3, 0)})
  def test_bad_size_is_refused(self, **options):
    with self.assertRaisesRegex(ValueError, "must be an integer of at least 1"):
      models.mlp((1,), **{"outputs": 1, **options})


if __name__ == "__main__":
  absltest.main()
