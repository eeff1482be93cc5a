"""Tests slots of batch normalization: initial values and choice."""

from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

from tfmeta import layers


def make_model():
  keras.utils.set_random_seed(0)
  inner = keras.Sequential(
    [keras.Input((3,)), layers.BatchNormalization(name="inside")]
  )
  inputs = keras.Input((3,))
  x = keras.layers.Dense(3)(inner(inputs))
  x = keras.layers.BatchNormalization(scale=False, name="outside")(x)
  return keras.Model(inputs, keras.layers.Dense(2)(x))


class PerStepNormalizationTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.model = make_model()
    for value, layer in enumerate(
      layers.statistics.batch_normalization_layers(self.model), start=2
    ):
      layer.beta.assign([value] * 3)
      layer.moving_mean.assign([10.0 * value] * 3)
    self.slots = layers.PerStepNormalization(self.model, 3)

  def test_slots_before_the_last_begin_as_copies(self):
    self.assertLen(self.slots.affine, 3)  # One layer has no scale.
    weights = self.slots.initial_weights(self.model)
    expected = [np.array(v) for v in self.model.trainable_variables]
    for slot in range(3):
      found = self.slots.weights_at(weights, slot)
      for value, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(value, other)

  def test_a_slot_takes_the_places_of_the_model_s_own(self):
    for number, variable in enumerate(self.slots.affine, start=1):
      variable.assign([[100.0 * number] * 3, [200.0 * number] * 3])
    weights = self.slots.initial_weights(self.model)
    variables = self.model.trainable_variables
    for slot, factor in ((0, 100.0), (1, 200.0), (tf.constant(1), 200.0)):
      found = self.slots.weights_at(weights, slot)
      for number, place in enumerate(self.slots.places, start=1):
        np.testing.assert_array_equal(found[place], [factor * number] * 3)
      others = set(range(len(variables))) - set(self.slots.places)
      for place in others:
        np.testing.assert_array_equal(found[place], variables[place])
    for slot in (2, tf.constant(2)):
      for value, own in zip(
        self.slots.weights_at(weights, slot), variables, strict=True
      ):
        np.testing.assert_array_equal(value, own)

  def test_one_step_needs_no_slots_of_its_own(self):
    slots = layers.PerStepNormalization(self.model, 1)
    self.assertEmpty(slots.variables)


if __name__ == "__main__":
  absltest.main()
