"""A Keras model as a pure function of its weights.

The inner loop never copies a model and never assigns a variable, because both
would cut the gradient from the adapted weights to the initial ones. Weights are
lists of tensors in the order of `model.trainable_variables`; they are passed to
`model.stateless_call`.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import exact_gradients
from tfmeta.core import example_weights
from tfmeta.core import frozen_body
from tfmeta.core import keras_internals
from tfmeta.core import random
from tfmeta.typing import State
from tfmeta.typing import Weights


def weights_of(model: keras.Model) -> Weights:
  """Returns the trainable weights of `model` as tensors.

  A surrounding gradient tape connects these tensors to the variables.
  """
  return [tf.convert_to_tensor(v) for v in model.trainable_variables]


@contextlib.contextmanager
def substituted(
  model: keras.Model, variables: Sequence[Any], values: Sequence[tf.Tensor]
) -> Iterator[None]:
  """Substitutes tensors for variables of `model` inside a `with` statement.

  Gradients then flow to the tensors. Contexts nest: a variable keeps the
  substitute of an outer context, unless the inner context substitutes it again.
  Assigning a variable inside the context has no effect.

  Args:
    model: A built model.
    variables: Some of the variables of `model`.
    values: One tensor for each of `variables`.
  """
  # A StatelessScope hides the scope around it, so this scope repeats the values
  # of all other variables.
  current = {id(v): (v, tf.convert_to_tensor(v)) for v in model.variables}
  given = zip(variables, values, strict=True)
  current.update({id(v): (v, value) for v, value in given})
  with keras.StatelessScope(state_mapping=list(current.values())):
    yield


def is_random(model: keras.Model) -> bool:
  """Returns whether a layer of `model`, such as `Dropout`, is random."""
  return any(keras_internals.seeds(model.non_trainable_variables))


def state_of(model: keras.Model, seed: tf.Tensor | None = None) -> State:
  """Returns the non-trainable state of `model` as tensors.

  The state consists of moving statistics and of the seeds of random layers.

  Args:
    model: A built model.
    seed: Integer tensor of shape `[2]`. If given, it replaces the seeds that
      the random layers hold: each layer gets a seed of its own, which depends
      only on `seed` and on the place of the layer. Defaults to `None`, which
      keeps the seeds.
  """
  variables = model.non_trainable_variables
  state = []
  pairs = zip(variables, keras_internals.seeds(variables), strict=True)
  for index, (variable, is_seed) in enumerate(pairs):
    value = tf.convert_to_tensor(variable)
    if seed is not None and is_seed:
      value = tf.cast(random.fold_in(seed, index), value.dtype)
    state.append(value)
  return state


def apply(
  model: keras.Model,
  weights: Weights,
  state: State,
  x: Any,
  *,
  training: bool,
  example_weight: tf.Tensor | None = None,
  exact: bool = False,
) -> tuple[tf.Tensor, State]:
  """Calls `model` with `weights` and `state` in place of its own variables.

  Args:
    model: A built model.
    weights: One tensor for each of `model.trainable_variables`.
    state: One tensor for each of `model.non_trainable_variables`.
    x: Inputs, `[n, ...]`, or the features that a frozen body made of them.
    training: Whether layers run in training mode.
    example_weight: Weights `[n]` of the examples. Batch statistics leave out
      the examples of weight 0. Defaults to `None`: all examples count.
    exact: Whether derivatives of any order must be exact, because the caller
      differentiates more than once. Some operations of TensorFlow have only a
      first derivative. Defaults to `False`.

  Returns:
    The outputs, and the state after the call. No variable is assigned.
  """
  if isinstance(x, frozen_body.Examples):

    def call(*inputs: Any) -> tuple[Any, State]:
      return apply(
        *inputs, training=training, example_weight=example_weight, exact=exact
      )

    return frozen_body.call_head(call, model, weights, state, x)
  weight = example_weight if training else None
  if exact:
    return exact_gradients.apply(
      model, weights, state, x, training=training, example_weight=weight
    )
  with example_weights.applied(model, weight):
    return model.stateless_call(weights, state, x, training=training)
