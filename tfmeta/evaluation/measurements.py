"""What is measured of the outputs for the queries of one task."""

import math
from typing import Any

import tensorflow as tf

from tfmeta import metrics
from tfmeta.core import inputs as model_inputs
from tfmeta.core import losses
from tfmeta.core.losses import Targets


def of_outputs(
  learner: Any,
  targets: tf.Tensor,
  outputs: tf.Tensor,
  noise_stddev: float | None,
  weight: tf.Tensor | None,
) -> dict[str, tf.Tensor]:
  """Measures outputs for the queries of a task.

  Each pixel or time step with a label of its own counts like a query, and so
  does each of several binary labels.

  Args:
    learner: A `MetaLearner`.
    targets: Targets of the queries, `[Q, ...]`.
    outputs: Outputs for the queries, `[Q, ...]`.
    noise_stddev: Standard deviation of regression targets, or `None`.
    weight: Weights `[Q]`, or `None`: all queries count the same.

  Returns:
    Scalars by name; for classes also `bins`, `[B, 3]`, and for each label
    `confidence`, `right` and `counted`, `[n]`.
  """
  if not compares_outputs(learner, targets.shape[1:]):
    loss = losses.reduced_loss(
      learner.inner_loss, targets, outputs, weight=weight
    )
    return {"loss": tf.cast(loss, tf.float32)}
  if learner.target_kind is Targets.NUMBERS:
    measured = {
      "mse": metrics.mean_squared_error(targets, outputs, weight=weight)
    }
    if noise_stddev is not None:
      measured["nll"] = metrics.mixture_negative_log_likelihood(
        targets, outputs[tf.newaxis], tf.constant([noise_stddev]), weight=weight
      )
    return measured
  labels = _as_labels(learner.target_kind, targets)
  binary = learner.target_kind is Targets.BINARY
  outputs = tf.reshape(outputs, [-1, 1 if binary else outputs.shape[-1]])
  weight, counted = _of_labels(learner, labels, weight)
  labels = tf.where(counted, labels, tf.zeros_like(labels))
  from_logits = losses.takes_logits(learner.inner_loss)
  if binary:
    outputs = _of_two_classes(outputs, from_logits)
  logs = metrics.log_probabilities(outputs, from_logits=from_logits)
  best = tf.argmax(logs, -1)
  return {
    "accuracy": metrics.accuracy(labels, outputs, weight=weight),
    "nll": metrics.negative_log_likelihood(labels, logs, weight=weight),
    "brier": metrics.brier_score(labels, tf.exp(logs), weight=weight),
    "bins": metrics.calibration_bins(labels, tf.exp(logs), weight=weight),
    "confidence": _log_odds(logs),
    "right": tf.cast(tf.equal(best, tf.cast(labels, tf.int64)), tf.float32),
    "counted": tf.cast(counted, tf.float32),
  }


def compares_outputs(learner: Any, shape: Any) -> bool:
  """Returns whether each output has a target of its own, or a class label.

  Otherwise, a loss of the user takes a few numbers for several outputs, such as
  the mean and the variance of one number. Nothing but this loss is measured.

  Args:
    learner: A `MetaLearner`.
    shape: Shape of the targets, without the axes of tasks and examples.
  """
  if learner.target_kind is not Targets.NUMBERS:
    return True
  outputs = tf.TensorShape(learner.model.output_shape[1:])
  full = tf.TensorShape([*shape, 1]) if outputs[-1:] == [1] else shape
  return outputs.is_compatible_with(shape) or outputs.is_compatible_with(full)


def has_several_labels(learner: Any) -> bool:
  """Returns whether an example has several binary labels."""
  features = learner.model.output_shape[1:]
  return learner.target_kind is Targets.BINARY and features != (1,)


def _of_labels(
  learner: Any, labels: tf.Tensor, weight: tf.Tensor | None
) -> tuple[tf.Tensor | None, tf.Tensor]:
  """Returns the weights of flat labels, and which labels count.

  Args:
    learner: The learner, whose loss may leave out a class.
    labels: Class labels, `[n]`.
    weight: Weights of the queries, or `None`: all queries count the same.
  """
  kept = _not_ignored(learner, labels)
  if weight is not None:
    # Each pixel or time step has the weight of its query.
    of_labels = tf.repeat(weight, tf.size(labels) // tf.size(weight))
    return of_labels * tf.cast(kept, of_labels.dtype), kept & (of_labels > 0)
  if losses.ignored_class(learner.inner_loss) is None:
    return None, kept
  return tf.cast(kept, tf.float32), kept


def count_classes(learner: Any, targets: tf.Tensor) -> list[tf.Tensor]:
  """Returns how many classes a support set holds, and whether it is balanced.

  It is balanced (1, else 0) if each example has one label, and all classes have
  equally many examples.
  """
  labels = _as_labels(learner.target_kind, targets)
  kept = tf.boolean_mask(labels, _not_ignored(learner, labels))
  counts = tf.unique_with_counts(kept).count
  classes = tf.size(counts)
  examples = tf.shape(targets)[0]
  balanced = tf.reduce_all(counts * classes == examples)
  return [classes, tf.cast(balanced, tf.int32)]


def _not_ignored(learner: Any, labels: tf.Tensor) -> tf.Tensor:
  """Returns which labels are not of the class that the loss leaves out."""
  ignored = losses.ignored_class(learner.inner_loss)
  if ignored is None:
    return tf.ones_like(labels, tf.bool)
  return labels != ignored


def count_examples(x: Any, weight: tf.Tensor | None) -> tf.Tensor:
  """Returns the number of examples whose weight is not 0."""
  if weight is None:
    return model_inputs.count_of(x)
  return tf.math.count_nonzero(weight, dtype=tf.int32)


def _as_labels(kind: Targets, targets: tf.Tensor) -> tf.Tensor:
  """Returns integer class labels `[n]` for targets of any kind of classes."""
  if kind is Targets.ONE_HOT:
    targets = tf.argmax(targets, axis=-1, output_type=tf.int32)
  if kind is Targets.BINARY:
    targets = tf.cast(tf.round(targets), tf.int32)
  return tf.reshape(targets, [-1])


def _of_two_classes(outputs: tf.Tensor, from_logits: bool) -> tf.Tensor:
  """Returns outputs `[n, 2]` that mean the same as binary outputs `[n, 1]`."""
  other = tf.zeros_like(outputs) if from_logits else 1 - outputs
  return tf.concat([other, outputs], axis=-1)


def _log_odds(logs: tf.Tensor) -> tf.Tensor:
  """Returns the log-odds of the likeliest class.

  They rank predictions even where the probability rounds to 1.
  """
  best = tf.one_hot(tf.argmax(logs, -1), tf.shape(logs)[-1], True, False)
  others = tf.where(best, tf.constant(-math.inf, logs.dtype), logs)
  return tf.reduce_max(logs, -1) - tf.reduce_logsumexp(others, -1)
