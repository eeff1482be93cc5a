"""Checks of values, which a graph makes when it runs.

In eager mode, a wrong value is a `ValueError`. A graph stops with a
`tf.errors.InvalidArgumentError` of the same sentence. XLA does not run these
checks.
"""

from typing import Any

import tensorflow as tf

from tfmeta import arguments
from tfmeta.core.losses import Targets


def finite_if_eager(name: str, x: tf.Tensor) -> None:
  """Checks that floats are finite; a graph skips this check."""
  if tf.executing_eagerly():
    finite(name, x)


def finite(name: str, x: tf.Tensor) -> tf.Tensor:
  """Returns a tensor after checking that floats are finite.

  Raises:
    ValueError: If a number is NaN or infinite, in eager mode. A graph raises
      `tf.errors.InvalidArgumentError` with the same sentence.
  """
  if not x.dtype.is_floating:
    return x
  right = tf.reduce_all(tf.math.is_finite(x))
  message = f"{name} must be finite. Received: NaN or inf"
  if not tf.executing_eagerly():
    return _after(x, right, [message])
  if not bool(right):
    raise ValueError(message)
  return x


def sizes(
  support_y: tf.Tensor, support_x: Any, query_x: Any = None
) -> tf.Tensor:
  """Returns the targets of support sets after checking sizes that vary.

  Args:
    support_y: Targets, `[S, ...]`, or `[T, S, ...]` with `query_x`.
    support_x: Support examples, or a structure of them.
    query_x: Queries of a batch of tasks, `[T, Q, ...]`, or a structure of them.
      Defaults to `None`: there is a single task.

  Raises:
    ValueError: If there is not one target for each support example, or none at
      all, or not one query set for each support set, in eager mode. A graph
      raises `tf.errors.InvalidArgumentError` with the same sentence.
  """
  axes = 1 if query_x is None else 2
  found = [tf.shape(support_y)[:axes]]
  for x in tf.nest.flatten((support_x, query_x)):
    found += [] if x is None else [tf.shape(x)[:axes]]
  count = 1 + len(tf.nest.flatten(support_x))
  same = [tf.reduce_all(size == found[0]) for size in found[1:count]]
  same += [size[0] == found[0][0] for size in found[count:]]
  right = tf.reduce_all([*same, found[0][-1] > 0])
  expected = (
    "There must be one target for each support example, at least one example, "
    "and one query set for each support set."
  )
  if not tf.executing_eagerly():
    return _after(support_y, right, [expected, "Received: sizes", *found])
  if not bool(right):
    shown = ", ".join(str(tuple(size.numpy())) for size in found)
    raise ValueError(f"{expected} Received: sizes {shown}")
  return support_y


def labels_in_range(
  name: str, labels: tf.Tensor, ways: int, *, ignored: int | None = None
) -> tf.Tensor:
  """Returns labels after checking that they lie in `[0, ways)`.

  Args:
    name: Name of the labels, for the message.
    labels: Integers.
    ways: Number of outputs of the model.
    ignored: Label that may be out of range. Defaults to `None`.

  Raises:
    ValueError: If a label is out of range, in eager mode. A graph raises
      `tf.errors.InvalidArgumentError` with the same sentence. XLA does not run
      the check.
  """
  counted = labels
  if ignored is not None:
    counted = tf.where(labels == ignored, tf.zeros_like(labels), labels)
  expected = (
    f"{name} must be integers from 0 to {ways - 1}, because the model has "
    f"{arguments.counted(ways, 'output', 'outputs')}."
  )
  return in_range(labels, counted, 0, ways - 1, expected)


def probabilities(name: str, targets: tf.Tensor, kind: Targets) -> tf.Tensor:
  """Returns targets after checking that they lie in [0, 1]."""
  expected = (
    f"{name} must be between 0 and 1, because the loss takes {kind.value}."
  )
  return in_range(targets, targets, 0, 1, expected)


def in_range(
  values: tf.Tensor, counted: tf.Tensor, least: int, most: int, expected: str
) -> tf.Tensor:
  """Returns `values` after checking the range of those that count."""
  lowest, highest = tf.reduce_min(counted), tf.reduce_max(counted)
  right = (lowest >= least) & (highest <= most)
  # There may be no values, whose extremes would be infinite.
  right |= tf.equal(tf.size(counted), 0)
  if not tf.executing_eagerly():
    return _after(values, right, [expected, "Received:", lowest, "to", highest])
  if not bool(right):
    raise ValueError(
      f"{expected} Received: {lowest.numpy()} to {highest.numpy()}"
    )
  return values


def _after(
  values: tf.Tensor, right: tf.Tensor, message: list[Any]
) -> tf.Tensor:
  """Returns `values` in a graph that stops with `message` unless `right`."""
  with tf.control_dependencies([tf.debugging.Assert(right, message)]):
    return tf.identity(values)
