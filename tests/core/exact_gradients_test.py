"""Tests calls of a model whose derivatives of any order are exact."""

import functools
import gc
import weakref

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import exact_gradients
from tfmeta.core import functional
from tfmeta.layers import normalization


def _model(*layers, shape=(4,)):
  """Returns a model in float64, whose weights are random."""
  policy = keras.config.dtype_policy()
  keras.config.set_dtype_policy("float64")
  try:
    inputs = keras.Input(shape, dtype="float64")
    x = inputs
    for layer in (make() for make in layers):
      x = layer(x)
    model = keras.Model(inputs, x)
  finally:
    keras.config.set_dtype_policy(policy)
  generator = np.random.default_rng(0)
  for variable in model.trainable_variables:
    variable.assign(generator.normal(size=variable.shape))
  return model


def _curvature(model, x, weights):
  """Returns a first derivative, and the gradient of it."""
  state = functional.state_of(model)
  with tf.GradientTape() as outer:
    outer.watch(weights)
    with tf.GradientTape() as inner:
      inner.watch(weights)
      outputs, _ = functional.apply(
        model, weights, state, x, training=True, exact=True
      )
      value = tf.reduce_sum(outputs**3)
    first = inner.gradient(value, weights)
    along = tf.add_n([tf.reduce_sum(tf.square(g)) for g in first])
  return along, outer.gradient(along, weights)


def _dense(**kwargs):
  return lambda: keras.layers.Dense(3, **kwargs)


class Branches(keras.layers.Layer):
  """Layer whose operations are inside a conditional and a loop."""

  def call(self, inputs):
    def body(i, x):
      return i + 1, tf.cond(
        tf.reduce_sum(x) > 0,
        lambda: tf.nn.softsign(x),
        lambda: tf.nn.softsign(2 * x),
      )

    return tf.while_loop(lambda i, x: i < 3, body, (0, inputs))[1]


def _variance(x):
  return x * tf.nn.moments(x, [0])[1]


def _in_a_branch(x):
  return tf.cond(tf.reduce_sum(x) < 1e9, lambda: _variance(x), lambda: x)


def _in_a_case(x):
  index = tf.cast(tf.reduce_sum(x) < 1e9, tf.int32)
  return tf.switch_case(index, [lambda: x, lambda: _variance(x)])


def _in_a_loop(x):
  return tf.while_loop(
    lambda i, _: i < 1,
    lambda i, x: (i + 1, _variance(x)),
    (0, x),
    maximum_iterations=1,
  )[1]


def _second_derivative(function, x):
  with tf.GradientTape() as outer:
    outer.watch(x)
    with tf.GradientTape() as inner:
      inner.watch(x)
      value = tf.reduce_sum(function(x) ** 3)
    first = inner.gradient(value, x)
  return outer.gradient(first, x)


@functools.partial(tf.function, autograph=False)
def _traced(model, weights, state, x, weight, exact):
  """Returns outputs in training mode, traced anew for each weight."""
  weight = None if weight is None else tf.constant(weight)
  outputs, _ = functional.apply(
    model, weights, state, x, training=True, example_weight=weight, exact=exact
  )
  return outputs


