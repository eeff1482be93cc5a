"""Whether predictions are as often right as they are confident."""

import keras
import tensorflow as tf

from tfmeta.metrics import predictions


def calibration_bins(
  labels: tf.Tensor, probabilities: tf.Tensor, *, bins: int = 15
) -> tf.Tensor:
  """Sorts predictions by confidence into bins of equal width.

  Confidence is the largest probability, and bin b of B holds the confidences
  in `(b / B, (b + 1) / B]`. The sums of two sets of examples add up to the
  sums of both together.

  Args:
    labels: `[n]` integers in `[0, W)`.
    probabilities: `[n, W]`, in `[0, 1]`.
    bins: Number of bins B. Default 15.

  Returns:
    `[B, 3]` float32: the number of examples in each bin, the sum of their
    confidences, and the number of them that are right.
  """
  confidence = tf.reduce_max(tf.cast(probabilities, tf.float32), axis=-1)
  found = tf.argmax(probabilities, axis=-1, output_type=tf.int64)
  right = tf.equal(found, tf.cast(labels, tf.int64))
  index = tf.cast(tf.math.ceil(confidence * bins), tf.int32) - 1
  index = tf.clip_by_value(index, 0, bins - 1)
  columns = [tf.ones_like(confidence), confidence, tf.cast(right, tf.float32)]
  member = tf.one_hot(index, bins, dtype=tf.float32)
  return tf.matmul(member, tf.stack(columns, axis=-1), transpose_a=True)


def expected_calibration_error(bins: tf.Tensor) -> tf.Tensor:
  """Mean distance between confidence and accuracy over bins of confidence.

  `sum{ n_b / n * |accuracy_b - confidence_b| : b }`. It is biased upward on
  few examples, so pool the queries of all tasks before taking it.

  Args:
    bins: `[..., B, 3]`, the sum over tasks of `calibration_bins`.

  Returns:
    `[...]` float in `[0, 1]`, of the type of `bins`.

  References:
    [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. On Calibration of Modern
        Neural Networks. ICML 2017. https://arxiv.org/abs/1706.04599
  """
  count, confidence, right = tf.unstack(bins, axis=-1)
  gap = tf.reduce_sum(tf.abs(right - confidence), axis=-1)
  return tf.math.divide_no_nan(gap, tf.reduce_sum(count, axis=-1))


@keras.saving.register_keras_serializable("tfmeta")
class ExpectedCalibrationError(keras.metrics.Metric):
  """Calibration error over all queries of an epoch, for `compile`.

  Args:
    bins: Integer >= 1. Bins of confidence, equally wide. Default 15.
    from_logits: Whether the model gives logits. Default `True`.
    name: As for any Keras metric, like `dtype`.
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
    if bins < 1:
      raise ValueError(f"There must be at least one bin. Received: bins={bins}")
    self.bins = bins
    self.from_logits = from_logits
    self.totals = self.add_weight(
      shape=(bins, 3), initializer="zeros", name="totals"
    )

  def update_state(self, y_true, y_pred, sample_weight=None) -> None:
    if sample_weight is not None:
      raise ValueError(
        "Calibration is over equally weighted examples. "
        f"Received: sample_weight={sample_weight}"
      )
    outputs = tf.reshape(y_pred, [-1, y_pred.shape[-1]])
    logs = predictions.log_probabilities(outputs, from_logits=self.from_logits)
    labels = tf.reshape(y_true, [-1])
    counted = calibration_bins(labels, tf.exp(logs), bins=self.bins)
    self.totals.assign_add(tf.cast(counted, self.totals.dtype))

  def result(self) -> tf.Tensor:
    return expected_calibration_error(tf.convert_to_tensor(self.totals))

  def get_config(self) -> dict:
    config = {"bins": self.bins, "from_logits": self.from_logits}
    return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("tfmeta")
class BrierScore(keras.metrics.Mean):
  """`brier_score` over all queries of an epoch, for `compile`.

  Args:
    from_logits: Whether the model gives logits. Default `True`.
    name: As for any Keras metric, like `dtype`.
  """

  def __init__(
    self, *, from_logits: bool = True, name: str = "brier_score", dtype=None
  ):
    super().__init__(name=name, dtype=dtype)
    self.from_logits = from_logits

  def update_state(self, y_true, y_pred, sample_weight=None) -> None:
    if sample_weight is not None:
      raise ValueError(
        "The Brier score is over equally weighted examples. "
        f"Received: sample_weight={sample_weight}"
      )
    outputs = tf.reshape(y_pred, [-1, y_pred.shape[-1]])
    logs = predictions.log_probabilities(outputs, from_logits=self.from_logits)
    labels = tf.reshape(y_true, [-1])
    score = predictions.brier_score(labels, tf.exp(logs))
    super().update_state(score, sample_weight=tf.size(labels))

  def get_config(self) -> dict:
    return {**super().get_config(), "from_logits": self.from_logits}
