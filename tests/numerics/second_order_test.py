"""Compares meta-gradients of learners in float64 with central differences.

The weights move along a random direction, by 1e-5 of it. Max pooling has kinks;
there the step is so small that none is crossed. A kink inside the step would
put the differences off by far more than the tolerance.
"""

from unittest import mock
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta import layers
from tfmeta import models
from tfmeta.core import exact_gradients
from tfmeta.layers import copying

WAYS = 3
STEP = 1e-5
STEP_BETWEEN_KINKS = 1e-8


def _conv4(pooling):
  return models.conv4(
    (16, 16, 1),
    ways=WAYS,
    filters=4,
    pooling=pooling,
    activation="softplus",
    dtype="float64",
  )


def _mlp():
  return models.mlp(
    (16, 16, 1), outputs=WAYS, activation="tanh", dtype="float64"
  )


def _layer_normalized():
  # An inexact layer normalization right behind a linear layer would do no harm:
  # the term that it loses acts on the mean over the features, which its
  # gradient keeps. Softplus lies between them, so that the test can fail.
  return keras.Sequential(
    [
      keras.Input((16, 16, 1), dtype="float64"),
      keras.layers.Flatten(dtype="float64"),
      keras.layers.Dense(8, activation="softplus", dtype="float64"),
      layers.LayerNormalization(dtype="float64"),
      keras.layers.Dense(WAYS, dtype="float64"),
    ]
  )


def _stock(model):
  """Returns the same model with the layers of Keras."""

  def edit(config):
    if str(config.get("registered_name")).startswith("tfmeta>"):
      inner = {k: v for k, v in config["config"].items() if k != "method"}
      return {
        **config,
        "module": "keras.layers",
        "registered_name": None,
        "config": inner,
      }
    return config

  return copying.rebuild(model, edit)


def _task():
  generator = np.random.default_rng(0)
  x = tf.constant(generator.normal(size=(2, 2 * WAYS, 16, 16, 1)))
  y = tf.constant([*range(WAYS)] * 2)
  return x[0], y, x[1], y


def _error(model, step=STEP, learner_class=tfmeta.MAML, **options):
  """Returns the relative error of the meta-gradient along one direction."""
  learner = learner_class(
    model, inner_steps=2, inner_learning_rate=0.3, dtype="float64", **options
  )
  variables = learner.trainable_variables
  generator = np.random.default_rng(1)
  for variable in variables:  # Zero biases and equal scales are special.
    variable.assign_add(0.1 * generator.normal(size=variable.shape))
  direction = [tf.constant(generator.normal(size=v.shape)) for v in variables]

  @tf.function(autograph=False)
  def evaluate():
    with tf.GradientTape() as tape:
      loss, _ = learner.task_loss(*_task())
    gradients = tape.gradient(loss, variables)
    return loss, sum(
      tf.reduce_sum(g * d) for g, d in zip(gradients, direction, strict=True)
    )

  slope = float(evaluate()[1])
  start = [tf.identity(v.value) for v in variables]
  losses = []
  for sign in (1, -1):
    for variable, value, d in zip(variables, start, direction, strict=True):
      variable.assign(value + sign * step * d)
    losses.append(float(evaluate()[0]))
  differences = (losses[0] - losses[1]) / (2 * step)
  return abs(slope - differences) / abs(differences)


class MetaGradientTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("conv4_average", lambda: _conv4("average")),
    ("conv4_max", lambda: _conv4("max"), STEP_BETWEEN_KINKS),
    ("mlp", _mlp),
    ("layer_normalization", _layer_normalized),
  )
  def test_is_exact(self, build, step=STEP):
    keras.utils.set_random_seed(0)
    self.assertLess(_error(build(), step), 1e-6)

  def test_is_exact_with_support_statistics(self):
    keras.utils.set_random_seed(0)
    error = _error(_conv4("average"), normalization="support_stats")
    self.assertLess(error, 1e-6)

  @parameterized.parameters(tfmeta.ANIL, tfmeta.MetaSGD)
  def test_is_exact_for_what_is_adapted_in_another_way(self, learner_class):
    """ANIL learns a body behind the adapted head, Meta-SGD learning rates."""
    keras.utils.set_random_seed(0)
    error = _error(_conv4("average"), learner_class=learner_class)
    self.assertLess(error, 1e-6)

  @parameterized.named_parameters(
    ("batch", lambda: _conv4("average")),
    ("layer", _layer_normalized),
  )
  def test_is_exact_with_the_stock_layer(self, build):
    """Derivatives of TensorFlow's own moments are wrong: see the next test."""
    keras.utils.set_random_seed(0)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      self.assertLess(_error(_stock(build())), 1e-6)

  @parameterized.named_parameters(
    ("batch", lambda: _conv4("average")),
    ("layer", _layer_normalized),
  )
  def test_is_wrong_if_called_as_it_is(self, build):
    """This shows that the tests above can fail."""
    keras.utils.set_random_seed(0)

    def apply(model, *args, **kwargs):
      return model.stateless_call(*args, **kwargs)

    with mock.patch.object(exact_gradients, "apply", apply):
      error = _error(_stock(build()))
    self.assertGreater(error, 1e-5)


if __name__ == "__main__":
  absltest.main()
