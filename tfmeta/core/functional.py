"""A Keras model as a pure function of its weights.

The inner loop never copies a model and never assigns a variable, which would
cut the gradient: weights are lists of tensors in the order of
`model.trainable_variables`, handed to `model.stateless_call`.
"""

from collections.abc import Callable
from typing import Any
from typing import get_args

import keras
import tensorflow as tf

from tfmeta.core import random
from tfmeta.typing import Reduction
from tfmeta.typing import State
from tfmeta.typing import Weights

REDUCTIONS = get_args(Reduction)


def weights_of(model: keras.Model) -> Weights:
  """Trainable weights of `model` as tensors that the surrounding tape sees."""
  return [tf.convert_to_tensor(v) for v in model.trainable_variables]


def is_random(model: keras.Model) -> bool:
  """Whether a layer of `model`, such as `Dropout`, draws random numbers."""
  return any(_is_seed(v) for v in model.non_trainable_variables)


def state_of(model: keras.Model, seed: tf.Tensor | None = None) -> State:
  """Non-trainable state of `model` (moving statistics, seeds) as tensors.

  Args:
    model: A built model.
    seed: Integer tensor of shape `[2]`, or None. With it, every layer that
      draws random numbers (such as `Dropout`) gets a stream of its own, a pure
      function of `seed`, in place of the one it holds.
  """
  state = []
  for index, variable in enumerate(model.non_trainable_variables):
    value = tf.convert_to_tensor(variable)
    if seed is not None and _is_seed(variable):
      value = tf.cast(random.fold_in(seed, index), value.dtype)
    state.append(value)
  return state


def _is_seed(variable: Any) -> bool:
  return variable.name == "seed_generator_state"


def apply(
  model: keras.Model,
  weights: Weights,
  state: State,
  x: tf.Tensor,
  *,
  training: bool,
) -> tuple[tf.Tensor, State]:
  """Calls `model` with `weights` and `state` in place of its own.

  Returns:
    The outputs and the state after the call; nothing is assigned.
  """
  return model.stateless_call(weights, state, x, training=training)


def reduced_loss(
  loss: keras.losses.Loss | Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  y: tf.Tensor,
  y_pred: tf.Tensor,
  *,
  reduction: Reduction = "mean",
) -> tf.Tensor:
  """Loss of one example set, in float32 at least.

  `loss.call` gives one value per example. `loss(...)` would also divide by the
  number of replicas of a `tf.distribute` strategy, and so shrink inner steps.

  Args:
    loss: A Keras loss, or a function that gives one value per example.
    y: Targets, `[n, ...]`.
    y_pred: Outputs of the model, `[n, ...]`.
    reduction: `"mean"` over examples; `"sum"`; or `"sum_over_ways"`, the sum
      divided by the shots, which is the mean times `ways` (the width of
      `y_pred`): the convention of the released code of MAML.
  """
  if y_pred.dtype.size < 4:
    y_pred = tf.cast(y_pred, tf.float32)
  per_example = loss.call if isinstance(loss, keras.losses.Loss) else loss
  values = per_example(y, y_pred)
  if reduction == "sum":
    return tf.reduce_sum(values)
  ways = y_pred.shape[-1] if reduction == "sum_over_ways" else 1
  return tf.reduce_mean(values) * tf.cast(ways, values.dtype)


def loss_of_batch(loss: Any, y: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
  """Mean loss over all queries `[T, Q, ...]` of a batch; 0 without tasks."""
  merged = [
    tf.reshape(t, tf.concat([[-1], tf.shape(t)[2:]], axis=0))
    for t in (y, y_pred)
  ]
  merged[1] = tf.ensure_shape(merged[1], [None, *y_pred.shape[2:]])
  value = reduced_loss(loss, *merged)
  return tf.where(tf.shape(y)[0] > 0, value, tf.zeros_like(value))


def mean_or_zero(values: tf.Tensor) -> tf.Tensor:
  """Mean of `[T]` values; 0 on a replica that has no tasks."""
  count = tf.cast(tf.shape(values)[0], values.dtype)
  return tf.math.divide_no_nan(tf.reduce_sum(values), count)


def takes_labels(loss: Any) -> bool:
  """Whether the targets of `loss` are integer labels, going by its name."""
  name = getattr(loss, "__name__", type(loss).__name__)
  return "sparse" in name.lower()
