"""A layer that averages the predictions of several models."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import losses


@keras.saving.register_keras_serializable("tfmeta")
class MeanPrediction(keras.layers.Layer):
  """Layer that averages the predictions of several models.

  If the outputs are logits of classes, the layer averages probabilities and
  returns logits again. Otherwise, it averages the outputs. See
  `tfmeta.core.mean_prediction`.

  Args:
    models: Built Keras models with equal input and output shapes.
    loss: The loss that the models were trained with. It decides how outputs are
      averaged.
    **kwargs: Forwarded to `keras.layers.Layer`.
  """

  def __init__(self, models: Sequence[keras.Model], loss: Any, **kwargs: Any):
    super().__init__(**kwargs)
    self.models = list(models)
    self.loss = loss
    self.built = True

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    outputs = [model(inputs, training=False) for model in self.models]
    return losses.mean_prediction(tf.stack(outputs), self.loss)

  def compute_output_shape(self, input_shape: Any) -> Any:
    return self.models[0].compute_output_shape(input_shape)

  def get_config(self) -> dict[str, Any]:
    serialize = keras.saving.serialize_keras_object
    return {
      **super().get_config(),
      "models": [serialize(model) for model in self.models],
      "loss": serialize(self.loss),
    }

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "MeanPrediction":
    deserialize = keras.saving.deserialize_keras_object
    models = [deserialize(model) for model in config["models"]]
    loss = deserialize(config["loss"])
    return cls(**{**config, "models": models, "loss": loss})
