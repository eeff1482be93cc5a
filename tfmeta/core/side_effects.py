"""What layers do in their call besides returning outputs.

Learners call a model as a function of its weights. Batch statistics and the
seeds of random layers are passed on. Anything else that a layer does in its
call would be lost without a word.
"""

from collections.abc import Iterator
import inspect
from typing import Any
import warnings

import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import inputs
from tfmeta.core import keras_internals

# Axes of unknown size get the first one, or the second if it is not enough.
_SIZES = (32, 256)


def check_call(model: keras.Model) -> None:
  """Refuses a model whose layers add losses or assign state in their call.

  Warns of weight constraints, which adapted weights need not meet, and of
  random numbers that the seeds of the model do not determine.

  Args:
    model: A built functional or Sequential model. It is called on constants; if
      it takes none, a warning says so.

  Raises:
    ValueError: If a layer adds a loss, assigns a variable other than the
      statistics of batch normalization and the seeds of its random layers, or
      reads trained weights in a function with a gradient of its own.
  """
  _warn_of_constraints(model)
  scope = _recorded(model)
  if scope is None:
    return
  if scope.read_by:
    raise ValueError(
      f"The layers {_listed(scope.read_by)} of {model.name!r} read their "
      "weights in a function with a gradient of its own (keras.remat, "
      "keras.RematScope, tf.recompute_grad or tf.custom_gradient), so that "
      "these weights get no gradients in a learner. Make the layers without "
      f"it. Received: {len(set(scope.read_by))} such layers"
    )
  if scope.added_by:
    raise ValueError(
      f"The layers {_listed(scope.added_by)} of {model.name!r} add losses in "
      "their call (add_loss or an activity regularizer), which the inner loop "
      "would leave out. Remove them, or pass an `inner_loss` that includes "
      "them. Weight regularizers (kernel_regularizer) are no problem. "
      f"Received: {len(set(scope.added_by))} such layers"
    )
  if scope.assigned_by:
    raise ValueError(
      f"The layers {_listed(scope.assigned_by)} of {model.name!r} assign "
      "variables in their call, which learners would drop: they call the model "
      "as a function of its weights. Only the statistics of batch "
      "normalization and the seeds of the layers' own SeedGenerators are kept. "
      "Replace these layers. Received: "
      f"{len(set(scope.assigned_by))} such layers"
    )
  _warn_of_noise(model, *scope.outputs)


def _recorded(model: keras.Model) -> "_Recorder | None":
  """Calls a model, and returns a record of what its layers did.

  Returns:
    The record, or `None` if the model takes no constants.
  """
  # No scope holds back what a layer assigns to variables of TensorFlow.
  plain = [
    (layer.name, variable, tf.identity(variable))
    for layer in keras_internals.flatten_layers(model)
    for variable in vars(layer).values()
    if isinstance(variable, tf.Variable)
  ]
  scope = _first_record(model)
  for name, variable, value in plain:
    if bool(tf.reduce_any(variable != value)):
      variable.assign(value)
      if scope is not None:
        scope.assigned_by.append(name)
  return scope


def _first_record(model: keras.Model) -> "_Recorder | None":
  reason = ""
  for size in _SIZES:
    scope = _Recorder(model)
    try:
      with tf.init_scope():
        scope.outputs = [
          _outputs_in(each, model, size, training=True)
          for each in (scope, _Recorder(model))
        ]
        _outputs_in(scope, model, size, training=False)
    except Exception as error:  # Any error of a user's layers.
      reason = str(error).strip().partition("\n")[0]
      continue
    return scope
  layers = keras_internals.flatten_layers(model)
  # Keras loads the vocabularies of a file after it has made the learner, which
  # was checked before it was saved.
  if not any(hasattr(layer, "load_assets") for layer in layers):
    _warn_of_failure(model, reason)
  return None


def _warn_of_failure(model: keras.Model, reason: str) -> None:
  warnings.warn(
    f"It is not known whether layers of {model.name!r} add losses or assign "
    "variables in their call, which learners would leave out: a call of the "
    f"model on constants failed ({reason}).",
    stacklevel=6,
  )


