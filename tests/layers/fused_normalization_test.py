"""Compares fused kernels for images with composed operations in float64."""

import os
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta import layers
from tfmeta.layers import fused_normalization
from tfmeta.layers import normalization

EPSILON = 1e-3
SHAPE = (7, 6, 5, 4)
WAYS_TO_RUN = {
  "eager": lambda fn: fn,
  "graph": lambda fn: tf.function(fn, autograph=False),
}


def _composed(x, scale, offset, epsilon):
  mean, variance = normalization.exact_moments(x, [0, 1, 2])
  outputs = tf.nn.batch_normalization(x, mean, variance, offset, scale, epsilon)
  return outputs, mean, variance


def _random(seed, shape, dtype):
  return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)


def _derivatives(fn, order, dtype):
  """Returns derivatives by batch, scale and offset, of the given order."""
  point = [
    3 + 2 * _random(0, SHAPE, dtype),
    _random(1, 4, dtype),
    _random(2, 4, dtype),
  ]
  weights = _random(3, SHAPE, dtype)

  def scalar(point, depth):
    if not depth:
      outputs, mean, variance = fn(*point, EPSILON)
      of_outputs = tf.reduce_sum(weights * outputs + tf.tanh(outputs))
      return of_outputs + tf.reduce_sum(mean**2 * variance + variance**2)
    x, scale, offset = gradients(point, depth)
    of_images = tf.reduce_sum(weights * x**2)
    return of_images + tf.reduce_sum(scale**2 + scale * offset) / 100

  def gradients(point, depth):
    with tf.GradientTape() as tape:
      tape.watch(point)
      value = scalar(point, depth - 1)
    return tape.gradient(value, point)

  return gradients(point, order)


class FusedNormalizationTest(parameterized.TestCase):
  @parameterized.product(order=(1, 2, 3), way=tuple(WAYS_TO_RUN))
  def test_derivatives_are_those_of_the_formula(self, order, way):
    expected = _derivatives(_composed, order, tf.float64)
    found = WAYS_TO_RUN[way](
      lambda: _derivatives(
        fused_normalization.fused_batch_normalization, order, tf.float32
      )
    )()
    for right, other in zip(expected, found, strict=True):
      error = np.linalg.norm(right - tf.cast(other, tf.float64))
      self.assertLess(error / np.linalg.norm(right), 2e-5)

  def test_values_are_those_of_the_formula(self):
    x = 100 + _random(0, SHAPE, tf.float32)
    scale, offset = _random(1, 4, tf.float32), _random(2, 4, tf.float32)
    found = fused_normalization.fused_batch_normalization(
      x, scale, offset, EPSILON
    )
    doubles = [tf.cast(t, tf.float64) for t in (x, scale, offset)]
    for right, other in zip(_composed(*doubles, EPSILON), found, strict=True):
      np.testing.assert_allclose(other, right, rtol=1e-5, atol=1e-4)

  def test_number_of_images_may_be_unknown(self):
    fused = tf.function(
      lambda x: fused_normalization.fused_batch_normalization(
        x, tf.ones(4), tf.zeros(4), EPSILON
      )[2],
      input_signature=[tf.TensorSpec([None, None, None, 4], tf.float32)],
    )
    x = _random(0, SHAPE, tf.float32)
    expected = tf.math.reduce_variance(x, [0, 1, 2])
    np.testing.assert_allclose(fused(x), expected, rtol=1e-5)

  def test_under_xla_the_layer_keeps_its_digits_far_from_zero(self):
    """XLA computes the kernels with a variance that has no correct digit."""
    layer = layers.BatchNormalization()
    x = 1000 + _random(0, SHAPE, tf.float32)
    expected = layer(x, training=True)
    compiled = tf.function(layer, jit_compile=True, autograph=False)
    found = compiled(x, training=True)
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)

  def test_no_images_give_none(self):
    outputs = layers.BatchNormalization()(tf.zeros([0, 4, 4, 3]), training=True)
    self.assertEqual(outputs.shape, (0, 4, 4, 3))

  @parameterized.parameters(
    (SHAPE, tf.float32, (0, 1, 2), 1e-3, True),
    (SHAPE, tf.float64, (0, 1, 2), 1e-3, False),
    (SHAPE, tf.float32, (0, 2, 3), 1e-3, False),
    (SHAPE, tf.float32, (0, 1, 2), 1e-6, False),
    (SHAPE[2:], tf.float32, (0,), 1e-3, False),
  )
  def test_which_inputs_the_kernels_serve(
    self, shape, dtype, axes, epsilon, served
  ):
    x = tf.zeros(shape, dtype)
    found = fused_normalization.can_serve(x, axes, epsilon)
    self.assertEqual(found, served)

  def test_with_onednn_a_deep_network_with_biases_has_a_graph(self):
    """The graph had a cycle while the kernel had more than eight consumers."""
    done = subprocess.run(
      [sys.executable, "-c", _ONE_UPDATE],
      env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"},
      capture_output=True,
      text=True,
    )
    self.assertEqual(done.returncode, 0, done.stderr[-2000:])


_ONE_UPDATE = """
import numpy as np
import tfmeta
model = tfmeta.models.conv4((16, 16, 1), ways=5, filters=2)
learner = tfmeta.MAML(model, inner_steps=2)
learner.compile("sgd")
images, labels = np.random.normal(size=(2, 5, 16, 16, 1)), np.eye(5)[:2] > 0
tasks = {"support_x": images, "support_y": 1 * labels, "query_x": images}
assert np.isfinite(learner.train_on_batch(tasks, 1 * labels))
"""


if __name__ == "__main__":
  absltest.main()
