"""Tests gradients of a function's own, before and after saving."""

import logging

from absl.testing import absltest
import tensorflow as tf

from tfmeta.core import custom_gradients


@custom_gradients.custom_gradient
def _square(x):
  return x * x, lambda upstream: 2 * _product(upstream, x)


@custom_gradients.custom_gradient
def _product(x, y):
  return x * y, lambda upstream: (_product(upstream, y), _product(upstream, x))


def _derivatives(fn, at):
  """Returns the first and the second derivative of `fn`."""
  x = tf.constant(at)
  with tf.GradientTape() as outer:
    outer.watch(x)
    with tf.GradientTape() as inner:
      inner.watch(x)
      y = fn(x)
    first = inner.gradient(y, x)
  return first, outer.gradient(first, x)


class CustomGradientTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.module = tf.Module()
    self.module.square = tf.function(
      lambda x: _square(x), input_signature=[tf.TensorSpec([])]
    )

  def loaded(self):
    """Saves the module, and loads it without a warning."""
    folder = self.create_tempdir().full_path
    # This catches the gradients of gradients of `tf.custom_gradient`, which
    # TensorFlow cannot save.
    with self.assertNoLogs(logging.getLogger("absl"), "WARNING"):
      tf.saved_model.save(self.module, folder)
      return tf.saved_model.load(folder)

  def test_has_derivatives_of_any_order(self):
    self.assertEqual(_derivatives(_square, 3.0), (6.0, 2.0))
    in_graph = tf.function(lambda: _derivatives(_square, 3.0))
    self.assertEqual(in_graph(), (6.0, 2.0))

  def test_a_saved_model_has_the_first_derivative(self):
    self.module.square.get_concrete_function()
    loaded = self.loaded()
    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = loaded.square(x)
    self.assertEqual(float(tape.gradient(y, x)), 6.0)

  def test_a_function_traced_by_saving_has_it_too(self):
    # This catches gradients that end at each function in the file.
    loaded = self.loaded()
    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = loaded.square(x)
    self.assertEqual(float(tape.gradient(y, x)), 6.0)

  def test_a_saved_model_refuses_the_second_derivative(self):
    # This catches gradients that are constants in the file: the second
    # derivative would be 0 without a word.
    loaded = self.loaded()
    with self.assertRaisesRegex(LookupError, "first derivatives only"):
      _derivatives(loaded.square, 3.0)

  def test_saving_leaves_the_function_as_it_was(self):
    self.loaded()
    self.assertEqual(_derivatives(_square, 3.0), (6.0, 2.0))


if __name__ == "__main__":
  absltest.main()
