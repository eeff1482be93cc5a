"""Batch statistics of a support set, for the normalization of queries."""

from collections.abc import Iterable
from collections.abc import Sequence
import functools
import inspect
import random
import threading
from typing import Any
import weakref

import keras
import tensorflow as tf

from tfmeta.core import checks
from tfmeta.core import functional
from tfmeta.core import keras_internals
from tfmeta.layers import copying
from tfmeta.layers import normalization


def batch_normalization_layers(
  model: keras.Model,
) -> list[keras.layers.BatchNormalization]:
  """Returns the layers of `model` that normalize with batch statistics.

  The list includes layers of Keras and of tfmeta, at any depth. It excludes
  frozen layers (`trainable=False`), which always use their moving statistics.
  """
  return [
    layer
    for layer in keras_internals.flatten_layers(model, include_self=False)
    if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
  ]


def has_batch_normalization(model: keras.Model) -> bool:
  """Returns whether examples of a batch influence each other in training."""
  return bool(batch_normalization_layers(model))


def in_normalization(model: keras.Model) -> list[bool]:
  """Returns which trainable weights are scales or shifts of normalization.

  The batch, layer and group normalization of Keras and of tfmeta count.

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
    for layer in keras_internals.flatten_layers(model, include_self=False)
    if isinstance(layer, kinds)
    for variable in layer.trainable_variables
  }
  return [id(variable) in own for variable in model.trainable_variables]


def transductive(model: keras.Model) -> keras.Model:
  """Copies `model` so that it uses batch statistics in inference too.

  Args:
    model: A built model.

  Returns:
    A new model with the same names and values of variables, in which each
    `BatchNormalization` is a `TransductiveBatchNormalization`.

  Raises:
    ValueError: If `model` cannot be made again from its configuration.
  """
  return copying.called(copying.rebuild(model, _transductive_config))


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


def adapted_copy(
  model: keras.Model, weights: Sequence[tf.Tensor], *, transductive: bool
) -> keras.Model:
  """Copies `model` and gives the copy adapted weights.

  Args:
    model: A built model.
    weights: One tensor for each of `model.trainable_variables`, and perhaps for
      each of `model.non_trainable_variables`.
    transductive: Whether weights without statistics need those of each batch.

  Returns:
    A plain Keras model.

  Raises:
    ValueError: If the number or a shape of the weights is another one, or if
      `model` cannot be made again from its configuration.
  """
  checks.check_weights(weights, model)
  of_batch = transductive and len(weights) == len(model.trainable_variables)
  edit = _transductive_config if of_batch else lambda config: config
  copy = copying.called(copying.rebuild(model, edit))
  variables = copy.trainable_variables + copy.non_trainable_variables
  for variable, value in zip(variables, weights, strict=False):
    variable.assign(value)
  return copy


def support_state(
  model: keras.Model,
  weights: Sequence[tf.Tensor],
  state: Sequence[tf.Tensor],
  support_x: tf.Tensor,
) -> list[tf.Tensor]:
  """Replaces the moving statistics in `state` by the statistics of a batch.

  Pass the result to `model.stateless_call(weights, result, x, training=False)`.
  This call normalizes `x` by the batch statistics that `support_x` has under
  `weights`, so no example of `x` influences the outputs for another. The
  statistics depend on this batch alone, and are differentiable with respect to
  `weights`. They are computed without dropout, as predictions are.

  The first call with a model creates a `SupportStatistics`, which later calls
  use. Later calls do not notice if the configuration of the layers has changed
  since then, except for `trainable`.

  Args:
    model: A built model.
    weights: One tensor for each of `model.trainable_variables`.
    state: One tensor for each of `model.non_trainable_variables`.
    support_x: `[S, ...]` inputs of `model`.

  Returns:
    List like `state`. Entries that are not moving statistics of batch
    normalization, such as seeds, are taken from `state`.

  Raises:
    ValueError: If the statistics cannot be computed: see `SupportStatistics`.
  """
  return _statistics_of(model).support_state(weights, state, support_x)


def assign_moving_statistics(
  model: keras.Model, state: Sequence[tf.Tensor]
) -> None:
  """Assigns the moving statistics of batch normalization.

  Args:
    model: A built model.
    state: One tensor for each of `model.non_trainable_variables`, such as the
      state that `tfmeta.core.apply` returns. Other entries, such as seeds, are
      not assigned.
  """
  moving = {id(v) for v, _ in _moving_statistics(model)}
  for variable, value in zip(model.non_trainable_variables, state, strict=True):
    if id(variable) in moving:
      variable.assign(value)


def without_noise(model: keras.Model) -> keras.Model:
  """Returns a model that uses batch statistics, but no random numbers.

  Call it with the weights and the state of `model`, in training mode. Its
  variables have other values.

  Args:
    model: A built model.

  Returns:
    A copy of `model` whose random layers are inactive. Without random layers,
    or if `model` cannot be made again from its configuration, `model` itself.
  """
  if not functional.is_random(model):
    return model
  try:
    return _statistics_of(model).quiet_copy() or model
  except ValueError:
    return model


class SupportStatistics:
  """The batch statistics of one model, for any weights and any batch.

  The statistics come from a pass in training mode, with a momentum of 0 and
  without random numbers. The pass goes through a private copy of the model,
  whose layers have these settings. The model itself never changes, so any
  number of threads may use it at the same time.

  An instance is a plain Python object. A Keras model that has one as an
  attribute therefore neither counts nor saves the variables of the copy, whose
  values nothing reads.

  If a model cannot be made again from its configuration, the pass goes through
  the model itself, in a stateless call. Its moving statistics then start from
  zero, and their new values are divided by `1 - momentum`. This gives the
  statistics of the batch, up to rounding.

  Args:
    model: A built model. The instance does not keep it alive.

  Raises:
    ValueError: If `model` is not built. Also if `model` cannot be made again
      from its configuration, and one of its layers draws random numbers in
      training, or has batch statistics that cannot be recovered from moving
      statistics.
  """

  def __init__(self, model: keras.Model):
    self._model = weakref.ref(model)
    self._copy = None
    # Initializers without a seed take one from this generator. Making the copy
    # must not change the random numbers that a program gets afterwards.
    random_state = random.getstate()
    try:
      # The copy outlives a graph that may be traced at the moment.
      with tf.init_scope():
        self._copy = _memoryless_copy(model)
    except ValueError as error:
      if not model.built:
        raise
      _check_recoverable(model, error)
    finally:
      random.setstate(random_state)

  def support_state(
    self,
    weights: Sequence[tf.Tensor],
    state: Sequence[tf.Tensor],
    support_x: tf.Tensor,
  ) -> list[tf.Tensor]:
    """Replaces the moving statistics in `state` by the statistics of a batch.

    See `tfmeta.layers.support_state`.

    Args:
      weights: One tensor for each trainable variable of the model.
      state: One tensor for each non-trainable variable of the model.
      support_x: `[S, ...]` inputs of the model.

    Returns:
      List like `state`.
    """
    copy = self.quiet_copy()
    if copy is None:
      return _recovered_state(self._model(), weights, state, support_x)
    _, batch_state = copy.stateless_call(
      weights, state, support_x, training=True
    )
    moving = {id(v) for v, _ in _moving_statistics(copy)}
    variables = copy.non_trainable_variables
    return [
      new if id(variable) in moving else old
      for variable, old, new in zip(variables, state, batch_state, strict=True)
    ]

  def quiet_copy(self) -> keras.Model | None:
    """Returns the copy of the model, or `None` if it cannot be made again."""
    model = self._model()
    if self._copy is not None and model is not None:
      copying.match(self._copy, model)
    return self._copy


# The statistics of each model that a function above was called with, as long as
# the model lives.
_statistics = weakref.WeakKeyDictionary()
# Reentrant, because making a copy runs the constructors of the user's layers.
_lock = threading.RLock()


def _statistics_of(model: keras.Model) -> SupportStatistics:
  with _lock:
    statistics = _statistics.get(model)
    if statistics is None:
      statistics = _statistics[model] = SupportStatistics(model)
  return statistics


def _moving_statistics(model: keras.Model) -> Iterable[tuple[Any, float]]:
  """Yields moving means and variances, each with its layer's momentum."""
  for layer in batch_normalization_layers(model):
    yield layer.moving_mean, layer.momentum
    yield layer.moving_variance, layer.momentum


