"""Tests which inner losses and outputs of models fit together."""

import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras

import tfmeta


def _model(*layers):
  return keras.Sequential([keras.Input((4,)), *layers])


SOFTMAX = {
  "activation": lambda: _model(keras.layers.Dense(3, activation="softmax")),
  "layer": lambda: _model(keras.layers.Dense(3), keras.layers.Softmax()),
}


class LossesTest(parameterized.TestCase):
  @parameterized.named_parameters(*SOFTMAX.items())
  def test_probabilities_given_to_a_loss_of_logits_warn(self, model):
    with self.assertWarnsRegex(UserWarning, "ends in a softmax"):
      tfmeta.MAML(model())

  def test_a_loss_of_probabilities_takes_them(self):
    loss = keras.losses.SparseCategoricalCrossentropy()
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      tfmeta.MAML(SOFTMAX["activation"](), inner_loss=loss)
      tfmeta.MAML(_model(keras.layers.Dense(3)))

  def test_an_unknown_loss_is_named(self):
    with self.assertRaisesRegex(ValueError, "Received: inner_loss='msee'"):
      tfmeta.MAML(_model(keras.layers.Dense(3)), inner_loss="msee")


if __name__ == "__main__":
  absltest.main()
