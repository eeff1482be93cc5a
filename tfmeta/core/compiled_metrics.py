"""The metrics that `compile` was given, and whether they fit a learner."""

from collections.abc import Iterator
import contextlib
from typing import Any
import warnings

import keras
import tensorflow as tf

from tfmeta.core import losses
from tfmeta.core.losses import Targets

# These classes of Keras take labels, or targets of any shape. All others
# compare each output with a target of its own.
_OF_LABELS = (
  keras.metrics.SparseCategoricalAccuracy,
  keras.metrics.SparseCategoricalCrossentropy,
  keras.metrics.SparseTopKCategoricalAccuracy,
)
_OF_ANY = (
  keras.metrics.IoU,
  keras.metrics.MeanIoU,
  keras.metrics.Mean,
  keras.metrics.MeanMetricWrapper,
  keras.metrics.Sum,
)

_OF_PROBABILITIES = (
  keras.metrics.AUC,
  keras.metrics.BinaryCrossentropy,
  keras.metrics.CategoricalCrossentropy,
  keras.metrics.SparseCategoricalCrossentropy,
)


def check(learner: Any, metrics: list[Any], targets: Any) -> None:
  """Checks that metrics of Keras take the targets of a learner.

  Some of them would otherwise compare labels with outputs of another shape and
  give a number that means nothing. Other metrics are not looked at.

  Args:
    learner: A compiled `MetaLearner`.
    metrics: The metrics of Keras and of the user, built.
    targets: A tensor or `tf.TensorSpec` with the shape and dtype of the query
      targets of a batch.

  Raises:
    ValueError: If a metric takes other targets than the loss.
  """
  # Keras chooses some metrics for the targets it sees. If the targets do not
  # fit the loss, the first step says so.
  if not _fits_loss(learner, targets):
    return
  labels = learner.target_kind is Targets.LABELS
  for metric in metrics:
    if labels and _compares_each_output(metric):
      advice = (
        "compares each output with a target of its own, but the learner has "
        "integer labels: use 'accuracy', or the Sparse... metric of Keras"
      )
    elif not labels and isinstance(metric, _OF_LABELS):
      advice = (
        "takes integer labels, but the inner loss takes "
        f"{learner.target_kind.value}: use a metric that takes these too"
      )
    else:
      continue
    raise ValueError(
      f"The metric {metric.name!r} {advice}. Received: "
      f"{type(metric).__name__} for outputs of shape "
      f"{learner.model.output_shape}"
    )


def _fits_loss(learner: Any, targets: Any) -> bool:
  known = learner.model.output_shape[1:]
  sizes = [
    size or (known[place] if place < len(known) else None) or 1
    for place, size in enumerate(targets.shape[2:])
  ]
  try:
    learner.checked_targets(
      "Query labels", tf.zeros([1, 1, *sizes], targets.dtype)
    )
  except ValueError:
    return False
  return True


def _compares_each_output(metric: Any) -> bool:
  of_keras = type(metric).__module__.partition(".")[0] == "keras"
  known = type(metric) in _OF_ANY or isinstance(metric, _OF_LABELS)
  return of_keras and not known


@contextlib.contextmanager
def named_errors(
  metric: Any, y: tf.Tensor, y_pred: tf.Tensor
) -> Iterator[None]:
  """Names the metric whose update fails.

  Args:
    metric: A metric, or the object that holds all metrics of `compile`.
    y: Targets, `[n, ...]`.
    y_pred: Outputs, `[n, ...]`.
  """
  try:
    yield
  except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
    parts = getattr(metric, "metrics", None) or [metric]
    failed = [part.name for part in parts if _fails(part, y, y_pred)]
    if not failed:
      raise
    raise ValueError(
      f"The metric {failed[0]!r} must take targets of shape {y.shape} for "
      f"outputs of shape {y_pred.shape}, the examples of all tasks together. "
      f"Received: {_first_line(error)}"
    ) from error


def _fails(metric: Any, y: tf.Tensor, y_pred: tf.Tensor) -> bool:
  try:
    with keras.StatelessScope():
      metric.update_state(y, y_pred)
  except Exception:  # Any error of a user's metric.
    return True
  return False


def _first_line(error: Exception) -> str:
  """Returns what TensorFlow says first, without the node of its graph."""
  return str(error).strip().partition("\n")[0].partition(" for '{{node")[0]


def warn(learner: Any, metrics: list[Any]) -> None:
  """Warns of metrics that say nothing about the outputs of a learner.

  Args:
    learner: A compiled `MetaLearner`.
    metrics: The metrics of Keras and of the user, built.
  """
  numbers = learner.target_kind is Targets.NUMBERS
  logits = not numbers and losses.takes_logits(learner.inner_loss)
  for metric in metrics:
    if numbers and "acc" in metric.name.split("_")[-1]:
      warnings.warn(
        f"The metric {metric.name!r} counts outputs that equal their targets, "
        "which says nothing about a regression: use 'mse' or 'mae'.",
        stacklevel=3,
      )
    elif logits and (argument := _for_logits(metric)):
      warnings.warn(
        f"The metric {metric.name!r} takes probabilities, but the outputs are "
        f"logits: use keras.metrics.{type(metric).__name__}({argument}).",
        stacklevel=3,
      )


def _for_logits(metric: Any) -> str:
  """Returns the argument with which a metric of Keras takes logits, or ""."""
  if isinstance(metric, keras.metrics.BinaryAccuracy):
    return "threshold=0.0" if getattr(metric, "threshold", 0) == 0.5 else ""
  if isinstance(metric, keras.metrics.Precision | keras.metrics.Recall):
    default = metric.thresholds == [0.5] and metric.top_k is None
    return "thresholds=0.0" if default else ""
  if isinstance(metric, _OF_PROBABILITIES):
    known = metric.get_config().get("from_logits")
    return "" if known else "from_logits=True"
  return ""
