"""Tests learned numbers beside the inputs of a network."""

from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

import tfmeta


class LearnedInputsTest(absltest.TestCase):
  def test_numbers_follow_the_inputs_of_each_example(self):
    layer = tfmeta.layers.LearnedInputs(2)
    x = np.array([[1.0], [2.0]], "float32")
    np.testing.assert_array_equal(layer(x), [[1, 0, 0], [2, 0, 0]])
    layer.values.assign([3.0, 4.0])
    np.testing.assert_array_equal(layer(x), [[1, 3, 4], [2, 3, 4]])
    self.assertEqual(layer.compute_output_shape((None, 1)), (None, 3))

  def test_an_inner_loop_adapts_them_for_each_task(self):
    keras.utils.set_random_seed(0)
    model = tfmeta.models.mlp((1,), outputs=1, hidden=(4,), context=3)
    learner = tfmeta.MAML(model, inner_loss="mse", inner_learning_rate=0.1)
    x = tf.constant([[0.0], [1.0], [2.0]])
    up, down = (learner.adapt(x, sign * (x + 1))[0] for sign in (1, -1))
    self.assertGreater(np.abs(up).max(), 1e-3)
    self.assertGreater(np.abs(up - down).max(), 1e-3)
    np.testing.assert_array_equal(model.get_layer("context").values, [0, 0, 0])

  def test_infinite_inputs_are_kept(self):
    # A product of the inputs with zero would make the numbers NaN.
    outputs = tfmeta.layers.LearnedInputs(1)(np.array([[np.inf]], "float32"))
    np.testing.assert_array_equal(outputs, [[np.inf, 0]])

  def test_no_numbers_are_refused(self):
    with self.assertRaisesRegex(ValueError, "`units` must.*Received"):
      tfmeta.layers.LearnedInputs(0)


if __name__ == "__main__":
  absltest.main()
