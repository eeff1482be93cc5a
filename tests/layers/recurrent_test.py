"""Tests recurrent layers that can be differentiated twice on GPUs.

There need be no GPU: Keras traces the kernel of cuDNN wherever it believes that
there is one.
"""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta import layers
from tfmeta.layers import missing_derivatives


def _on_gpu():
  return mock.patch(
    "keras.src.backend.tensorflow.rnn._is_gpu_available", return_value=True
  )


def _model(layer):
  parts = [keras.Input((5, 3)), layer, keras.layers.Dense(2)]
  return keras.Sequential(parts)


_LAYERS = (
  ("lstm", lambda: keras.layers.LSTM(2, name="mine")),
  ("gru", lambda: keras.layers.GRU(2, name="mine")),
  (
    "bidirectional",
    lambda: keras.layers.Bidirectional(keras.layers.LSTM(2), name="mine"),
  ),
)


class RecurrentTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  @parameterized.named_parameters(*_LAYERS)
  def test_kernel_of_cudnn_is_named_with_its_remedy(self, make):
    model = _model(make())
    with _on_gpu():
      found = missing_derivatives.find(model)
    self.assertNotEmpty(found)
    for name, op_type in found.items():
      self.assertStartsWith(name, "mine")
      self.assertStartsWith(op_type, "Cudnn")
    text = missing_derivatives.describe(model, found)
    self.assertIn("tfmeta.layers.exact(model)", text)

  @parameterized.named_parameters(*_LAYERS)
  def test_remedy_helps_and_survives_saving(self, make):
    model = _model(make())
    copy = layers.exact(model)
    path = self.create_tempfile("model.keras").full_path
    copy.save(path)
    with _on_gpu():
      self.assertEqual(missing_derivatives.find(copy), {})
      loaded = keras.saving.load_model(path)
      self.assertEqual(missing_derivatives.find(loaded), {})
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    for other in (copy, loaded):
      np.testing.assert_allclose(model(x), other(x), rtol=1e-6)

  @parameterized.named_parameters(*_LAYERS)
  def test_without_gpu_there_is_nothing_to_say(self, make):
    self.assertEqual(missing_derivatives.find(_model(make())), {})

  def test_is_listed_on_gpus_only(self):
    model = _model(keras.layers.LSTM(2, name="mine"))
    self.assertEqual(layers.inexact_layers(model), {})
    with mock.patch.object(tf.config, "list_physical_devices", lambda _: ["G"]):
      self.assertEqual([*layers.inexact_layers(model)], ["mine"])
      self.assertEqual(layers.inexact_layers(layers.exact(model)), {})

  def test_learner_warns(self):
    with (
      _on_gpu(),
      self.assertWarnsRegex(UserWarning, r"layers.exact\(model\)"),
    ):
      tfmeta.MAML(_model(keras.layers.GRU(2)))


if __name__ == "__main__":
  absltest.main()