class _Recorder(keras.StatelessScope):
  """Scope that records what layers do, other than returning outputs.

  Attributes:
    added_by: Names of the layers that add losses.
    assigned_by: Names of the layers that assign variables.
    read_by: Names of the layers that read trained weights in a function with a
      gradient of its own. To the function, the weights are constants.
  """

  def __init__(self, model: keras.Model):
    super().__init__(collect_losses=True)
    self.added_by: list[str] = []
    self.assigned_by: list[str] = []
    self.read_by: list[str] = []
    self.outputs: list[tf.Tensor] = []
    # Learners pass on these statistics, and the seeds of all layers.
    self._kept = {
      id(variable)
      for layer in keras_internals.flatten_layers(model)
      for variable in _statistics_of(layer)
    }
    variables = model.non_trainable_variables
    seeds = zip(variables, keras_internals.seeds(variables), strict=True)
    self._kept |= {id(variable) for variable, is_seed in seeds if is_seed}

  def get_current_value(self, variable: Any) -> Any:
    if variable.trainable and _in_custom_gradient():
      self.read_by.append(_calling_layer())
    return super().get_current_value(variable)

  def add_loss(self, loss: Any) -> None:
    super().add_loss(loss)
    self.added_by.append(_calling_layer())

  def add_update(self, update: tuple[Any, Any]) -> None:
    super().add_update(update)
    if id(update[0]) not in self._kept:
      self.assigned_by.append(_calling_layer())


def _calling_layer() -> str:
  """Returns the name of the innermost layer whose code is running."""
  for frame in _frames():
    caller = frame.f_locals.get("self")
    if isinstance(caller, keras.Layer):
      return str(getattr(caller, "name", "unknown"))
  return "unknown"


def _in_custom_gradient() -> bool:
  """Returns whether a function of `tf.custom_gradient` is running."""
  file = inspect.unwrap(tf.custom_gradient).__code__.co_filename
  return any(frame.f_code.co_filename == file for frame in _frames())


def _frames() -> Iterator[Any]:
  """Yields the frames of the calls that are running, inner ones first."""
  frame = inspect.currentframe()
  while frame is not None:
    yield frame
    frame = frame.f_back


def _statistics_of(layer: keras.Layer) -> list[Any]:
  """Returns the variables that a layer of batch normalization assigns."""
  if type(layer).__module__.startswith("tfmeta."):
    return layer.non_trainable_variables
  if isinstance(layer, keras.layers.BatchNormalization):
    names = ["moving_mean", "moving_variance"]
    # Keras 3.13 and earlier have no batch renormalization.
    if getattr(layer, "renorm", False):
      names += ["moving_stddev", "renorm_mean", "renorm_stddev"]
    return [getattr(layer, name) for name in names]
  return []


def _outputs_in(
  scope: keras.StatelessScope, model: keras.Model, size: int, *, training: bool
) -> tf.Tensor:
  """Returns the outputs of a model for constants."""

  def constants(spec: tf.TensorSpec) -> tf.Tensor:
    examples, *features = spec.shape
    shape = [examples or 2, *[axis or size for axis in features]]
    if spec.dtype == tf.string:
      return tf.fill(shape, "")
    value = 0.5 if spec.dtype.is_floating else 0
    return tf.cast(tf.fill(shape, value), spec.dtype)

  examples = tf.nest.map_structure(constants, inputs.input_specs(model))
  with scope:
    return model(examples, training=training)


def _warn_of_noise(
  model: keras.Model, first: tf.Tensor, second: tf.Tensor
) -> None:
  """Warns if two calls of a model with the same seeds have other outputs."""
  # Sums on GPUs may differ by rounding.
  if not np.allclose(
    *(np.array(tf.cast(x, tf.float32)) for x in (first, second)),
    rtol=1e-3,
    equal_nan=True,
  ):
    warnings.warn(
      f"The outputs of {model.name!r} differ between two calls with the same "
      "seeds, so results cannot be repeated: a layer draws random numbers from "
      "TensorFlow. Use keras.random with a keras.random.SeedGenerator that the "
      "layer has as an attribute.",
      stacklevel=4,
    )


def _listed(names: list[str]) -> str:
  return ", ".join(repr(name) for name in dict.fromkeys(names))


def _warn_of_constraints(model: keras.Model) -> None:
  found = [
    v.path for v in model.trainable_variables if v.constraint is not None
  ]
  if found:
    warnings.warn(
      f"The constraints of {', '.join(found)} hold for the initial weights "
      "only: inner steps do not apply them to adapted weights.",
      stacklevel=4,
    )
