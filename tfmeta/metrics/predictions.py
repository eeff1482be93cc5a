"""Quality of the predictions for one task.

The functions take the examples of one task, or of several tasks put together,
without a task axis.
"""

import math
from typing import Any

import keras
import tensorflow as tf


def accuracy(
  labels: tf.Tensor, outputs: tf.Tensor, *, weight: Any = None
) -> tf.Tensor:
  """Computes the share of examples whose largest output is at their label.

  Args:
    labels: `[n]` integers in `[0, W)`.
    outputs: `[n, W]` logits or probabilities. If outputs are equal, the first
      one counts as the largest.
    weight: Weights `[n]` of the examples. Defaults to `None`: all examples
      count the same.

  Returns:
    Float32 scalar in `[0, 1]`.
  """
  found = tf.argmax(outputs, axis=-1, output_type=tf.int64)
  right = tf.equal(found, tf.cast(labels, tf.int64))
  return _mean(tf.cast(right, tf.float32), weight)


def mean_squared_error(
  targets: tf.Tensor, outputs: tf.Tensor, *, weight: Any = None
) -> tf.Tensor:
  """Computes the mean of `(output - target)**2` over all axes.

  Args:
    targets: `[n, ...]` numbers.
    outputs: `[n, ...]` numbers, of the same shape.
    weight: Weights `[n]` of the examples. Defaults to `None`: all examples
      count the same.

  Returns:
    Float32 scalar.

  Raises:
    ValueError: If the shapes differ. Broadcasting `[n]` against `[n, 1]` would
      compare each target with all outputs.
  """
  targets = tf.cast(targets, tf.float32)
  outputs = tf.cast(outputs, tf.float32)
  if not targets.shape.is_compatible_with(outputs.shape):
    raise ValueError(
      "`targets` and `outputs` must have the same shape. "
      f"Received: targets.shape={targets.shape}, outputs.shape={outputs.shape}"
    )
  return _mean(tf.math.squared_difference(targets, outputs), weight)


def log_probabilities(
  outputs: tf.Tensor,
  *,
  from_logits: bool = True,
  sample_axis: int | None = None,
) -> tf.Tensor:
  """Computes the logarithms of the predicted class probabilities.

  Args:
    outputs: `[..., W]` logits or, with `from_logits=False`, probabilities.
      Probabilities are divided by their sum, as Keras's cross-entropy does.
    from_logits: Whether `outputs` are logits. Defaults to `True`.
    sample_axis: Axis of the samples of a probabilistic learner. If it is set,
      the result is the logarithm of the mean probability (log-mean-exp), which
      is never below the mean of the logarithms. Defaults to `None`.

  Returns:
    `[..., W]` float32, without `sample_axis`.
  """
  outputs = tf.cast(outputs, tf.float32)
  if from_logits:
    logs = tf.nn.log_softmax(outputs, axis=-1)
  else:
    total = tf.reduce_sum(outputs, axis=-1, keepdims=True)
    # Keras clips in the same way: the loss of a probability of 0 is infinite.
    epsilon = keras.config.epsilon()
    logs = tf.math.log(tf.clip_by_value(outputs / total, epsilon, 1 - epsilon))
  if sample_axis is None:
    return logs
  samples = tf.cast(tf.shape(logs)[sample_axis], tf.float32)
  return tf.reduce_logsumexp(logs, axis=sample_axis) - tf.math.log(samples)


def negative_log_likelihood(
  labels: tf.Tensor, log_probabilities: tf.Tensor, *, weight: Any = None
) -> tf.Tensor:
  """Computes the mean of `-log p(label)` over examples, in nats.

  Args:
    labels: `[n]` integers in `[0, W)`.
    log_probabilities: `[n, W]` from `log_probabilities`.
    weight: Weights `[n]` of the examples. Defaults to `None`: all examples
      count the same.

  Returns:
    Float32 scalar; `log(W)` for a uniform prediction.
  """
  labels = tf.cast(labels, tf.int32)
  return -_mean(tf.gather(log_probabilities, labels, batch_dims=1), weight)