def _memoryless_copy(model: keras.Model) -> keras.Model:
  """Copies `model`, with a momentum of 0 and without random numbers."""
  copy = copying.rebuild(model, lambda config: config)
  for layer in keras_internals.flatten_layers(copy, include_self=False):
    if isinstance(layer, keras.layers.BatchNormalization):
      layer.momentum = 0.0
    elif _is_random(layer):
      _end_training(layer)
  return copy


def _is_random(layer: keras.Layer) -> bool:
  """Returns whether `layer` has seeds, and no batch statistics inside."""
  seeds = any(keras_internals.seeds(layer.variables))
  return seeds and not has_batch_normalization(layer)


def _end_training(layer: keras.Layer) -> None:
  """Makes a layer work in inference mode, whatever mode its model is in."""
  call = layer.call
  if "training" not in inspect.signature(call).parameters:
    return

  @functools.wraps(call)
  def in_inference(*args: Any, **kwargs: Any) -> Any:
    return call(*args, **{**kwargs, "training": False})

  layer.call = in_inference


def _check_recoverable(model: keras.Model, error: ValueError) -> None:
  """Refuses a model for which `_recovered_state` would be wrong."""
  for path, layer in copying.walk(model):
    noisy = _is_random(layer)
    # A momentum of 1 leaves nothing of the batch in the moving statistics. With
    # batch renormalization, a moving variance is the square of an average.
    lost = isinstance(layer, keras.layers.BatchNormalization) and (
      layer.momentum == 1.0 or getattr(layer, "renorm", False)
    )
    if noisy or lost:
      raise ValueError(
        "`model` must be of classes whose `get_config` returns all arguments "
        "of their constructors, because batch statistics are computed on a "
        f"copy in which the layer {path} has no randomness and no momentum. "
        f"Received: model={model.name} ({error.__cause__ or error})"
      ) from error


