"""Tests that what a learner answers does not depend on the place of a task.

Random numbers that come from the place of a task in its batch would make the
predictions for a task differ between `adapt`, `predict` and another batch.
"""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.testing.exam import subject

LEARNERS = (
  (tfmeta.MAML, {}),
  (tfmeta.ANIL, {}),
  (tfmeta.Reptile, {"support_batch_size": 3}),
  (tfmeta.EMAML, {"num_particles": 2}),
)


def _model(*, dropout=True):
  inputs = x = keras.Input((6,))
  x = keras.layers.Dense(8)(x)
  x = tfmeta.layers.BatchNormalization()(x)
  if dropout:
    x = keras.layers.Dropout(0.5)(x)
  return keras.Model(inputs, keras.layers.Dense(3)(x))


class RandomLayersTest(parameterized.TestCase):
  @parameterized.parameters(*LEARNERS)
  def test_place_in_the_batch_does_not_matter(self, learner_class, kwargs):
    # Dropout is active in inner steps.
    learner = learner_class(_model(), inner_learning_rate=0.5, **kwargs)
    x, _ = subject.gaussian_tasks("mlp")
    learner.compile()
    outputs = learner.predict_on_batch(x)
    turned = {name: values[::-1] for name, values in x.items()}
    np.testing.assert_allclose(
      learner.predict_on_batch(turned)[::-1], outputs, atol=1e-5
    )

  @parameterized.parameters(
    lambda: [keras.layers.Dense(4), keras.layers.Dropout(0.5)],
    lambda: [keras.layers.Reshape((3, 2)), keras.layers.GRU(4, dropout=0.5)],
    lambda: [keras.Sequential([keras.layers.GaussianNoise(1.0)])],
  )
  def test_predictions_take_no_random_numbers(self, make):
    # Batch statistics need a pass in training mode, where these layers would be
    # random.
    stack = [keras.Input((6,)), *make(), keras.layers.BatchNormalization()]
    learner = tfmeta.MAML(keras.Sequential([*stack, keras.layers.Dense(3)]))
    self.assertTrue(learner.transductive)
    learner.compile()
    x, _ = subject.gaussian_tasks("mlp")
    weights = learner.adapt(x["support_x"][1], x["support_y"][1])
    outputs = learner.to_model(weights).predict(x["query_x"][1], verbose=0)
    for found in (
      learner.predict_on_batch(x)[1],
      learner.predict_with(weights, x["query_x"][1]),
    ):
      np.testing.assert_allclose(found, outputs, atol=1e-5)

  def test_mini_batches_do_not_depend_on_it_either(self):
    learner = tfmeta.MAML(
      _model(dropout=False), inner_learning_rate=0.5, support_batch_size=2
    )
    learner.compile()
    x, _ = subject.gaussian_tasks("mlp")
    outputs = learner.predict_on_batch(x)
    for index in range(subject.TASKS):
      one = {name: values[index] for name, values in x.items()}
      weights = learner.adapt(one["support_x"], one["support_y"])
      np.testing.assert_allclose(
        learner.predict_with(weights, one["query_x"]),
        outputs[index],
        atol=1e-5,
      )

  def test_evaluate_agrees_with_itself_in_other_batches(self):
    learner = tfmeta.FOMAML(_model(), inner_learning_rate=0.5)
    x, y = subject.gaussian_tasks("mlp")
    losses = []
    for order in (slice(None), slice(None, None, -1)):
      tasks = ({name: values[order] for name, values in x.items()}, y[order])
      data = tf.data.Dataset.from_tensor_slices(tasks).batch(subject.TASKS)
      nll = tfmeta.evaluate(learner, data).nll_per_task
      losses.append(np.sort(np.array(nll), axis=0))
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)

  def test_tasks_and_inner_steps_still_differ(self):
    # One seed for all would pass the tests above.
    learner = tfmeta.MAML(_model(), inner_learning_rate=0.5)
    x, _ = subject.gaussian_tasks("mlp")
    seeds = {
      tuple(
        np.array(tfmeta.EVALUATION.for_support(learner, *pair).seed_from(0))
      )
      for pair in zip(x["support_x"], x["support_y"], strict=True)
    }
    self.assertLen(seeds, subject.TASKS)

  def test_training_goes_by_the_place(self):
    learner = tfmeta.MAML(_model())
    x, _ = subject.gaussian_tasks("mlp")
    task = (x["support_x"][0], x["support_y"][0])
    context = tfmeta.FIRST_STEP.for_support(learner, *task)
    self.assertIs(context, tfmeta.FIRST_STEP)


if __name__ == "__main__":
  absltest.main()
