"""Tests that nothing a layer does in its call is lost without a word."""

import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
LABELS = np.tile([0, 1, 2], 2).astype("int32")


class AddsLoss(keras.layers.Layer):
  def call(self, x):
    self.add_loss(keras.ops.mean(keras.ops.square(x)))
    return x


class Recomputes(keras.layers.Layer):
  """Layer that reads its weights in a function with a gradient of its own."""

  def __init__(self, around, **kwargs):
    super().__init__(**kwargs)
    self.inner = keras.layers.Dense(4)
    self.around = around

  def build(self, shape):
    self.inner.build(shape)

  def call(self, x):
    return self.around(self.inner)(x)


def with_own_gradient(function):
  @tf.custom_gradient
  def call(x):
    return function(x), lambda upstream, variables=(): (
      upstream,
      [None] * len(variables),
    )

  return call


def rematerialized():
  with keras.RematScope(mode="full"):
    return model_of(keras.layers.Dense(5, name="guilty"))


class Counts(keras.layers.Layer):
  def build(self, shape):
    self.count = self.add_weight(shape=(), trainable=False, name="count")

  def call(self, x, training=False):
    if training:
      self.count.assign_add(1.0)
    return x


def model_of(*layers, shape=(4,)):
  flat = [keras.layers.Flatten(), keras.layers.Dense(3)]
  return keras.Sequential([keras.Input(shape), *layers, *flat])


def nested(layer):
  inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), layer])
  x = keras.Input((4,))
  return keras.Model(x, keras.layers.Dense(3)(inner(x)))


L2 = keras.regularizers.L2(0.1)
ADDING = {
  "add_loss": lambda: model_of(AddsLoss(name="guilty")),
  "activity_regularizer": lambda: model_of(
    keras.layers.Dense(5, activity_regularizer=L2, name="guilty")
  ),
  "ActivityRegularization": lambda: model_of(
    keras.layers.ActivityRegularization(l2=0.1, name="guilty")
  ),
  "nested": lambda: nested(AddsLoss(name="guilty")),
  "convolution": lambda: model_of(
    keras.layers.Conv1D(2, 3, activity_regularizer=L2, name="guilty"),
    shape=(8, 2),
  ),
}
ASSIGNING = {
  "counter": lambda: model_of(Counts(name="guilty")),
  "nested": lambda: nested(Counts(name="guilty")),
  "SpectralNormalization": lambda: model_of(
    keras.layers.SpectralNormalization(keras.layers.Dense(5), name="guilty")
  ),
  "stateful recurrence": lambda: keras.Sequential(
    [
      keras.Input((8, 2), batch_size=2),
      keras.layers.GRU(3, stateful=True, name="guilty"),
      keras.layers.Dense(3),
    ]
  ),
}


