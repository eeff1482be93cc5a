"""Batch normalization with variables of its own for each inner step."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.layers import statistics
from tfmeta.typing import Weights


class PerStepNormalization(keras.layers.Layer):
  """Slots for the batch normalization of a model, one for each inner step.

  A slot holds a scale and a shift for each batch normalization layer, which
  MAML++ [1] calls BNWB. The model's own variables are the last slot, with which
  a learner predicts after all steps. This layer holds the earlier slots, which
  start as copies of the last slot.

  The model does not change. `stateless_call` takes the variables of a slot in
  place of the model's own variables.

  Args:
    model: A built `keras.Model`.
    steps: Integer >= 1. Number of slots.
    **kwargs: Forwarded to `keras.layers.Layer`.

  Attributes:
    affine: Scales and shifts of the earlier slots, `[steps - 1, channels]`
      each.
    places: Index of each of `affine` in `model.trainable_variables`.

  References:
    [1] A. Antoniou, H. Edwards, A. Storkey. How to train your MAML. ICLR 2019.
        https://arxiv.org/abs/1810.09502
  """

  def __init__(self, model: keras.Model, steps: int, **kwargs: Any):
    super().__init__(**kwargs)
    self.steps = steps
    layers = statistics.batch_normalization_layers(model)
    own = {id(v) for layer in layers for v in layer.trainable_variables}
    trainable = model.trainable_variables if steps > 1 else []
    self.places = [place for place, v in enumerate(trainable) if id(v) in own]
    self.affine = [self._make_slots(trainable[place]) for place in self.places]
    self.built = True

  def _make_slots(self, variable: Any) -> Any:
    shape = (self.steps - 1, *variable.shape)
    value = keras.ops.convert_to_numpy(variable)
    return self.add_weight(
      shape=shape,
      dtype=variable.dtype,
      initializer=lambda shape, dtype: tf.broadcast_to(
        tf.constant(value, dtype), shape
      ),
      name=variable.path.replace("/", "_"),
      autocast=False,
    )

  def initial_weights(self, model: keras.Model) -> Weights:
    """Returns the trainable weights of `model`, followed by earlier slots."""
    variables = [*model.trainable_variables, *self.affine]
    return [tf.convert_to_tensor(v) for v in variables]

  def weights_at(self, weights: Weights, slot: tf.Tensor | int) -> Weights:
    """Returns the trainable weights of the model that belong to a slot.

    Args:
      weights: All weights, in the order of `initial_weights`.
      slot: Index from 0 to `steps - 1`. The last slot is the model's own.

    Returns:
      One tensor for each of `model.trainable_variables`.
    """
    count = len(weights) - len(self.affine)
    chosen = weights[:count]
    for place, early in zip(self.places, weights[count:], strict=True):
      last = chosen[place]
      # In a graph loop, the slot is a tensor, which must index all slots.
      if tf.is_tensor(slot):
        chosen[place] = tf.concat([early, last[tf.newaxis]], axis=0)[slot]
      elif slot < self.steps - 1:
        chosen[place] = early[slot]
    return chosen
