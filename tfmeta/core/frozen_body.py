"""The frozen first layers of a model, computed once for each task.

If the first layers of a model are frozen, such as a pretrained backbone, what
they compute does not change in the inner loop. The model is therefore cut where
the first layer with trainable weights begins. The part before it, the body,
runs once on the support set and once on the queries of a task. Inner steps,
samples of the weights and predictions run the part behind it, the head.

The body ends earlier at layers whose outputs may differ from call to call:
those with random numbers or with batch statistics.
"""

from collections.abc import Callable
import operator
from typing import Any
from typing import NamedTuple
import weakref

import keras
import tensorflow as tf

from tfmeta.core import keras_internals
from tfmeta.core import model_parts
from tfmeta.typing import State
from tfmeta.typing import Weights

# Packages whose layers are known. KerasHub has pretrained models.
_OF_KERAS = ("keras.", "keras_hub.", "tfmeta.")
_OTHERS = (keras.layers.Lambda, keras.layers.SpectralNormalization)


class Examples(NamedTuple):
  """Examples of a task as the head of the model takes them.

  Attributes:
    head: The head.
    features: List of tensors `[n, ...]`, the inputs of the head.
  """

  head: keras.Model
  features: list[tf.Tensor]


class Features:
  """The features of some examples of one task.

  Args:
    model: A built model.
    *examples: Tensors `[n, ...]` or structures of them, such as the support
      examples and the queries.
  """

  def __init__(self, model: keras.Model, *examples: Any):
    # A structure may be packed again on its way, but its tensors stay the same.
    # They are kept, so that no other tensor can take their identity.
    self._known: list[tuple[list[Any], Examples]] = []
    parts = parts_of(model)
    if parts is not None:
      for x in examples:
        features = tf.nest.flatten(parts.body(x, training=False))
        self._known.append((tf.nest.flatten(x), Examples(parts.head, features)))

  def of(self, x: Any) -> Any:
    """Returns the features of `x` if they are known, or else `x` itself."""
    tensors = tf.nest.flatten(x)
    for known, examples in self._known:
      if len(known) == len(tensors) and all(map(operator.is_, known, tensors)):
        return examples
    return x


def parts_of(model: keras.Model) -> model_parts.Parts | None:
  """Returns a model cut before its first trainable layer.

  Args:
    model: A built functional or `Sequential` model.

  Returns:
    The two parts, which share the layers of `model`; `None` if it has no frozen
    layers that could be cut off.
  """
  frozen = tuple(variable.trainable for variable in model.variables)
  known = _parts.get(model)
  if known is None or known[0] != frozen:
    _parts[model] = (frozen, model_parts.cut(model, _is_constant))
  return _parts[model][1]


def call_head(
  call: Callable[..., tuple[Any, State]],
  model: keras.Model,
  weights: Weights,
  state: State,
  examples: Examples,
) -> tuple[Any, State]:
  """Calls the head of a model instead of the model.

  Args:
    call: Function from a model, its weights, its state and its inputs to the
      outputs and the new state.
    model: The model that has been cut.
    weights: One tensor for each of `model.trainable_variables`.
    state: One tensor for each of `model.non_trainable_variables`.
    examples: Examples from `Features.of`.

  Returns:
    The outputs, and the state of `model` after the call.
  """
  head = examples.head
  known = [*model.trainable_variables, *model.non_trainable_variables]
  values = [*weights, *state]
  outputs, moved = call(
    head,
    model_parts.values_of(head.trainable_variables, known, values),
    model_parts.values_of(head.non_trainable_variables, known, values),
    examples.features,
  )
  kept = model.non_trainable_variables
  return outputs, model_parts.values_of(
    kept, [*kept, *head.non_trainable_variables], [*state, *moved]
  )


# The parts of each model, and which of its variables were trained when it was
# cut. The parts do not refer to the model, so that it can be freed.
_parts: weakref.WeakKeyDictionary[
  keras.Model, tuple[Any, model_parts.Parts | None]
] = weakref.WeakKeyDictionary()


def _is_constant(operation: Any) -> bool:
  """Returns whether equal inputs give equal outputs in every call."""
  if not isinstance(operation, keras.Layer):
    return True
  if operation.trainable_weights:
    return False
  if any(keras_internals.seeds(operation.non_trainable_variables)):
    return False
  layers = keras_internals.flatten_layers(operation)
  return all(map(_is_known_to_be_constant, layers))


def _is_known_to_be_constant(layer: keras.Layer) -> bool:
  """Returns whether a frozen layer without seeds has no other state.

  Other layers than those of Keras may draw random numbers of their own, or
  compute something else in training.
  """
  if isinstance(layer, keras.layers.BatchNormalization):
    return not layer.trainable
  if isinstance(layer, _OTHERS):
    return False
  # A functional model of any class calls its layers, which are looked at too.
  return type(layer).call.__module__.startswith(_OF_KERAS)
