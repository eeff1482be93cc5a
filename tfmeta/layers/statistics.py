"""Batch statistics of a support set, for predictions that use no other."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib

import keras
import tensorflow as tf

from tfmeta.layers import copying
from tfmeta.layers import normalization


def batch_normalization_layers(
  model: keras.Model,
) -> list[keras.layers.BatchNormalization]:
  """Layers of `model`, at any depth, that normalise with batch statistics.

  Stock layers and those of tfmeta alike. A frozen one (`trainable=False`) is
  left out, because it always uses its moving statistics.
  """
  return [
    layer
    for layer in model._flatten_layers(include_self=False)
    if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
  ]


def has_batch_normalization(model: keras.Model) -> bool:
  """Whether outputs in training depend on the other examples of the batch."""
  return bool(batch_normalization_layers(model))


def in_normalization(model: keras.Model) -> list[bool]:
  """Which trainable weights of `model` are scales or shifts of normalisation.

  Those of batch, layer and group normalisation, stock and tfmeta's alike.

  Args:
    model: A built model.

  Returns:
    One boolean for each of `model.trainable_variables`.
  """
  kinds = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
  )
  own = {
    id(variable)
    for layer in model._flatten_layers(include_self=False)
    if isinstance(layer, kinds)
    for variable in layer.trainable_variables
  }
  return [id(variable) in own for variable in model.trainable_variables]


def transductive(model: keras.Model) -> keras.Model:
  """Copies `model` so that it uses batch statistics in inference too.

  Args:
    model: A built model.

  Returns:
    A new model with the same names and values of variables, in which
    `TransductiveBatchNormalization` stands for batch normalisation.

  Raises:
    ValueError: If `model` cannot be made again from its configuration.
  """
  return copying.rebuild(model, _transductive_config)


def _transductive_config(config):
  if config["class_name"] != "BatchNormalization":
    return config
  name = normalization.TransductiveBatchNormalization.__name__
  return {
    **config,
    "module": normalization.__name__,
    "class_name": name,
    "registered_name": f"{normalization.PACKAGE}>{name}",
  }


def support_state(
  model: keras.Model,
  weights: Sequence[tf.Tensor],
  state: Sequence[tf.Tensor],
  support_x: tf.Tensor,
) -> list[tf.Tensor]:
  """Replaces the moving statistics in `state` by the statistics of a batch.

  With the result, `model.stateless_call(weights, result, x, training=False)`
  normalises `x` with the batch statistics that `support_x` has under `weights`,
  so that no example of `x` influences the outputs for another. The statistics
  are those of the batch itself, not recovered from a moving average, and are
  differentiable with respect to `weights`.

  Args:
    model: A built model.
    weights: One tensor for each of `model.trainable_variables`.
    state: One tensor for each of `model.non_trainable_variables`.
    support_x: `[S, ...]` inputs of `model`.

  Returns:
    List like `state`; entries that are no moving statistics of batch
    normalisation (seeds, for example) are those of `state`.
  """
  layers = batch_normalization_layers(model)
  # Predictions are made without dropout, and so are their statistics.
  quiet = [("momentum", layers)]
  for name in ("rate", "stddev"):
    quiet.append((name, [x for x in _random_layers(model) if hasattr(x, name)]))
  with contextlib.ExitStack() as stack:
    for name, changed in quiet:
      stack.enter_context(_set_to_zero(name, changed))
    _, batch_state = model.stateless_call(
      weights, state, support_x, training=True
    )
  moving = {
    id(variable)
    for layer in layers
    for variable in (layer.moving_mean, layer.moving_variance)
  }
  return [
    new if id(variable) in moving else old
    for variable, old, new in zip(
      model.non_trainable_variables, state, batch_state, strict=True
    )
  ]


def _random_layers(model: keras.Model) -> list[keras.Layer]:
  return [
    layer
    for layer in model._flatten_layers(include_self=False)
    if isinstance(
      getattr(layer, "seed_generator", None), keras.random.SeedGenerator
    )
  ]


@contextlib.contextmanager
def _set_to_zero(name: str, layers: Sequence[keras.Layer]) -> Iterator[None]:
  """Sets an attribute of `layers` to 0 while a graph is traced."""
  before = [getattr(layer, name) for layer in layers]
  try:
    for layer in layers:
      setattr(layer, name, 0.0)
    yield
  finally:
    for layer, value in zip(layers, before, strict=True):
      setattr(layer, name, value)
