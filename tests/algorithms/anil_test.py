"""Tests ANIL: which weights it adapts, and what it computes only once."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta


def _net(body_trainable=True):
  keras.utils.set_random_seed(0)
  kwargs = {"dtype": "float64"}
  inputs = keras.Input((3,), **kwargs)
  x = keras.layers.Dense(8, activation="tanh", name="first", **kwargs)(inputs)
  x = keras.layers.Dense(5, activation="tanh", name="second", **kwargs)(x)
  outputs = keras.layers.Dense(2, name="last", **kwargs)(x)
  model = keras.Model(inputs, outputs)
  model.get_layer("first").trainable = body_trainable
  return model


def _task():
  random = np.random.default_rng(0)
  x = tf.constant(random.normal(size=(2, 6, 3)))
  y = tf.constant(random.integers(0, 2, size=(2, 6)))
  return x[0], y[0], x[1], y[1]


def _meta_gradient(learner):
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(*_task())
  variables = [v.value for v in learner.trainable_variables]
  return [g.numpy() for g in tape.gradient(loss, variables)]


INNER_LOOP = {"inner_steps": 3, "inner_learning_rate": 0.3}


class ANILTest(parameterized.TestCase):
  def test_adapting_everything_is_maml(self):
    everything = tfmeta.ANIL(_net(), adapted=lambda v: True, **INNER_LOOP)
    maml = tfmeta.MAML(_net(), **INNER_LOOP)
    pairs = zip(_meta_gradient(everything), _meta_gradient(maml), strict=True)
    for a, b in pairs:
      np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)

  def test_adapting_the_head_leaves_the_body(self):
    learner = tfmeta.ANIL(_net(), **INNER_LOOP)
    support_x, support_y, _, _ = _task()
    path = learner.adaptation_path(support_x, support_y)
    for before, after in zip(path[0][:4], path[-1][:4], strict=True):
      np.testing.assert_array_equal(before, after)
    for before, after in zip(path[0][4:], path[-1][4:], strict=True):
      self.assertFalse(np.allclose(before, after))

  def test_gradient_reaches_the_body_through_the_support_features(self):
    # Central differences move one weight of the body.
    learner = tfmeta.ANIL(_net(), **INNER_LOOP)
    gradient = _meta_gradient(learner)[0][0, 0]
    variable = learner.model.trainable_variables[0]
    value, losses = np.array(variable), []
    for sign in (1, -1):
      moved = value.copy()
      moved[0, 0] += sign * 1e-5
      variable.assign(moved)
      losses.append(float(learner.task_loss(*_task())[0]))
    self.assertAlmostEqual(gradient, (losses[0] - losses[1]) / 2e-5, places=8)

  @parameterized.named_parameters(
    ("last layer", ["last"]),
    ("last two layers", ["second", "last"]),
    ("kernel of the head", lambda v: v.path.endswith("last/kernel")),
  )
  def test_cached_features_change_nothing(self, adapted):
    cached = tfmeta.ANIL(_net(), adapted=adapted, **INNER_LOOP)
    plain = tfmeta.ANIL(_net(), adapted=adapted, **INNER_LOOP)
    self.assertIsNotNone(cached._split)
    plain._split = None
    pairs = zip(_meta_gradient(cached), _meta_gradient(plain), strict=True)
    for a, b in pairs:
      np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)

  def test_cached_features_support_convolutions_and_batch_statistics(self):
    def make():
      keras.utils.set_random_seed(0)
      model = tfmeta.models.conv4((16, 16, 1), ways=2, filters=2)
      return tfmeta.ANIL(model, inner_steps=2, inner_learning_rate=0.3)

    x = tf.random.stateless_normal([2, 6, 16, 16, 1], [0, 1])
    y = tf.constant([0, 1, 0, 1, 0, 1])
    cached, plain = make(), make()
    self.assertIsNotNone(cached._split)
    plain._split = None
    pairs = zip(cached.adapt(x[0], y), plain.adapt(x[0], y), strict=True)
    for a, b in pairs:
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

  def test_body_may_be_adapted_instead_of_the_head(self):
    learner = tfmeta.ANIL(_net(), adapted=["first", "second"], **INNER_LOOP)
    support_x, support_y, _, _ = _task()
    path = learner.adaptation_path(support_x, support_y)
    for before, after in zip(path[0][4:], path[-1][4:], strict=True):
      np.testing.assert_array_equal(before, after)
    self.assertFalse(np.allclose(path[0][0], path[-1][0]))

  def test_branches_around_the_adapted_layers_are_features_too(self):
    def make():
      keras.utils.set_random_seed(0)
      inputs = keras.Input((3,), dtype="float64")
      x = keras.layers.Dense(4, name="a")(inputs)
      y = keras.layers.Dense(4, name="b")(inputs)
      y = keras.layers.Dense(4, name="c")(y)
      outputs = keras.layers.Dense(2, name="head")(keras.layers.Add()([x, y]))
      model = keras.Model(inputs, outputs)
      return tfmeta.ANIL(model, adapted=["c", "head"], **INNER_LOOP)

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
      cached, plain = make(), make()
    finally:
      keras.config.set_dtype_policy(policy)
    self.assertLen(cached._split.body.outputs, 2)
    plain._split = None
    pairs = zip(_meta_gradient(cached), _meta_gradient(plain), strict=True)
    for a, b in pairs:
      np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)

  def test_head_of_a_nested_model_is_its_last_layer(self):
    layers = [keras.layers.Dense(5, name="a"), keras.layers.Dense(2, name="b")]
    inner = keras.Sequential([keras.Input((3,)), *layers])
    model = keras.Sequential([keras.Input((3,)), inner])
    learner = tfmeta.ANIL(model)
    self.assertEqual(learner._mask, [False, False, True, True])

  def test_frozen_layers_are_neither_adapted_nor_learned(self):
    learner = tfmeta.ANIL(_net(body_trainable=False), **INNER_LOOP)
    self.assertLen(learner.trainable_variables, 4)
    support_x, support_y, _, _ = _task()
    self.assertLen(learner.adapt(support_x, support_y), 4)

  def test_adapted_layers_survive_the_configuration(self):
    learner = tfmeta.ANIL(_net(), adapted=["second"], **INNER_LOOP)
    again = tfmeta.ANIL.from_config(learner.get_config())
    self.assertEqual(list(again.adapted), ["second"])
    self.assertEqual(again._mask, learner._mask)

  @parameterized.parameters(("none",), (["first", "nine"],))
  def test_unknown_layers_are_refused(self, adapted):
    with self.assertRaisesRegex(ValueError, "first, second, last.*Received"):
      tfmeta.ANIL(_net(), adapted=adapted)

  def test_adapting_nothing_is_refused(self):
    with self.assertRaisesRegex(ValueError, "at least one trainable weight"):
      tfmeta.ANIL(_net(), adapted=lambda v: False)


if __name__ == "__main__":
  absltest.main()
