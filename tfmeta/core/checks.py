"""What can be wrong with tasks and their tensors, each in one sentence."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

KEYS = ("support_x", "support_y", "query_x")


def check_inputs(
  inputs: Any, *, leading: int = 1, rank: int | None = None
) -> None:
  """Checks the keys and static shapes of a batch of tasks.

  Args:
    inputs: Mapping with `support_x`, `support_y`, `query_x`.
    leading: Axes before the examples: 1 for a batch of tasks, 0 for one task.
    rank: Axes of the model's input; single tasks have as many, batches more.

  Raises:
    ValueError: If a key is missing or the shapes do not fit each other.
  """
  if not isinstance(inputs, Mapping) or not set(KEYS) <= set(inputs):
    keys = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs)
    raise ValueError(
      f"Inputs must be a dict with the keys {', '.join(KEYS)}: batches of "
      f"tasks, as tfmeta.data makes them. Received: {keys}"
    )
  support_x, support_y, query_x = (inputs[key] for key in KEYS)
  if rank is not None and support_x.shape.rank == rank:
    raise ValueError(
      "Tasks must come in batches: use .batch(n). Received: single tasks, with "
      f"support_x of shape {support_x.shape}"
    )
  check_features(support_x.shape, query_x.shape, leading=leading)
  check_rows(support_x.shape, support_y.shape, leading=leading)


def check_features(support: Any, query: Any, *, leading: int) -> None:
  """Checks that support and query examples have one feature shape."""
  same_rank = support.rank == query.rank
  after = leading + 1
  if same_rank and support[after:].is_compatible_with(query[after:]):
    return
  raise ValueError(
    "support_x and query_x must hold examples of the same shape, and as many "
    f"leading axes. Received: support_x {support}, query_x {query}"
  )


def check_fits(name: str, shape: Any, expected: Any, *, leading: int) -> None:
  """Checks that examples have the shape that the model takes."""
  features = shape[leading + 1 :] if shape.rank is not None else shape
  if features.is_compatible_with(tf.TensorShape(expected)):
    return
  axes = "[S, ...]" if leading == 0 else "[T, S, ...]"
  raise ValueError(
    f"{name} must be {axes} with examples of the shape {tuple(expected)} that "
    f"the model takes. Received: {name} of shape {shape}"
  )


def check_rows(support_x: Any, support_y: Any, *, leading: int) -> None:
  """Checks that there is one target for each support example."""
  rows = leading + 1
  if (
    support_x.rank is not None
    and support_y.rank is not None
    and support_y.rank >= rows
    and support_x[:rows].is_compatible_with(support_y[:rows])
    and support_x[leading] != 0
  ):
    return
  raise ValueError(
    "A support set must hold at least one example, and support_y one target "
    "for each example of support_x. "
    f"Received: support_x {support_x}, support_y {support_y}"
  )


def check_finite(name: str, x: tf.Tensor) -> None:
  """Checks, where values are at hand, that floats are finite."""
  if not tf.executing_eagerly() or not x.dtype.is_floating:
    return
  if not bool(tf.reduce_all(tf.math.is_finite(x))):
    raise ValueError(f"{name} must be finite. Received: NaN or inf in {name}")


def check_fit(weights: Any, loss: Any) -> None:
  """Checks that neither weights of examples nor a loss came through Keras."""
  if weights is not None:
    raise ValueError(
      "Tasks all count the same: learners take no `sample_weight` and no "
      "`class_weight`. Received: sample weights"
    )
  if loss is not None:
    raise ValueError(
      "A learner is trained on its `inner_loss`: give that to the "
      "constructor, and no `loss` to `compile`. Received: a compiled loss"
    )


def checked_targets(
  name: str, targets: tf.Tensor, outputs: Any, *, classes: bool, leading: int
) -> tf.Tensor:
  """Returns `targets` once they have been seen to fit loss and outputs.

  Args:
    name: What they are, for the message.
    targets: `[..., n]` labels, or whatever the loss takes.
    outputs: Shape `(None, ..., W)` of the model's outputs.
    classes: Whether the loss takes labels of classes.
    leading: Axes before the examples: 1 for a batch of tasks, 0 for one task.
  """
  axes = len(outputs) - 1 + leading
  integers = targets.dtype.is_integer
  if classes:
    right = integers and targets.shape.rank in (None, axes)
  else:
    right = integers or targets.dtype.is_floating
  if right:
    return checked_labels(name, targets, outputs[-1]) if integers else targets
  kind = f"integers from 0 to {outputs[-1] - 1}" if classes else "numbers"
  where = f", with {axes} axes" if classes else ""
  raise ValueError(
    f"{name} must be {kind}{where}, for this loss and outputs of shape "
    f"{outputs}. Received: {targets.dtype.name} of shape {targets.shape}"
  )


def checked_labels(name: str, labels: tf.Tensor, ways: int) -> tf.Tensor:
  """Returns `labels` once they have been seen to lie in `[0, ways)`.

  Raises:
    ValueError: In eager mode. A graph raises `tf.errors.InvalidArgumentError`
      with the same sentence; under XLA nothing is checked.
  """
  lowest, highest = tf.reduce_min(labels), tf.reduce_max(labels)
  right = (lowest >= 0) & (highest < ways)
  expected = (
    f"{name} must be integers from 0 to {ways - 1}, because the model has "
    f"{ways} outputs."
  )
  if not tf.executing_eagerly():
    return _after(labels, right, [expected, "Received:", lowest, "to", highest])
  if not bool(right):
    raise ValueError(f"{expected} Received: {int(lowest)} to {int(highest)}")
  return labels


def checked_ways(labels: tf.Tensor, ways: int) -> tf.Tensor:
  """Returns `labels` once each task has been seen to hold all of `ways`.

  Args:
    labels: Integers `[..., S]`, the support labels of tasks.
    ways: Number of outputs of the model.
  """
  in_range = tf.reduce_all((labels >= 0) & (labels < ways))
  present = tf.reduce_any(tf.one_hot(labels, ways) > 0, axis=-2)
  message = (
    f"Each support set must hold examples of exactly {ways} classes, the ways "
    f"this learner was trained with, labelled 0 to {ways - 1}. Received labels:"
  )
  right = in_range & tf.reduce_all(present)
  return _after(labels, right, [message, labels])


def _after(
  labels: tf.Tensor, right: tf.Tensor, message: list[Any]
) -> tf.Tensor:
  with tf.control_dependencies([tf.debugging.Assert(right, message)]):
    return tf.identity(labels)
