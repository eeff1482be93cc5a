"""Tests that frozen first layers are cut off, and that this changes nothing."""

import gc
import weakref

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import frozen_body
from tfmeta.core import functional

L = keras.layers


def frozen(layer):
  layer.trainable = False
  return layer


def backbone(trained=0):
  """Returns convolutions, of which the last `trained` layers are trained."""
  layers = [
    L.Conv2D(3, 3, padding="same", activation="relu", name="first"),
    L.BatchNormalization(name="norm"),
    L.Conv2D(4, 3, name="second"),
    L.Conv2D(5, 3, activation="tanh", name="third"),
  ]
  for layer in layers[: len(layers) - trained]:
    layer.trainable = False
  pool = L.GlobalAveragePooling2D()
  return keras.Sequential([keras.Input((6, 6, 2)), *layers, pool])


def nested(trained=0):
  return keras.Sequential(
    [keras.Input((6, 6, 2)), backbone(trained), L.Dense(3)]
  )


def nested_behind_other_layers():
  x = inputs = keras.Input((6, 6, 2))
  x = backbone(1)(L.Rescaling(0.5)(x))
  return keras.Model(inputs, L.Dense(3)(L.ReLU()(x)))


def branches():
  """The trained part takes two frozen features and an input."""
  inputs = keras.Input((6, 6, 2))
  deep = backbone()(inputs)
  wide = frozen(L.Dense(4))(L.Flatten()(inputs))
  raw = L.Dense(2)(L.Flatten()(inputs))
  both = L.Concatenate()([deep, wide, raw])
  return keras.Model(inputs, L.Dense(3)(both) + L.Dense(3)(wide))


def shared():
  """A frozen layer is called before and behind a trained one."""
  layer = frozen(L.Dense(4, activation="tanh"))
  inputs = keras.Input((4,))
  trained = L.Dense(4)(layer(inputs))
  return keras.Model(inputs, L.Dense(3)(layer(trained)))


def several_inputs():
  words = keras.Input((5,), dtype="int32", name="words")
  weight = keras.Input((5, 1), name="weight")
  x = frozen(L.Embedding(7, 4))(words)
  x = keras.ops.sum(x * weight, axis=1)
  return keras.Model({"words": words, "weight": weight}, L.Dense(3)(x))


def dropout_between():
  x = inputs = keras.Input((4,))
  x = L.Dropout(0.5)(frozen(L.Dense(5, name="before"))(x))
  x = frozen(L.Dense(5, name="behind"))(x)
  return keras.Model(inputs, L.Dense(3)(x))


OWN = {"own", "behind"}

# For each model, the layers with weights that its body must hold.
MODELS = {
  "nested": (nested, {"first", "norm", "second", "third"}),
  "trained_inside": (lambda: nested(1), {"first", "norm", "second"}),
  "behind_others": (nested_behind_other_layers, {"first", "norm", "second"}),
  "branches": (branches, {"first", "norm", "second", "third", "dense"}),
  "several_inputs": (several_inputs, {"embedding"}),
  "dropout": (dropout_between, {"before"}),
  "class_of_its_own": (lambda: before_frozen(frozen(SharedStart())), OWN),
}


class ModeLayer(keras.Layer):
  """Layer that computes something else in training."""

  def call(self, inputs, training=False):
    return inputs * 2.0 if training else inputs


class SharedStart(keras.Model):
  """A functional model of a class of its own, as backbones are."""

  def __init__(self, **kwargs):
    inputs = keras.Input((5,))
    super().__init__(inputs, L.Dense(4, name="own")(inputs), **kwargs)