def _recovered_state(
  model: Any,
  weights: Sequence[tf.Tensor],
  state: Sequence[tf.Tensor],
  support_x: tf.Tensor,
) -> list[tf.Tensor]:
  """Returns batch statistics of a model that cannot be copied.

  A moving statistic that starts from zero becomes `(1 - momentum)` times the
  statistic of the batch.
  """
  moving = {id(v): 1.0 - momentum for v, momentum in _moving_statistics(model)}
  variables = model.non_trainable_variables
  zeroed = [
    tf.zeros_like(value) if id(variable) in moving else value
    for variable, value in zip(variables, state, strict=True)
  ]
  values = zip(
    [*model.trainable_variables, *variables], [*weights, *zeroed], strict=True
  )
  with _ForgetfulScope(values, moving) as scope:
    model(support_x, training=True)
  return [
    scope.updates[id(variable)] / moving[id(variable)]
    if id(variable) in scope.updates
    else old
    for variable, old in zip(variables, state, strict=True)
  ]


class _ForgetfulScope(keras.StatelessScope):
  """A stateless scope in which moving statistics are always read as zero.

  In Keras's own scope, a layer that is called twice would mix the statistics of
  both batches. Here, only the last batch counts, as with a momentum of 0.
  """

  def __init__(self, values: Iterable[tuple[Any, Any]], moving: Iterable[int]):
    super().__init__(values)
    self._moving = moving
    self.updates = {}

  def add_update(self, update: tuple[Any, Any]) -> None:
    variable, value = update
    if id(variable) in self._moving:
      self.updates[id(variable)] = value
    else:
      super().add_update(update)
