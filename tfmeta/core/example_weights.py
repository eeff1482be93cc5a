"""Weights of examples, as batch normalization needs them.

A Keras model takes no weights of its examples when it is called, and most
layers do not need them: the output for one example depends on this example
alone. Batch statistics are the exception. They leave out the examples of weight
0, so that padding does not change the outputs for the others. Positive weights
all count the same there, as in Keras.

A context variable carries the weights from the call of a model to its layers.
Threads and graphs have contexts of their own.
"""

from collections.abc import Iterator
import contextlib
import contextvars
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import keras_internals

_COUNTED: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar(
  "counted", default=None
)


@contextlib.contextmanager
def applied(model: keras.Model, weight: Any) -> Iterator[None]:
  """Leaves examples of weight 0 out of the batch statistics of `model`.

  Args:
    model: The model that is called inside the `with` statement in training
      mode.
    weight: Weights `[n]` of the examples, or `None`: all examples count.

  Raises:
    ValueError: If a layer of `model` cannot leave examples out.
  """
  if weight is not None:
    check_layers(model)
  token = _COUNTED.set(counts(weight))
  try:
    yield
  finally:
    _COUNTED.reset(token)


def counted() -> tf.Tensor | None:
  """Returns which examples `[n]` of the current batch count; `None` for all."""
  return _COUNTED.get()


def counts(weight: Any) -> tf.Tensor | None:
  """Returns which weights `[n]` are positive, or `None` without weights."""
  return None if weight is None else tf.convert_to_tensor(weight) > 0


def both(first: Any, first_y: Any, second: Any, second_y: Any) -> Any:
  """Returns the weights of two example sets put together.

  Args:
    first: Weights `[n]` of the first set, or `None`.
    first_y: Targets `[n, ...]` of the first set.
    second: Weights `[m]` of the second set, or `None`.
    second_y: Targets `[m, ...]` of the second set.

  Returns:
    Weights `[n + m]`, 1 where a set has none; `None` if neither set has any.
  """
  if first is None and second is None:
    return None
  dtype = tf.convert_to_tensor(second if first is None else first).dtype
  return tf.concat(
    [
      tf.ones(tf.shape(y)[:1], dtype) if weight is None else weight
      for weight, y in ((first, first_y), (second, second_y))
    ],
    axis=0,
  )


def mean(
  values: tf.Tensor, counted: tf.Tensor | None, axis: int | None = None
) -> tf.Tensor:
  """Returns the mean of `values` over the examples that count.

  Args:
    values: Tensor with an axis that counts examples.
    counted: Booleans `[n]`, the examples that count; `None` for all.
    axis: The axis of examples, which the mean reduces. Defaults to `None`:
      examples are the first axis, and the mean reduces all axes.
  """
  if counted is None:
    return tf.reduce_mean(values, axis=axis)
  place = axis or 0
  weight = tf.cast(counted, values.dtype)
  column = tf.reshape(weight, [-1, *[1] * (values.shape.rank - 1 - place)])
  total = tf.reduce_sum(values * column, axis=place)
  found = tf.math.divide_no_nan(total, tf.reduce_sum(weight))
  return tf.reduce_mean(found) if axis is None else found


def check_layers(model: keras.Model) -> None:
  """Checks that all batch normalization of `model` can leave examples out."""
  stock = [
    layer
    for layer in keras_internals.flatten_layers(model, include_self=False)
    if isinstance(layer, keras.layers.BatchNormalization)
    and layer.trainable
    and not getattr(layer, "leaves_out_examples", False)
  ]
  if stock:
    remedy = "use tfmeta.layers.exact(model)"
    if any(getattr(layer, "renorm", False) for layer in stock):
      remedy = "with renorm=True, there is none"
    raise ValueError(
      "With weights of examples, batch normalization must be that of "
      f"tfmeta.layers, which leaves out examples of weight 0: {remedy}. "
      "Received: keras.layers.BatchNormalization in "
      f"{', '.join(layer.path for layer in stock)}"
    )
