"""One prediction out of many draws."""

from typing import Any

import tensorflow as tf

from tfmeta.core import functional


def mean_prediction(outputs: tf.Tensor, loss: Any) -> tf.Tensor:
  """What all draws predict together: the mean probability, or the mean.

  Args:
    outputs: `[M, n, ...]`, the outputs of each draw.
    loss: The loss they are trained with. If it takes labels and logits, the
      result is the logarithm of the mean probability, which is a logit again.

  Returns:
    `[n, ...]` of the type of `outputs`.
  """
  if not (functional.takes_labels(loss) and from_logits(loss)):
    return tf.reduce_mean(outputs, axis=0)
  return log_mean_exp(tf.nn.log_softmax(outputs, axis=-1))


def from_logits(loss: Any) -> bool:
  """Whether `loss` takes logits, which is so if it does not say otherwise."""
  return getattr(loss, "from_logits", True)


def log_mean_exp(values: tf.Tensor) -> tf.Tensor:
  """Logarithm of the mean of `exp(values)` over the leading axis."""
  count = tf.cast(tf.shape(values)[0], values.dtype)
  return tf.reduce_logsumexp(values, axis=0) - tf.math.log(count)
