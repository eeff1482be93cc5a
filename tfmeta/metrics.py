"""What is measured on tasks: accuracy, error, likelihood and calibration.

The functions take one task, or one pool of examples, without a task axis.
"""

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf


def mean_and_interval(
  values: npt.ArrayLike, *, axis: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Mean over tasks and the half-width of its 95 % confidence interval.

  The half-width is `1.96 * s / sqrt(n)`, with the sample standard deviation s
  (ddof = 1) of the n per-task values: how far another draw of tasks might move
  the mean, and nothing of how far another training run would.

  Args:
    values: One number per task, `[..., n, ...]`.
    axis: The axis of the tasks. Default 0.

  Returns:
    Mean and half-width, float64, of the shape of `values` without `axis`. The
    half-width of a single task is NaN; no task at all is a `ValueError`.
  """
  values = np.asarray(values, dtype="float64")
  tasks = values.shape[axis] if values.ndim else 0
  if not tasks:
    raise ValueError(
      "A mean over tasks needs at least one task. "
      f"Received: values of shape {values.shape}"
    )
  mean = values.mean(axis=axis)
  if tasks == 1:
    return mean, np.full_like(mean, np.nan)
  deviation = values.std(axis=axis, ddof=1)
  return mean, 1.96 * deviation / np.sqrt(tasks)


def accuracy(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
  """Share of examples whose largest output is at their label.

  Args:
    labels: `[n]` integers in `[0, W)`.
    outputs: `[n, W]` logits or probabilities; the first of equals counts.

  Returns:
    Float32 scalar in `[0, 1]`.
  """
  found = tf.argmax(outputs, axis=-1, output_type=tf.int64)
  return tf.reduce_mean(
    tf.cast(tf.equal(found, tf.cast(labels, tf.int64)), tf.float32)
  )


def mean_squared_error(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
  """Mean over examples and output axes of `(output - target)**2`.

  Args:
    targets: `[n, ...]` numbers.
    outputs: `[n, ...]` numbers of the same shape, else it is an error: `[n]`
      broadcast against `[n, 1]` would compare each with all.

  Returns:
    Float32 scalar.
  """
  targets = tf.cast(targets, tf.float32)
  outputs = tf.cast(outputs, tf.float32)
  if not targets.shape.is_compatible_with(outputs.shape):
    raise ValueError(
      "`targets` and `outputs` must have the same shape. "
      f"Received: targets.shape={targets.shape}, outputs.shape={outputs.shape}"
    )
  return tf.reduce_mean(tf.math.squared_difference(targets, outputs))


def log_probabilities(
  outputs: tf.Tensor,
  *,
  from_logits: bool = True,
  sample_axis: int | None = None,
) -> tf.Tensor:
  """Log of the predicted class probabilities, averaged over samples if any.

  Args:
    outputs: `[..., W]` logits, or probabilities with `from_logits=False`,
      which are divided by their sum as Keras's cross-entropy does.
    from_logits: Whether `outputs` are logits. Default `True`.
    sample_axis: Axis of the draws of a probabilistic learner, or `None`. The
      result is then the log of their mean probability (log-mean-exp), which
      is never below the mean of their logs.

  Returns:
    `[..., W]` float32, without `sample_axis`.
  """
  outputs = tf.cast(outputs, tf.float32)
  if from_logits:
    logs = tf.nn.log_softmax(outputs, axis=-1)
  else:
    total = tf.reduce_sum(outputs, axis=-1, keepdims=True)
    epsilon = keras.config.epsilon()
    logs = tf.math.log(tf.clip_by_value(outputs / total, epsilon, 1 - epsilon))
  if sample_axis is None:
    return logs
  samples = tf.cast(tf.shape(logs)[sample_axis], tf.float32)
  return tf.reduce_logsumexp(logs, axis=sample_axis) - tf.math.log(samples)


def negative_log_likelihood(
  labels: tf.Tensor, log_probabilities: tf.Tensor
) -> tf.Tensor:
  """Mean over examples of `-log p(label)`, in nats.

  Args:
    labels: `[n]` integers in `[0, W)`.
    log_probabilities: `[n, W]`, from the function of that name.

  Returns:
    Float32 scalar; `log(W)` for a uniform prediction.
  """
  labels = tf.cast(labels, tf.int32)
  return -tf.reduce_mean(tf.gather(log_probabilities, labels, batch_dims=1))


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


def nearest_neighbour(
  support_x: tf.Tensor, support_y: tf.Tensor, query_x: tf.Tensor
) -> tf.Tensor:
  """Labels of the support examples nearest to the queries, pixel by pixel.

  A baseline without learning: Euclidean distance between raw inputs; the first
  of equally near examples counts.

  Args:
    support_x: `[S, ...]` numbers.
    support_y: `[S]` labels.
    query_x: `[Q, ...]` numbers.

  Returns:
    `[Q]`, of the type of `support_y`.
  """
  support_x, query_x = (
    tf.reshape(tf.cast(x, tf.float32), [tf.shape(x)[0], -1])
    for x in (support_x, query_x)
  )
  # Centred, so that the squares below do not swamp their differences.
  centre = tf.reduce_mean(support_x, axis=0)
  support_x, query_x = support_x - centre, query_x - centre
  squares = tf.reduce_sum(support_x**2, axis=-1)
  products = tf.matmul(query_x, support_x, transpose_b=True)
  nearest = tf.argmin(squares - 2 * products, axis=-1)
  return tf.gather(support_y, nearest)


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
    logs = log_probabilities(outputs, from_logits=self.from_logits)
    labels = tf.reshape(y_true, [-1])
    counted = calibration_bins(labels, tf.exp(logs), bins=self.bins)
    self.totals.assign_add(tf.cast(counted, self.totals.dtype))

  def result(self) -> tf.Tensor:
    return expected_calibration_error(tf.convert_to_tensor(self.totals))

  def get_config(self) -> dict:
    config = {"bins": self.bins, "from_logits": self.from_logits}
    return {**super().get_config(), **config}
