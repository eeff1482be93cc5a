"""What layers do in their call besides returning outputs.

Learners call a model as a function of its weights. Batch statistics and the
seeds of random layers are passed on. Anything else that a layer does in its
call would be lost without a word.
"""

import inspect
from typing import Any
import warnings

import keras
import tensorflow as tf

from tfmeta.core import inputs
from tfmeta.core import keras_internals

# Axes of unknown size get this one. It is enough for most models.
_SIZE = 32


def check_call(model: keras.Model) -> None:
  """Refuses a model whose layers add losses or assign state in their call.

  Warns of weight constraints, which adapted weights need not meet.

  Args:
    model: A built functional or Sequential model. It is called on zeros; if it
      takes none, nothing is checked.

  Raises:
    ValueError: If a layer adds a loss, or assigns a variable other than the
      statistics of batch normalization and the seeds of random layers.
  """
  _warn_of_constraints(model)
  scope = _Recorder(model)
  try:
    with tf.init_scope(), scope:
      model(_zeros(model), training=True)
  except Exception:  # Some models take no zeros, or no such size.
    return
  if scope.added_by:
    raise ValueError(
      f"The layers {_listed(scope.added_by)} of {model.name!r} add losses in "
      "their call (add_loss or an activity regularizer), which the inner loop "
      "would leave out. Remove them, or pass an `inner_loss` that includes "
      "them. Weight regularizers (kernel_regularizer) are no problem. "
      f"Received: {len(scope.losses)} added losses"
    )
  if scope.assigned_by:
    raise ValueError(
      f"The layers {_listed(scope.assigned_by)} of {model.name!r} assign "
      "variables in their call, which learners would drop: they call the model "
      "as a function of its weights. Only the statistics of batch "
      "normalization and the seeds of random layers are kept. Replace these "
      "layers. Received: "
      f"{len(scope.assigned_by)} assigned variables"
    )


class _Recorder(keras.StatelessScope):
  """Scope that records which layers add losses or assign variables."""

  def __init__(self, model: keras.Model):
    super().__init__(collect_losses=True)
    self.added_by: list[str] = []
    self.assigned_by: list[str] = []
    # Learners pass on what these layers assign.
    self._kept = {
      id(variable)
      for layer in keras_internals.flatten_layers(model)
      if isinstance(layer, keras.layers.BatchNormalization)
      or type(layer).__module__.startswith("tfmeta.")
      for variable in layer.non_trainable_variables
    }

  def add_loss(self, loss: Any) -> None:
    super().add_loss(loss)
    self.added_by.append(_calling_layer())

  def add_update(self, update: tuple[Any, Any]) -> None:
    super().add_update(update)
    (variable, _), (is_seed,) = update, keras_internals.seeds(update[:1])
    if id(variable) not in self._kept and not is_seed:
      self.assigned_by.append(_calling_layer())


def _calling_layer() -> str:
  """Returns the name of the innermost layer whose code is running."""
  frame = inspect.currentframe()
  while frame is not None:
    caller = frame.f_locals.get("self")
    if isinstance(caller, keras.Layer):
      return str(getattr(caller, "name", "unknown"))
    frame = frame.f_back
  return "unknown"


def _zeros(model: keras.Model) -> Any:
  def zeros(spec: tf.TensorSpec) -> tf.Tensor:
    sizes = [size or _SIZE for size in spec.shape[1:]]
    return tf.zeros([2, *sizes], spec.dtype)

  return tf.nest.map_structure(zeros, inputs.input_specs(model))


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
