"""Gradients of a function's own, in SavedModels too.

TensorFlow saves the gradients that a function has, so that a loaded model can
be differentiated. It does not save the gradients of these gradients, and a
program that loads the model is warned of each. Here they end in the file:
asking for them raises an error, and loading warns of nothing.
"""

from collections.abc import Callable
import contextvars
from typing import Any

import tensorflow as tf

from tfmeta.core import keras_internals

_MESSAGE = "A SavedModel holds first derivatives only."

_IN_GRADIENT: contextvars.ContextVar[bool] = contextvars.ContextVar(
  "in_gradient", default=False
)


def custom_gradient(fn: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `fn` with a gradient of its own, as `tf.custom_gradient` does.

  Args:
    fn: Function of tensors that returns its values and a function from the
      gradients of the values to the gradients of the tensors. If this function
      calls others with gradients of their own, `fn` has second derivatives.
  """

  @tf.custom_gradient
  def with_own_gradient(*args: tf.Tensor) -> Any:
    values, gradient = fn(*args)
    return values, _marked(gradient)

  def differentiable(*args: tf.Tensor) -> Any:
    if _IN_GRADIENT.get() and keras_internals.in_save_context():
      values, _ = fn(*args)
      return tf.nest.map_structure(_without_gradient, values)
    return with_own_gradient(*args)

  return differentiable


def _marked(gradient: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `gradient` so that the functions that it calls can tell."""

  def in_gradient(*upstream: tf.Tensor) -> Any:
    token = _IN_GRADIENT.set(True)
    try:
      return gradient(*upstream)
    finally:
      _IN_GRADIENT.reset(token)

  return in_gradient


def _without_gradient(value: tf.Tensor) -> tf.Tensor:
  return tf.raw_ops.PreventGradient(input=value, message=_MESSAGE)
