"""Draws of networks with convolutions, which come one after the other."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

WAYS = 2


def make(learner_class, **options):
  """A learner of a small network with convolutions, in float64."""
  keras.utils.set_random_seed(0)
  model = tfmeta.models.conv4(
    (16, 16, 1), ways=WAYS, filters=2, dtype="float64"
  )
  return learner_class(
    model,
    inner_steps=2,
    inner_learning_rate=0.05,
    dtype="float64",
    **options,
  )


def task():
  random = np.random.default_rng(0)
  images = [tf.constant(random.normal(size=(n, 16, 16, 1))) for n in (4, 6)]
  labels = [tf.constant(np.arange(n) % WAYS) for n in (4, 6)]
  return images[0], labels[0], images[1], labels[1]


class DrawsTest(parameterized.TestCase):
  # A function for each of few draws, and a loop for many.
  @parameterized.product(
    row=(
      (tfmeta.EMAML, {}),
      (tfmeta.BMAML, {"meta_loss": "nll"}),
      (tfmeta.BMAML, {"prior": "hierarchical", "particle_weights": "head"}),
    ),
    count=(3, 6),
  )
  def test_a_graph_learns_as_without(self, row, count):
    learner_class, options = row
    learner = make(learner_class, num_particles=count, **options)

    def step(*task):
      with tf.GradientTape() as tape:
        loss, outputs = learner.task_loss(*task)
      return loss, outputs, tape.gradient(loss, learner.trainable_variables)

    found = tf.nest.flatten(tf.function(step)(*task()))
    for one, other in zip(found, tf.nest.flatten(step(*task())), strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)

  @parameterized.product(count=(3, 7), method=("map", "vectorize", "unroll"))
  def test_each_draw_has_random_numbers_of_its_own(self, count, method):
    learner = make(tfmeta.PLATIPUS, num_samples=count, task_map=method)

    @tf.function
    def seeds():
      return learner.for_each_sample(
        lambda _, context: context.seed_from(learner.seed), tf.range(count)
      )

    found = seeds().numpy()
    self.assertLen(np.unique(found, axis=0), count)
    np.testing.assert_array_equal(found, seeds.python_function())


if __name__ == "__main__":
  absltest.main()
