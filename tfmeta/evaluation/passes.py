"""Predictions for the queries of a task, a few at a time."""

from collections.abc import Callable
import dataclasses
from typing import Any

import tensorflow as tf

from tfmeta.algorithms.context import Context
from tfmeta.core import inputs as model_inputs


@dataclasses.dataclass(frozen=True)
class Prediction:
  """How queries are predicted.

  Attributes:
    context: Context of all tasks.
    noise_stddev: Standard deviation of regression targets, or `None`.
    queries_at_once: Number of queries in one pass, or `None` for all.
  """

  context: Context
  noise_stddev: float | None
  queries_at_once: int | None


def in_passes(
  predict: Callable[[Any, Any], tf.Tensor],
  query_x: Any,
  context: Context,
  size: int | None,
) -> tf.Tensor:
  """Predicts `size` queries of one task at a time.

  The last pass has the queries that are left. A query of weight 0 is padding,
  and no pass has one instead of a query that counts.

  Args:
    predict: Function from queries `[n, ...]` and their context to outputs
      `[n, ...]`.
    query_x: Queries, `[Q, ...]`.
    context: Context of the task.
    size: Number of queries in a pass, or `None` for all.

  Returns:
    The outputs, `[Q, ...]`.
  """
  if size is None:
    return predict(query_x, context)
  count, weight = model_inputs.count_of(query_x), context.query_weight
  order = _counting_first(count, weight)

  def one_pass(start: Any) -> tf.Tensor:
    rows = order[start : start + size]
    part = None if weight is None else tf.gather(weight, rows)
    x = tf.nest.map_structure(lambda t: tf.gather(t, rows), query_x)
    outputs = predict(x, context.replace(query_weight=part))
    # `tf.vectorized_map` needs passes of equal size.
    missing = size - tf.shape(outputs)[0]
    return tf.pad(outputs, [[0, missing], *[[0, 0]] * (outputs.shape.rank - 1)])

  # The outputs of the first pass tell the loop their type and shape.
  first = one_pass(0)
  shape = [size, *first.shape[1:]]
  passes = (count + size - 1) // size
  array = tf.TensorArray(first.dtype, size=passes, element_shape=shape)
  _, array = tf.while_loop(
    lambda i, _: i < passes,
    lambda i, array: (i + 1, array.write(i, one_pass(i * size))),
    (tf.constant(1), array.write(0, first)),
  )
  outputs = tf.reshape(array.stack(), [-1, *shape[1:]])[:count]
  return tf.gather(outputs, tf.math.invert_permutation(order))


def _counting_first(count: tf.Tensor, weight: Any) -> tf.Tensor:
  """Returns the places of all queries, those that count before the others."""
  if weight is None:
    return tf.range(count)
  return tf.argsort(tf.cast(weight <= 0, tf.int32), stable=True)
