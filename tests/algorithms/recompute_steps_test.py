"""Tests that steps that are computed again give the same meta-gradient."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import inner_rule
from tfmeta.core import shared_function

WAYS = 3
LEARNERS = {
  "MAML": {},
  "ANIL": {},
  "ANIL_blocks": {"adapted": ["conv_2", "head"]},
  "EMAML": {"num_particles": 2},
}
OPTIONS = {
  "sgd": {},
  "adam": {"inner_optimizer": "adam", "inner_learning_rate": 0.03},
  "batches": {"support_batch_size": 4, "inner_clipnorm": 0.3},
}


def make_model(dropout):
  keras.utils.set_random_seed(0)
  keras.config.set_floatx("float64")
  try:
    x = inputs = keras.Input((8, 8, 1))
    for index in (1, 2):
      x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv_{index}")(x)
      x = tfmeta.layers.BatchNormalization()(x)
      x = tfmeta.layers.MaxPooling2D()(keras.layers.ReLU()(x))
    x = keras.layers.Flatten()(x)
    if dropout:
      x = keras.layers.Dropout(0.3)(x)
    return keras.Model(inputs, keras.layers.Dense(WAYS, name="head")(x))
  finally:
    keras.config.set_floatx("float32")


def make_tasks(tasks=2, support=6, queries=9):
  random = np.random.default_rng(0)
  x = random.normal(size=(tasks, support + queries, 8, 8, 1))
  y = np.tile(np.arange(support + queries) % WAYS, (tasks, 1)).astype("int32")
  inputs = {
    "support_x": x[:, :support],
    "support_y": y[:, :support],
    "query_x": x[:, support:],
  }
  return inputs, y[:, support:]


def update_of(name, options, *, dropout=False, steps=3, **kwargs):
  """Returns the change of all trained variables in one update of SGD."""
  merged = {"inner_steps": steps, "inner_learning_rate": 0.1, "task_map": "map"}
  merged |= {**LEARNERS[name], **options, **kwargs}
  learner_class = getattr(tfmeta, name.split("_")[0])
  learner = learner_class(make_model(dropout), **merged)
  for variable in learner.trainable_variables:
    random = np.random.default_rng(variable.shape.num_elements())
    variable.assign(random.normal(size=variable.shape) / 3)
  before = [v.numpy() for v in learner.trainable_variables]
  learner.compile(keras.optimizers.SGD(1.0))
  learner.train_on_batch(*make_tasks())
  pairs = zip(learner.trainable_variables, before, strict=True)
  return [v.numpy() - b for v, b in pairs]


class RecomputeStepsTest(parameterized.TestCase):
  @parameterized.product(name=tuple(LEARNERS), option=tuple(OPTIONS))
  def test_update_is_the_same(self, name, option):
    options = OPTIONS[option]
    expected = update_of(name, options)
    used = self.enterContext(
      mock.patch.object(
        shared_function,
        "RecomputedFunction",
        wraps=shared_function.RecomputedFunction,
      )
    )
    found = update_of(name, options, recompute_steps=True)
    used.assert_called()
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)

  def test_steps_share_a_function_unless_keras_pools(self):
    inputs = keras.Input((4, 4, 1))
    for pooling, expected in (
      (tfmeta.layers.MaxPooling2D(), True),
      (keras.layers.MaxPooling2D(), False),
    ):
      x = pooling(keras.layers.Conv2D(2, 3, padding="same")(inputs))
      x = keras.layers.Dense(WAYS)(keras.layers.Flatten()(x))
      learner = tfmeta.MAML(keras.Model(inputs, x))
      shares = inner_rule.shares_steps(learner, tfmeta.FIRST_STEP)
      self.assertEqual(shares, expected)
      self.assertFalse(inner_rule.shares_steps(learner, tfmeta.EVALUATION))

  def test_training_shares_a_function(self):
    used = self.enterContext(
      mock.patch.object(
        shared_function, "SharedFunction", wraps=shared_function.SharedFunction
      )
    )
    update_of("MAML", {}, steps=2)
    used.assert_called_once()

  def test_random_layers_repeat_their_numbers(self):
    expected = update_of("MAML", {}, dropout=True)
    found = update_of("MAML", {}, dropout=True, recompute_steps=True)
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)

  def test_refuses_tasks_in_one_batch(self):
    learner = tfmeta.MAML(
      tfmeta.models.mlp((1,), outputs=1), inner_loss="mse", recompute_steps=True
    )
    with self.assertRaisesRegex(ValueError, "task_map='map' too. Received"):
      learner.adapt(tf.zeros([2, 1]), tf.zeros([2, 1]))

  def test_refuses_particles_in_a_loop(self):
    with self.assertRaisesRegex(ValueError, "Received: num_particles=6"):
      tfmeta.EMAML(make_model(False), num_particles=6, recompute_steps=True)

  @parameterized.parameters(tfmeta.FOMAML, tfmeta.Reptile)
  def test_first_order_learners_have_no_such_option(self, learner_class):
    with self.assertRaisesRegex(ValueError, "no option `recompute_steps`"):
      learner_class(make_model(False), recompute_steps=True)

  def test_is_part_of_the_configuration(self):
    learner = tfmeta.MAML(make_model(False), recompute_steps=True)
    self.assertTrue(learner.get_config()["recompute_steps"])


if __name__ == "__main__":
  absltest.main()
