"""Tests SavedModels of learners: what their signatures take and say."""

import logging

from absl.testing import absltest
from absl.testing import parameterized
import keras
import tensorflow as tf

import tfmeta

WAYS = 3


def _conv():
  return tfmeta.models.conv4((16, 16, 1), ways=WAYS, filters=2)


def _learners():
  """Returns a small learner of each kind that exports classification."""
  one = {"inner_steps": 1}
  embedded = tfmeta.models.embedding_head(4, ways=WAYS, use_bias=False)
  return {
    "MAML": lambda: tfmeta.MAML(_conv(), **one),
    "ANIL": lambda: tfmeta.ANIL(_conv(), **one),
    "BMAML": lambda: tfmeta.BMAML(_conv(), num_particles=2, **one),
    "LEO": lambda: tfmeta.LEO(embedded, num_latents=2, **one),
  }


class LoadingTest(parameterized.TestCase):
  @parameterized.parameters("MAML", "BMAML", "LEO")
  def test_warns_of_nothing(self, name):
    # This catches normalization and kernels whose gradients TensorFlow cannot
    # save: loading warned of each.
    keras.utils.set_random_seed(0)
    folder = self.create_tempdir().full_path
    with self.assertNoLogs(logging.getLogger("absl"), "WARNING"):
      _learners()[name]().export(folder)
      tf.saved_model.load(folder)

  def test_a_support_set_that_is_not_finite_is_refused(self):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(WAYS)])
    folder = self.create_tempdir().full_path
    tfmeta.MAML(network).export(folder, verbose=False)
    signatures = tf.saved_model.load(folder).signatures
    x = tf.constant([[1.0, 2, 3, 4], [4, 3, float("nan"), 1]])
    y = tf.constant([0, 1])
    error = tf.errors.InvalidArgumentError
    with self.assertRaisesRegex(error, "support_x must be finite"):
      signatures["adapt"](support_x=x, support_y=y)
    with self.assertRaisesRegex(error, "support_x must be finite"):
      signatures["serving_default"](
        support_x=x[tf.newaxis], support_y=y[tf.newaxis], query_x=x[tf.newaxis]
      )

  def test_sizes_that_do_not_fit_are_refused(self):
    # One query set would be broadcast to all support sets.
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(WAYS)])
    learner = tfmeta.MAML(network)
    folder = self.create_tempdir().full_path
    learner.export(folder, verbose=False)
    signatures = tf.saved_model.load(folder).signatures
    x, y = tf.ones([4, 3, 4]), tf.zeros([4, 3], tf.int32)
    sentence = "one target for each .* one query set for each support set"
    for tasks in (
      {"support_x": x, "support_y": y, "query_x": x[:1]},
      {"support_x": x[:1], "support_y": y[:1], "query_x": x},
      {"support_x": x, "support_y": y[:, :2], "query_x": x},
    ):
      with self.assertRaisesRegex(tf.errors.InvalidArgumentError, sentence):
        signatures["serving_default"](**tasks)
    with self.assertRaisesRegex(ValueError, f"{sentence}.* Received: sizes"):
      learner({"support_x": x, "support_y": y, "query_x": x[:1]})
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, sentence):
      signatures["adapt"](support_x=x[0, :0], support_y=y[0, :0])
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "query_x must"):
      weights = signatures["adapt"](support_x=x[0], support_y=y[0])
      nan = tf.constant([[float("nan")] * 4])
      signatures["predict"](query_x=nan, **weights)


if __name__ == "__main__":
  absltest.main()
