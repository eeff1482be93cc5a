"""Batch normalization with variables of its own for each inner step."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta.layers import statistics
from tfmeta.typing import State
from tfmeta.typing import Weights


class PerStepNormalization(keras.layers.Layer):
  """Slots for the batch normalization of a model, one for each inner step.

  A slot holds a scale and a shift for each batch normalization layer and, with
  `moving`, its moving mean and variance. MAML++ [1] calls these BNWB and BNRS.
  The model's own variables are the last slot, with which a learner predicts
  after all steps. This layer holds the earlier slots, which start as copies of
  the last slot.

  The model does not change. `stateless_call` takes the variables of a slot in
  place of the model's own variables.

  Args:
    model: A built `keras.Model`.
    steps: Integer >= 1. Number of slots.
    moving: Whether each slot has moving statistics of its own.
    **kwargs: Forwarded to `keras.layers.Layer`.

  Attributes:
    affine: Scales and shifts of the earlier slots, `[steps - 1, channels]`
      each.
    places: Index of each of `affine` in `model.trainable_variables`.
    moving: Moving means and variances of the earlier slots, `[steps - 1,
      channels]` each.
    moving_places: Index of each of `moving` in
      `model.non_trainable_variables`.

  References:
    [1] A. Antoniou, H. Edwards, A. Storkey. How to train your MAML. ICLR 2019.
        https://arxiv.org/abs/1810.09502
  """

  def __init__(
    self, model: keras.Model, steps: int, *, moving: bool, **kwargs: Any
  ):
    super().__init__(**kwargs)
    self.steps = steps
    layers = statistics.batch_normalization_layers(model)
    own = {id(v) for layer in layers for v in layer.variables}
    trainable = model.trainable_variables if steps > 1 else []
    state = model.non_trainable_variables if moving else []
    self.places = _places(trainable, own)
    self.moving_places = _places(state, own)
    self.affine = [
      self._make_slots(trainable[place], trainable=True)
      for place in self.places
    ]
    self.moving = [
      self._make_slots(state[place], trainable=False)
      for place in self.moving_places
    ]
    self.built = True

  def _make_slots(self, variable: Any, *, trainable: bool) -> Any:
    shape = (self.steps - 1, *variable.shape)
    value = keras.ops.convert_to_numpy(variable)
    return self.add_weight(
      shape=shape,
      dtype=variable.dtype,
      initializer=lambda shape, dtype: tf.broadcast_to(
        tf.constant(value, dtype), shape
      ),
      trainable=trainable,
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

  def initial_moving(self, model: keras.Model) -> list[list[tf.Tensor]]:
    """Returns, for each moving statistic of `model`, its value in each slot."""
    return [
      [*tf.unstack(early), tf.convert_to_tensor(variable)]
      for early, variable in zip(self.moving, self._own(model), strict=True)
    ]

  def state_at(
    self,
    state: State,
    moving: Sequence[Sequence[tf.Tensor]],
    slot: tf.Tensor | int,
  ) -> State:
    """Returns `state` with the moving statistics of a slot.

    Args:
      state: One tensor for each of `model.non_trainable_variables`.
      moving: Values in all slots, in the order of `initial_moving`.
      slot: Index from 0 to `steps - 1`. The last slot is the model's own.
    """
    state = list(state)
    for place, values in zip(self.moving_places, moving, strict=True):
      state[place] = (
        tf.stack(values)[slot] if tf.is_tensor(slot) else values[slot]
      )
    return state

  def record(
    self, moving: list[list[tf.Tensor]], state: State, slot: int
  ) -> None:
    """Copies the moving statistics in `state` to a slot of `moving`.

    Args:
      moving: Values in all slots, in the order of `initial_moving`. This method
        changes them in place.
      state: One tensor for each of `model.non_trainable_variables`.
      slot: Index from 0 to `steps - 1`.
    """
    for place, values in zip(self.moving_places, moving, strict=True):
      values[slot] = state[place]

  def assign_moving(
    self, model: keras.Model, moving: Sequence[Sequence[tf.Tensor]]
  ) -> None:
    """Assigns the moving statistics of all slots.

    Args:
      model: The model, whose own moving statistics are the last slot.
      moving: Values in all slots, in the order of `initial_moving`.
    """
    variables = zip(self.moving, self._own(model), moving, strict=True)
    for early, last, values in variables:
      early.assign(tf.reshape(values[:-1], early.shape))
      last.assign(values[-1])

  def _own(self, model: keras.Model) -> list[Any]:
    return [
      model.non_trainable_variables[place] for place in self.moving_places
    ]


def _places(variables: Sequence[Any], own: set[int]) -> list[int]:
  """Returns the indices of the variables whose `id` is in `own`."""
  return [place for place, v in enumerate(variables) if id(v) in own]