class ExactlyTest(parameterized.TestCase):
  """Tests functions in functions."""

  def _check(self, function, *, compiled=False):
    x = tf.constant(np.random.default_rng(0).normal(size=(5, 2)))
    found = tf.function(
      lambda x: _second_derivative(exact_gradients.exactly(function), x),
      jit_compile=compiled,
    )
    expected = _second_derivative(
      lambda x: x * tf.math.reduce_mean((x - tf.reduce_mean(x, 0)) ** 2, 0), x
    )
    np.testing.assert_allclose(found(x), expected, rtol=1e-9, atol=1e-9)

  @parameterized.product(
    function=(_variance, _in_a_branch, _in_a_case, _in_a_loop),
    compiled=(False, True),
  )
  def test_functions_of_the_user_are_exact(self, function, compiled):
    self._check(tf.function(function), compiled=compiled)

  def test_functions_that_were_differentiated_before_are_exact(self):
    function = tf.function(_in_a_branch)
    x = tf.ones([5, 2], tf.float64)
    before = _second_derivative(function, x)
    self._check(function)
    np.testing.assert_array_equal(_second_derivative(function, x), before)

  @parameterized.named_parameters(
    ("function", lambda f: tf.function(lambda x: f(x))),
    ("xla", lambda _: tf.function(_variance, jit_compile=True)),
    (
      "branch",
      lambda f: lambda x: tf.cond(x[0, 0] < 9, lambda: f(x), lambda: x),
    ),
    (
      "branch_of_a_function",
      lambda f: tf.function(
        lambda x: tf.cond(x[0, 0] < 9, lambda: f(x), lambda: x)
      ),
    ),
    (
      "loop_of_a_function",
      lambda f: tf.function(
        lambda x: tf.while_loop(
          lambda i, _: i < 1, lambda i, x: (i + 1, f(x)), (0, x)
        )[1]
      ),
    ),
  )
  def test_functions_in_functions_are_exact(self, around):
    self._check(around(tf.function(_in_a_branch)))


class ApplyTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("activation", [_dense(activation="softsign"), _dense()]),
    (
      "normalization",
      [_dense(activation="tanh"), keras.layers.LayerNormalization, _dense()],
    ),
    ("conditional_in_a_loop", [_dense(), Branches]),
  )
  def test_is_exact(self, layers):
    model = _model(*layers)
    x = tf.constant(np.random.default_rng(1).normal(size=(5, 4)))
    evaluate = tf.function(
      lambda weights: _curvature(model, x, weights), autograph=False
    )
    weights = functional.weights_of(model)
    directions = [tf.ones_like(w) for w in weights]
    slope = sum(
      float(tf.reduce_sum(g * d))
      for g, d in zip(evaluate(weights)[1], directions, strict=True)
    )
    above, below = (
      float(
        evaluate([w + e * d for w, d in zip(weights, directions, strict=True)])[
          0
        ]
      )
      for e in (1e-6, -1e-6)
    )
    difference = (above - below) / 2e-6
    self.assertLess(abs(slope - difference), 1e-6 * abs(difference))
    # The same without a graph around it.
    for left, right in zip(
      evaluate(weights)[1], _curvature(model, x, weights)[1], strict=True
    ):
      np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-12)

  def test_fused_normalization_is_exact_too(self):
    """Its kernels have custom gradients of custom gradients."""
    found = []
    for dtype in ("float64", "float32"):
      parts = [
        keras.layers.Conv2D(3, 3, activation="softsign", dtype=dtype),
        normalization.BatchNormalization(dtype=dtype),
        keras.layers.Conv2D(2, 2, dtype=dtype),
      ]
      model = keras.Sequential([keras.Input((4, 4, 2), dtype=dtype), *parts])
      generator = np.random.default_rng(1)
      for variable in model.trainable_variables:
        variable.assign(generator.normal(size=variable.shape))
      x = tf.constant(generator.normal(size=(5, 4, 4, 2)), dtype)
      evaluate = tf.function(
        lambda weights, model=model, x=x: _curvature(model, x, weights)[1],
        autograph=False,
      )
      found.append(evaluate(functional.weights_of(model)))
    for wide, narrow in zip(*found, strict=True):
      np.testing.assert_allclose(
        narrow, wide, rtol=1e-3, atol=1e-3 * np.abs(wide).max()
      )

  def test_outputs_and_state_are_those_of_a_plain_call(self):
    model = _model(
      _dense(activation="softsign"), keras.layers.BatchNormalization
    )
    x = tf.constant(np.random.default_rng(1).normal(size=(5, 4)))
    given = functional.weights_of(model), functional.state_of(model), x
    for training in (True, False):
      for left, right in zip(
        tf.nest.flatten(functional.apply(model, *given, training=training)),
        tf.nest.flatten(
          functional.apply(model, *given, training=training, exact=True)
        ),
        strict=True,
      ):
        np.testing.assert_array_equal(left, right)

  def test_calls_under_xla_have_graphs_of_their_own(self):
    """Max pooling needs an exact gradient under XLA only."""
    layers = [
      keras.layers.Conv2D(1, 1, use_bias=False),
      keras.layers.MaxPooling2D(),
    ]
    model = keras.Sequential([keras.Input((2, 2, 1)), *layers])
    weights = [tf.ones([1, 1, 1, 1])]
    # XLA's own second derivative does not tell these two apart.
    x = tf.reshape([1.0, 1.001, 0.5, 0.2], [1, 2, 2, 1])
    found = []
    for compiled in (False, True):
      evaluate = tf.function(
        lambda weights: _curvature(model, x, weights)[1],
        autograph=False,
        jit_compile=compiled,
      )
      found.append(evaluate(weights)[0])
    np.testing.assert_allclose(*found, rtol=1e-5)

  def test_each_call_has_its_own_weights_of_examples(self):
    """The trace that is kept must not keep the weights of its first call."""
    layer = normalization.BatchNormalization
    model = _model(_dense(activation="softsign"), layer)
    weights, state = functional.weights_of(model), functional.state_of(model)
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 4)))
    for weight in ([1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0], None):
      outputs = [
        _traced(model, weights, state, x, weight, exact)
        for exact in (True, False)
      ]
      np.testing.assert_allclose(*outputs, rtol=1e-12)

  def test_model_without_such_operations_is_called_as_it_is(self):
    """A call as a function has its price, which most models need not pay."""
    model = _model(_dense(activation="tanh"), _dense())
    weights, x = functional.weights_of(model), tf.ones([2, 4], tf.float64)

    @tf.function(autograph=False)
    def call(weights):
      return functional.apply(model, weights, [], x, training=True, exact=True)

    graph = call.get_concrete_function(weights).graph
    calls = [op for op in graph.get_operations() if "Call" in op.type]
    self.assertEmpty(calls)

  def test_layers_and_the_gradients_of_tensorflow_stay_as_they_are(self):
    model = _model(_dense(activation="softsign"))
    before = [dict(vars(layer)) for layer in model.layers]
    x = tf.constant(np.random.default_rng(1).normal(size=(5, 4)))
    _curvature(model, x, functional.weights_of(model))
    after = [vars(layer) for layer in model.layers]
    for old, new in zip(before, after, strict=True):
      self.assertEqual(old.keys(), new.keys())
      for key in old:
        self.assertIs(old[key], new[key])
    with self.assertRaises(LookupError), tf.GradientTape() as outer:
      outer.watch(x)
      with tf.GradientTape() as inner:
        inner.watch(x)
        y = tf.nn.softsign(x)
      outer.gradient(inner.gradient(y, x), x)

  def test_model_is_freed(self):
    model = _model(_dense(activation="softsign"))
    x = tf.ones([2, 4], tf.float64)
    _curvature(model, x, functional.weights_of(model))
    alive = weakref.ref(model)
    del model
    gc.collect()
    self.assertIsNone(alive())

  def test_shapes_and_modes_have_graphs_of_their_own(self):
    model = _model(
      _dense(activation="softsign"), lambda: keras.layers.Dropout(0.9)
    )
    given = functional.weights_of(model), functional.state_of(model)
    for n in (2, 3):
      x = tf.ones([n, 4], tf.float64)
      outputs = [
        functional.apply(model, *given, x, training=training, exact=True)[0]
        for training in (True, False)
      ]
      self.assertEqual(outputs[0].shape, (n, 3))
      self.assertFalse(np.array_equal(*outputs))


if __name__ == "__main__":
  absltest.main()
