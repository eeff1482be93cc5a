"""Calibration: whether predictions are right as often as they are confident."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.metrics import predictions


def calibration_bins(
  labels: tf.Tensor,
  probabilities: tf.Tensor,
  *,
  bins: int = 15,
  weight: Any = None,
) -> tf.Tensor:
  """Counts predictions in bins of equal width, by their confidence.

  The confidence of a prediction is its largest probability. Bin b of B holds
  the confidences in `(b / B, (b + 1) / B]`. The bins of several tasks may be
  added; the sum holds the bins of all their examples.

  Args:
    labels: `[n]` integers in `[0, W)`.
    probabilities: `[n, W]` probabilities.
    bins: Integer >= 1, the number of bins B. Defaults to 15.
    weight: Weights `[n]`, with which examples are counted. Defaults to `None`:
      each example counts once.

  Returns:
    `[B, 3]` float32: for each bin the number of examples, the sum of their
    confidences, and the number of right predictions.
  """
  confidence = tf.reduce_max(tf.cast(probabilities, tf.float32), axis=-1)
  found = tf.argmax(probabilities, axis=-1, output_type=tf.int64)
  right = tf.equal(found, tf.cast(labels, tf.int64))
  # The upper bound belongs to a bin, so the index is rounded up and shifted.
  # Clipping moves a confidence of 0 into the first bin.
  index = tf.cast(tf.math.ceil(confidence * bins), tf.int32) - 1
  index = tf.clip_by_value(index, 0, bins - 1)
  columns = [tf.ones_like(confidence), confidence, tf.cast(right, tf.float32)]
  # A product with the one-hot bins sums each column over the examples of a bin.
  member = tf.one_hot(index, bins, dtype=tf.float32)
  if weight is not None:
    member *= tf.cast(weight, tf.float32)[:, tf.newaxis]
  return tf.matmul(member, tf.stack(columns, axis=-1), transpose_a=True)


def expected_calibration_error(bins: tf.Tensor) -> tf.Tensor:
  """Computes the expected calibration error (ECE) [1].

  It is the mean distance between accuracy and confidence over the bins, each
  weighted by its examples: `sum over b of n_b / n * |accuracy_b -
  confidence_b|`. It is biased upward when there are few examples, so add up the
  bins of all tasks first.

  Args:
    bins: `[..., B, 3]`, the sum over tasks of `calibration_bins`.

  Returns:
    `[...]` float in `[0, 1]`, of the dtype of `bins`; 0 without examples.

  References:
    [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. On Calibration of Modern
        Neural Networks. ICML 2017. https://arxiv.org/abs/1706.04599
  """
  count, confidence, right = tf.unstack(bins, axis=-1)
  # Sums in place of means: the weight n_b / n cancels the division by n_b.
  gap = tf.reduce_sum(tf.abs(right - confidence), axis=-1)
  return tf.math.divide_no_nan(gap, tf.reduce_sum(count, axis=-1))


def _flat(weight: Any) -> tf.Tensor | None:
  return None if weight is None else tf.reshape(weight, [-1])


@keras.saving.register_keras_serializable("tfmeta")
class ExpectedCalibrationError(keras.metrics.Metric):
  """Metric for `compile`: calibration error over all queries of an epoch.

  Args:
    bins: Integer >= 1, the number of equally wide bins of confidence. Defaults
      to 15.
    from_logits: Whether the model outputs logits. Defaults to `True`.
    name: Name of the metric in the logs.
    dtype: Dtype of the metric. Defaults to Keras's global dtype.

  Raises:
    ValueError: If `bins` is not an integer of at least 1.
  """

  def __init__(
    self,
    *,
    bins: int = 15,
    from_logits: bool = True,
    name: str = "expected_calibration_error",
    dtype=None,
  ):
    super().__init__(name=name, dtype=dtype)
    self.bins = arguments.check_integer("bins", bins, least=1)
    self.from_logits = from_logits
    self.totals = self.add_weight(
      shape=(bins, 3), initializer="zeros", name="totals"
    )

  def update_state(self, y_true, y_pred, sample_weight=None) -> None:
    outputs = tf.reshape(y_pred, [-1, y_pred.shape[-1]])
    logs = predictions.log_probabilities(outputs, from_logits=self.from_logits)
    labels = tf.reshape(y_true, [-1])
    counted = calibration_bins(
      labels, tf.exp(logs), bins=self.bins, weight=_flat(sample_weight)
    )
    self.totals.assign_add(tf.cast(counted, self.totals.dtype))

  def result(self) -> tf.Tensor:
    return expected_calibration_error(tf.convert_to_tensor(self.totals))

  def get_config(self) -> dict:
    config = {"bins": self.bins, "from_logits": self.from_logits}
    return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("tfmeta")
class BrierScore(keras.metrics.Mean):
  """Metric for `compile`: mean `brier_score` over all queries of an epoch.

  Args:
    from_logits: Whether the model outputs logits. Defaults to `True`.
    name: Name of the metric in the logs.
    dtype: Dtype of the metric. Defaults to Keras's global dtype.
  """

  def __init__(
    self, *, from_logits: bool = True, name: str = "brier_score", dtype=None
  ):
    super().__init__(name=name, dtype=dtype)
    self.from_logits = from_logits

  def update_state(self, y_true, y_pred, sample_weight=None) -> None:
    outputs = tf.reshape(y_pred, [-1, y_pred.shape[-1]])
    logs = predictions.log_probabilities(outputs, from_logits=self.from_logits)
    labels = tf.reshape(y_true, [-1])
    weight = _flat(sample_weight)
    score = predictions.brier_score(labels, tf.exp(logs), weight=weight)
    # The score is a mean over a batch, so the weight of a batch is its size.
    size = tf.size(labels) if weight is None else tf.reduce_sum(weight)
    super().update_state(score, sample_weight=size)

  def get_config(self) -> dict:
    return {**super().get_config(), "from_logits": self.from_logits}