class Subclassed(keras.Model):
  """A model without a graph."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.dense = L.Dense(4, name="dense")

  def call(self, inputs):
    return self.dense(inputs)


def called_with_an_argument():
  """The trained part of the inner model is called without its dropout."""
  layers = [frozen(L.Dense(4)), L.Dense(4), L.Dropout(0.5)]
  inner = keras.Sequential([keras.Input((5,)), *layers])
  inputs = keras.Input((5,))
  return keras.Model(inputs, L.Dense(3)(inner(inputs, training=False)))


def before_frozen(layer):
  """Returns a model whose body has weights only if `layer` belongs to it."""
  rest = [frozen(L.Dense(5, name="behind")), L.Dense(3)]
  return keras.Sequential([keras.Input((5,)), layer, *rest])


# Their first layers differ from call to call, or hand something on that a cut
# would lose.
UNCUT = {
  "argument": called_with_an_argument,
  "trained": lambda: before_frozen(L.Dense(4)),
  "no_weights": lambda: keras.Sequential(
    [keras.Input((5,)), L.Rescaling(2.0), L.Dense(3)]
  ),
  "random": lambda: before_frozen(L.GaussianNoise(0.1)),
  "random_inside": lambda: before_frozen(
    keras.Sequential([keras.Input((5,)), L.Dropout(0.1)])
  ),
  "statistics": lambda: before_frozen(L.BatchNormalization(center=False)),
  "mode": lambda: before_frozen(ModeLayer()),
  "own_random_numbers": lambda: before_frozen(
    L.Lambda(lambda x: x + tf.random.normal(tf.shape(x)))
  ),
  "shared": shared,
  "subclassed": lambda: before_frozen(Subclassed()),
  "mask": lambda: keras.Sequential(
    [
      keras.Input((5,)),
      frozen(L.Embedding(7, 4, mask_zero=True)),
      L.LSTM(3),
    ]
  ),
}


def weighted_names(model):
  layers = model._flatten_layers(include_self=False)
  own = [x for x in layers if x.weights and not isinstance(x, keras.Model)]
  return {layer.name for layer in own}


def parts_of(model):
  parts = frozen_body.parts_of(model)
  if parts is None:
    raise AssertionError("the model has not been cut")
  return parts


def examples_for(model):
  generator = np.random.default_rng(0)

  def made(tensor):
    shape = (4, *tensor.shape[1:])
    if tensor.dtype == "int32":
      return tf.constant(generator.integers(0, 7, shape), tf.int32)
    return tf.constant(generator.normal(size=shape), tf.float32)

  single = len(model.inputs) == 1
  return tf.nest.map_structure(made, model.inputs[0] if single else model.input)


class FrozenBodyTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)

  @parameterized.named_parameters(zip(MODELS, MODELS, strict=True))
  def test_the_head_behind_the_body_is_the_model(self, name):
    build, names = MODELS[name]
    model = build()
    for variable in model.variables:  # Zeros would hide a wrong order.
      if variable.dtype == "float32":
        variable.assign_add(0.1 * np.random.normal(size=variable.shape) ** 2)
    self.assertEqual(weighted_names(parts_of(model).body), names)
    x = examples_for(model)
    again = tf.nest.map_structure(lambda tensor: tensor, x)
    known = frozen_body.Features(model, x).of(again)
    self.assertIsInstance(known, frozen_body.Examples)
    weights = [w + 0.1 for w in functional.weights_of(model)]
    state = functional.state_of(model)
    for training in (True, False):
      (outputs, moved), (expected, expected_state) = (
        functional.apply(model, weights, state, given, training=training)
        for given in (known, x)
      )
      np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
      for a, b in zip(moved, expected_state, strict=True):
        np.testing.assert_array_equal(a, b)

  @parameterized.named_parameters(zip(UNCUT, UNCUT.values(), strict=True))
  def test_is_not_cut(self, build):
    self.assertIsNone(frozen_body.parts_of(build()))

  def test_other_examples_are_not_known(self):
    model = nested()
    x = examples_for(model)
    features = frozen_body.Features(model, x)
    other = x + 1.0
    self.assertIs(features.of(other), other)

  def test_unfrozen_layers_leave_the_body(self):
    model = nested()
    frozen_body.parts_of(model)
    model.layers[0].layers[-2].trainable = True
    self.assertNotIn("third", weighted_names(parts_of(model).body))

  def test_model_is_freed(self):
    model = nested(1)
    frozen_body.parts_of(model)
    reference = weakref.ref(model)
    del model
    gc.collect()
    self.assertIsNone(reference())


if __name__ == "__main__":
  absltest.main()
