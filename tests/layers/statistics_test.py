"""Statistics of the support set, for queries normalised without each other."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta import layers

KINDS = (
  ("stock", keras.layers.BatchNormalization),
  ("exact", layers.BatchNormalization),
)


def _model(normalization):
  block = keras.Sequential(
    [
      keras.Input((5,), dtype="float64"),
      keras.layers.Dense(4, dtype="float64"),
      normalization(dtype="float64", momentum=0.9, name="inner"),
    ]
  )
  inputs = keras.Input((3,), dtype="float64")
  x = keras.layers.Dense(5, dtype="float64")(inputs)
  x = normalization(dtype="float64", name="outer")(x)
  outputs = keras.layers.Dense(2, dtype="float64")(block(x))
  return keras.Model(inputs, outputs)


def _tensors(variables):
  return [tf.convert_to_tensor(v) for v in variables]


def _normal(*shape, seed=0):
  return tf.constant(np.random.default_rng(seed).normal(size=shape))


class SupportStateTest(parameterized.TestCase):
  def _adapted(self, normalization):
    model = _model(normalization)
    noise = np.random.default_rng(1).normal(size=100)
    weights = [
      w + np.resize(noise, w.shape) for w in _tensors(model.trainable_variables)
    ]
    return model, weights, _tensors(model.non_trainable_variables)

  @parameterized.named_parameters(*KINDS)
  def test_statistics_are_those_of_the_batch(self, normalization):
    """At inference the support set itself gets its training outputs."""
    model, weights, state = self._adapted(normalization)
    support = _normal(6, 3)
    found = layers.support_state(model, weights, state, support)
    expected, _ = model.stateless_call(weights, state, support, training=True)
    outputs, _ = model.stateless_call(weights, found, support, training=False)
    np.testing.assert_array_equal(expected, outputs)

  @parameterized.named_parameters(*KINDS)
  def test_queries_do_not_influence_each_other(self, normalization):
    model, weights, state = self._adapted(normalization)
    state = layers.support_state(model, weights, state, _normal(6, 3))
    query = _normal(4, 3, seed=2)
    together, _ = model.stateless_call(weights, state, query, training=False)
    alone, _ = model.stateless_call(weights, state, query[:1], training=False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-12)

  @parameterized.named_parameters(*KINDS)
  def test_statistics_are_differentiable(self, normalization):
    model, weights, state = self._adapted(normalization)
    support, query = _normal(6, 3), _normal(4, 3, seed=2)

    def loss(weights):
      fixed = layers.support_state(model, weights, state, support)
      outputs, _ = model.stateless_call(weights, fixed, query, training=False)
      return tf.reduce_sum(outputs**2)

    with tf.GradientTape() as tape:
      tape.watch(weights)
      value = loss(weights)
    gradients = tape.gradient(value, weights)
    step = [_normal(*w.shape, seed=3) for w in weights]
    ends = [
      loss([w + sign * 1e-6 * d for w, d in zip(weights, step, strict=True)])
      for sign in (1, -1)
    ]
    slope = sum(
      tf.reduce_sum(g * d) for g, d in zip(gradients, step, strict=True)
    )
    self.assertAlmostEqual(
      float(ends[0] - ends[1]) / 2e-6 / float(slope), 1.0, delta=1e-6
    )

  @parameterized.named_parameters(*KINDS)
  def test_model_is_left_as_it_was(self, normalization):
    model, weights, state = self._adapted(normalization)
    before = [np.array(v.value) for v in model.variables]
    layers.support_state(model, weights, state, _normal(6, 3))
    self.assertEqual(model.get_layer("outer").momentum, 0.99)
    for old, variable in zip(before, model.variables, strict=True):
      np.testing.assert_array_equal(old, variable)

  def test_momentum_comes_back_after_an_error(self):
    model, weights, state = self._adapted(layers.BatchNormalization)
    with self.assertRaises(ValueError):
      layers.support_state(model, weights[1:], state, _normal(6, 3))
    self.assertEqual(model.get_layer("outer").momentum, 0.99)

  def test_other_state_is_kept(self):
    inputs = keras.Input((3,))
    x = keras.layers.Dropout(0.5)(inputs)
    frozen = layers.BatchNormalization(trainable=False)
    model = keras.Model(inputs, layers.BatchNormalization()(frozen(x)))
    state = _tensors(model.non_trainable_variables)
    found = layers.support_state(
      model,
      _tensors(model.trainable_variables),
      state,
      tf.random.stateless_normal((6, 3), [0, 0]),
    )
    changed = [
      variable.path.split("/")[0]
      for variable, old, new in zip(
        model.non_trainable_variables, state, found, strict=True
      )
      if np.any(np.array(old) != np.array(new))
    ]
    self.assertEqual(set(changed), {model.layers[-1].name})

  @parameterized.named_parameters(
    ("stock", keras.layers.BatchNormalization(), True),
    ("exact", layers.BatchNormalization(), True),
    ("frozen", keras.layers.BatchNormalization(trainable=False), False),
    ("layer", layers.LayerNormalization(), False),
  )
  def test_batch_normalization_is_found_inside(self, layer, expected):
    inner = keras.Sequential([keras.Input((3,)), layer])
    model = keras.Sequential([keras.Input((3,)), inner])
    self.assertEqual(layers.has_batch_normalization(model), expected)


if __name__ == "__main__":
  absltest.main()