class PlainCounter(keras.layers.Layer):
  """A layer with a counter that is no variable of Keras."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.calls = tf.Variable(0.0, trainable=False)

  def call(self, x):
    self.calls.assign_add(1.0)
    return x * (1.0 + self.calls)


class CountingNormalization(keras.layers.BatchNormalization):
  """Batch normalization with a variable beside its statistics."""

  def build(self, shape):
    super().build(shape)
    self.calls = self.add_weight(shape=(), trainable=False, name="calls")

  def call(self, x, training=None, mask=None):
    if training:
      self.calls.assign(self.calls + 1)
    return super().call(x, training=training, mask=mask)


class InInference(keras.layers.Layer):
  """A layer that adds a loss in inference only."""

  def call(self, x, training=None):
    if not training:
      self.add_loss(tf.reduce_mean(x**2))
    return x


def behind_poolings():
  inputs = x = keras.Input((None, None, 1))
  for _ in range(6):
    x = keras.layers.MaxPooling2D()(x)
  x = keras.layers.ActivityRegularization(l2=0.1, name="guilty")(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(inputs, keras.layers.Dense(3)(x))


def behind_strings():
  inputs = keras.Input((1,), dtype="string")
  x = keras.layers.StringLookup(vocabulary=["a"], output_mode="one_hot")(inputs)
  x = keras.layers.ActivityRegularization(l2=0.1, name="guilty")(x)
  return keras.Model(inputs, keras.layers.Dense(3)(x))


ADDING["behind many poolings"] = behind_poolings
ADDING["behind strings"] = behind_strings
ADDING["in inference"] = lambda: model_of(InInference(name="guilty"))
ASSIGNING["a plain variable"] = lambda: model_of(PlainCounter(name="guilty"))
ASSIGNING["normalization"] = lambda: model_of(
  CountingNormalization(name="guilty")
)
ASSIGNING["the seed of Keras"] = lambda: model_of(
  keras.layers.Lambda(lambda x: x + keras.random.normal((4,)), name="guilty")
)
RECOMPUTING = {
  "remat": lambda: model_of(Recomputes(keras.remat)),
  "function": lambda: model_of(
    Recomputes(lambda f: tf.function(keras.remat(f)))
  ),
  "custom_gradient": lambda: model_of(Recomputes(with_own_gradient)),
  "RematScope": rematerialized,
}
HANDLED = {
  "remat without weights": lambda: model_of(
    keras.layers.Dense(5), keras.layers.Lambda(keras.remat(lambda x: x * x))
  ),
  "custom gradient": lambda: model_of(
    keras.layers.Dense(5, activation=tf.nn.silu)
  ),
  "batch normalization": lambda: model_of(keras.layers.BatchNormalization()),
  "own": lambda: model_of(tfmeta.layers.BatchNormalization()),
  "dropout": lambda: model_of(keras.layers.Dropout(0.5)),
  "noise": lambda: nested(keras.layers.GaussianNoise(0.1)),
  "random images": lambda: model_of(keras.layers.RandomFlip(), shape=(8, 8, 1)),
  "kernel_regularizer": lambda: model_of(
    keras.layers.Dense(5, kernel_regularizer=L2)
  ),
  "recurrence": lambda: model_of(keras.layers.LSTM(3), shape=(8, 2)),
}


class SideEffectsTest(parameterized.TestCase):
  @parameterized.product(name=tuple(ADDING), cls=(tfmeta.MAML, tfmeta.BMAML))
  def test_layers_that_add_losses_are_refused_by_name(self, name, cls):
    with self.assertRaisesRegex(ValueError, "'guilty'.* add losses"):
      cls(ADDING[name]())

  @parameterized.product(name=tuple(ASSIGNING), cls=(tfmeta.MAML, tfmeta.ANIL))
  def test_layers_that_assign_state_are_refused_by_name(self, name, cls):
    with self.assertRaisesRegex(ValueError, "'guilty'.* assign variables"):
      cls(ASSIGNING[name]())

  @parameterized.product(
    name=tuple(RECOMPUTING), cls=(tfmeta.MAML, tfmeta.FOMAML, tfmeta.ProtoNet)
  )
  def test_weights_that_would_get_no_gradients_are_refused(self, name, cls):
    with self.assertRaisesRegex(ValueError, "read their weights .*keras.remat"):
      cls(RECOMPUTING[name]())

  @parameterized.parameters(*HANDLED)
  def test_what_learners_handle_is_accepted(self, name):
    model = HANDLED[name]()
    before = [np.array(v) for v in model.variables]
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      tfmeta.FOMAML(model)
    for variable, value in zip(model.variables, before, strict=True):
      np.testing.assert_array_equal(variable, value)

  def test_a_plain_variable_keeps_its_value(self):
    layer = PlainCounter()
    model = model_of(layer)
    before = float(layer.calls)
    with self.assertRaises(ValueError):
      tfmeta.MAML(model)
    self.assertEqual(float(layer.calls), before)

  def test_a_model_that_takes_no_constants_is_said(self):
    def picky(x):
      tf.debugging.assert_greater(x, 1.0)
      return x

    with self.assertWarnsRegex(UserWarning, "not known whether .* constants"):
      tfmeta.FOMAML(model_of(keras.layers.Lambda(picky)))

  @parameterized.parameters(
    lambda x: x + tf.random.normal(tf.shape(x)),
    lambda x: x * tf.random.uniform(tf.shape(x)),
  )
  def test_random_numbers_without_a_seed_are_said(self, noisy):
    with self.assertWarnsRegex(UserWarning, "differ between two calls"):
      tfmeta.FOMAML(model_of(keras.layers.Lambda(noisy)))

  @parameterized.parameters("max_norm", "non_neg", "unit_norm")
  def test_constraints_are_said(self, constraint):
    layer = keras.layers.Dense(3, kernel_constraint=constraint, name="held")
    with self.assertWarnsRegex(UserWarning, "constraints of .*held/kernel"):
      learner = tfmeta.MAML(model_of(layer))
    # They hold where Keras applies them: at the initial weights.
    learner.compile("sgd")
    learner.model.layers[0].kernel.assign(-2 * np.ones((4, 3)))
    x, y = X[np.newaxis], LABELS[np.newaxis]
    inputs = {"support_x": x, "support_y": y, "query_x": x}
    learner.fit(inputs, y, verbose=0)
    kernel = learner.model.layers[0].kernel
    np.testing.assert_allclose(layer.kernel_constraint(kernel), kernel, 1e-5)


if __name__ == "__main__":
  absltest.main()
