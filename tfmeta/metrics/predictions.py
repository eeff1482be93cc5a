"""How good the predictions for one task are.

The functions take one task, or one pool of examples, without a task axis.
"""

import math

import keras
import tensorflow as tf


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


def brier_score(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
  """Mean over examples of the squared distance from the right answer [1].

  `sum{ (p_c - [c is the label])**2 : c }`: 0 for certain and right, 2 for
  certain and wrong, `(W - 1) / W` for a uniform prediction.

  Args:
    labels: `[n]` integers in `[0, W)`.
    probabilities: `[n, W]`, in `[0, 1]`.

  Returns:
    Float32 scalar.

  References:
    [1] G. Brier. Verification of forecasts expressed in terms of probability.
        Monthly Weather Review 78, 1950.
  """
  probabilities = tf.cast(probabilities, tf.float32)
  right = tf.one_hot(labels, probabilities.shape[-1])
  squares = tf.math.squared_difference(probabilities, right)
  return tf.reduce_mean(tf.reduce_sum(squares, axis=-1))


def mixture_negative_log_likelihood(
  targets: tf.Tensor, outputs: tf.Tensor, stddevs: tf.Tensor
) -> tf.Tensor:
  """Mean over examples of `-log p(target)` under a mixture of Gaussians.

  Args:
    targets: `[n, ...]` numbers.
    outputs: `[M, n, ...]`, the means: one Gaussian for each of M draws.
    stddevs: `[M]`, their standard deviations.

  Returns:
    Float32 scalar, in nats; the axes of one target are independent.
  """
  targets = tf.cast(targets, tf.float32)
  outputs = tf.cast(outputs, tf.float32)
  rank = outputs.shape.rank
  stddevs = tf.reshape(tf.cast(stddevs, tf.float32), [-1, *[1] * (rank - 1)])
  logs = -0.5 * tf.square((targets - outputs) / stddevs)
  logs -= tf.math.log(stddevs) + 0.5 * math.log(2 * math.pi)
  logs = tf.reduce_sum(logs, axis=list(range(2, rank)))
  count = tf.cast(tf.shape(logs)[0], tf.float32)
  return -tf.reduce_mean(tf.reduce_logsumexp(logs, axis=0) - tf.math.log(count))


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
