"""Tests several samples of weights for one task, in convolutional networks.

Such networks compute one sample after another. In a graph, few samples are
calls of one function and many are a loop; eagerly, each sample is computed by
itself.
"""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import replaced_noise
import tensorflow as tf

import tfmeta

WAYS = 2


def make_model(dropout_rate=0.0):
  """Builds one block of convolution, normalization and pooling, in float64."""
  keras.utils.set_random_seed(0)
  options = {"dtype": "float64"}
  inputs = x = keras.Input((4, 4, 1), **options)
  x = keras.layers.Conv2D(2, 3, padding="same", **options)(x)
  x = tfmeta.layers.BatchNormalization(**options)(x)
  x = keras.layers.Activation("relu", **options)(x)
  x = tfmeta.layers.MaxPooling2D(2, **options)(x)
  x = keras.layers.Flatten(**options)(x)
  if dropout_rate:
    x = keras.layers.Dropout(dropout_rate, **options)(x)
  return keras.Model(inputs, keras.layers.Dense(WAYS, **options)(x))


def make_task():
  random = np.random.default_rng(0)
  images = [tf.constant(random.normal(size=(n, 4, 4, 1))) for n in (4, 6)]
  labels = [tf.constant(np.arange(n) % WAYS) for n in (4, 6)]
  return images[0], labels[0], images[1], labels[1]


class ForEachSampleTest(parameterized.TestCase):
  # Three samples call a function each; six run in a loop.
  @parameterized.product(
    learner=(
      (tfmeta.EMAML, {}),
      (tfmeta.BMAML, {"meta_loss": "nll"}),
      (tfmeta.BMAML, {"prior": "hierarchical", "particle_weights": "head"}),
    ),
    count=(3, 6),
  )
  def test_graph_and_eager_execution_give_the_same_gradients(
    self, learner, count
  ):
    learner_class, options = learner
    learner = learner_class(
      make_model(),
      num_particles=count,
      inner_steps=2,
      inner_learning_rate=0.05,
      dtype="float64",
      **options,
    )

    def step(*task):
      with tf.GradientTape() as tape:
        loss, outputs = learner.task_loss(*task)
      return loss, outputs, tape.gradient(loss, learner.trainable_variables)

    in_graph = tf.nest.flatten(tf.function(step, autograph=False)(*make_task()))
    eager = tf.nest.flatten(step(*make_task()))
    for one, other in zip(in_graph, eager, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)

  @parameterized.product(count=(3, 7), method=("map", "vectorize", "unroll"))
  def test_each_sample_has_its_own_random_numbers(self, count, method):
    learner = tfmeta.PLATIPUS(
      make_model(dropout_rate=0.5),
      num_samples=count,
      inner_steps=1,
      inner_learning_rate=0.5,
      task_map=method,
      dtype="float64",
    )
    support_x, support_y, *_ = make_task()
    # Without noise in the weights, only their dropout tells samples apart.
    with replaced_noise.without_noise():
      in_graph, eager = (
        np.reshape(adapt(support_x, support_y)[-2], [count, -1])
        for adapt in (
          tf.function(learner.adapt, autograph=False),
          learner.adapt,
        )
      )
    for i in range(count):
      for j in range(i):
        self.assertGreater(np.abs(in_graph[i] - in_graph[j]).max(), 1e-3)
    np.testing.assert_allclose(in_graph, eager, rtol=1e-8, atol=1e-12)


if __name__ == "__main__":
  absltest.main()
