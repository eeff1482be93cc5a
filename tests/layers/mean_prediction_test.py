"""Tests the mean prediction of several models, and its copy from a file."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

import tfmeta


def make_models(outputs):
  keras.utils.set_random_seed(0)
  return [
    tfmeta.models.mlp((3,), outputs=outputs, hidden=(5,)) for _ in range(4)
  ]


def softmax(logits):
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


class MeanPredictionTest(parameterized.TestCase):
  def test_probabilities_of_classes_are_averaged(self):
    models = make_models(4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = tfmeta.layers.MeanPrediction(models, loss)(X)
    expected = np.mean(
      [softmax(np.array(model(X))) for model in models], axis=0
    )
    np.testing.assert_allclose(softmax(np.array(found)), expected, rtol=1e-5)
    # Logits themselves would have another mean.
    of_logits = softmax(np.mean([model(X) for model in models], axis=0))
    self.assertGreater(np.abs(of_logits - expected).max(), 1e-3)

  def test_outputs_of_a_regression_are_averaged(self):
    models = make_models(2)
    found = tfmeta.layers.MeanPrediction(
      models, keras.losses.MeanSquaredError()
    )(X)
    np.testing.assert_allclose(
      found, np.mean([model(X) for model in models], axis=0), rtol=1e-5
    )

  def test_a_saved_model_of_it_predicts_the_same(self):
    inputs = keras.Input((3,))
    layer = tfmeta.layers.MeanPrediction(
      make_models(4),
      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model = keras.Model(inputs, layer(inputs))
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / "model.keras"
      model.save(path)
      again = keras.models.load_model(path)
    np.testing.assert_array_equal(model(X), again(X))


if __name__ == "__main__":
  absltest.main()