def brier_score(
  labels: tf.Tensor, probabilities: tf.Tensor, *, weight: Any = None
) -> tf.Tensor:
  """Computes the Brier score [1], a mean over examples.

  The score of an example is `sum over c of (p_c - [c is the label])**2`. It is
  0 for a certain and right prediction, 2 for a certain and wrong one, and
  `(W - 1) / W` for a uniform one.

  Args:
    labels: `[n]` integers in `[0, W)`.
    probabilities: `[n, W]` probabilities.
    weight: Weights `[n]` of the examples. Defaults to `None`: all examples
      count the same.

  Returns:
    Float32 scalar in `[0, 2]`.

  References:
    [1] G. Brier. Verification of forecasts expressed in terms of probability.
        Monthly Weather Review 78, 1950.
  """
  probabilities = tf.cast(probabilities, tf.float32)
  right = tf.one_hot(labels, probabilities.shape[-1])
  squares = tf.math.squared_difference(probabilities, right)
  return _mean(tf.reduce_sum(squares, axis=-1), weight)


def mixture_negative_log_likelihood(
  targets: tf.Tensor,
  outputs: tf.Tensor,
  stddevs: tf.Tensor,
  *,
  weight: Any = None,
) -> tf.Tensor:
  """Computes the mean of `-log p(target)` under mixtures of Gaussians.

  Each example has a mixture of its own, with equal weights: one Gaussian for
  each sample of a probabilistic learner. The numbers of one target are
  independent under each Gaussian.

  Args:
    targets: `[n, ...]` numbers.
    outputs: `[M, n, ...]`, the means of the Gaussians of M samples.
    stddevs: `[M]`, their standard deviations.
    weight: Weights `[n]` of the examples. Defaults to `None`: all examples
      count the same.

  Returns:
    Float32 scalar, in nats.
  """
  targets = tf.cast(targets, tf.float32)
  outputs = tf.cast(outputs, tf.float32)
  rank = outputs.shape.rank
  stddevs = tf.reshape(tf.cast(stddevs, tf.float32), [-1, *[1] * (rank - 1)])
  logs = -0.5 * tf.square((targets - outputs) / stddevs)
  logs -= tf.math.log(stddevs) + 0.5 * math.log(2 * math.pi)
  # Sums over the numbers of a target come before the mean over samples: one
  # Gaussian explains a whole target.
  logs = tf.reduce_sum(logs, axis=list(range(2, rank)))
  count = tf.cast(tf.shape(logs)[0], tf.float32)
  return -_mean(tf.reduce_logsumexp(logs, axis=0) - tf.math.log(count), weight)


def _mean(values: tf.Tensor, weight: Any) -> tf.Tensor:
  """Returns the mean of `values`, `[n, ...]`, each weighted by its example."""
  if weight is None:
    return tf.reduce_mean(values)
  further = [1] * (values.shape.rank - 1)
  weight = tf.cast(tf.reshape(weight, [-1, *further]), values.dtype)
  size = tf.reduce_sum(weight * tf.ones_like(values))
  return tf.math.divide_no_nan(tf.reduce_sum(weight * values), size)


def nearest_neighbour(
  support_x: tf.Tensor, support_y: tf.Tensor, query_x: tf.Tensor
) -> tf.Tensor:
  """Returns the labels of the support examples nearest to the queries.

  This is a baseline without learning. Distances are Euclidean distances between
  raw inputs. If several examples are equally near, the first one counts.

  Args:
    support_x: `[S, ...]` numbers.
    support_y: `[S]` labels.
    query_x: `[Q, ...]` numbers.

  Returns:
    `[Q]` labels, of the dtype of `support_y`.
  """
  support_x, query_x = (
    tf.reshape(tf.cast(x, tf.float32), [tf.shape(x)[0], -1])
    for x in (support_x, query_x)
  )
  # Inputs far from zero have large squares, whose differences would be lost in
  # float32.
  center = tf.reduce_mean(support_x, axis=0)
  support_x, query_x = support_x - center, query_x - center
  # |s - q|**2 = |s|**2 - 2 s.q + |q|**2, and |q|**2 is the same for every s.
  squares = tf.reduce_sum(support_x**2, axis=-1)
  products = tf.matmul(query_x, support_x, transpose_b=True)
  nearest = tf.argmin(squares - 2 * products, axis=-1)
  return tf.gather(support_y, nearest)
