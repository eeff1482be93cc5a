"""Diagonal Gaussians over the weights of a model.

Means and logarithms of standard deviations are lists of tensors in the order
of the weights; `None` in place of a logarithm is a weight without spread.
"""

from collections.abc import Sequence
import math
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfmeta.core import random
from tfmeta.typing import Weights

LogScales = Sequence[tf.Tensor | None]


def noise_for(log_scales: LogScales, seed: tf.Tensor, *count: int) -> tf.Tensor:
  """Standard normal numbers `[*count, D]` for D weights that have a spread.

  Args:
    log_scales: List of tensors, or `None`.
    seed: Integer `[2]`, which alone decides the numbers.
    *count: Numbers of draws, or none for a single one.
  """
  scales = [s for s in log_scales if s is not None]
  size = sum(math.prod(s.shape) for s in scales)
  return random.normal([*count, size], seed, scales[0].dtype)


def draw(means: Weights, log_scales: LogScales, noise: tf.Tensor) -> Weights:
  """One draw of all weights, differentiable in means and scales.

  Args:
    means: List of tensors.
    log_scales: One per mean, of its shape, or `None`.
    noise: `[D]`, from `noise_for`.
  """
  sizes = [0 if s is None else math.prod(s.shape) for s in log_scales]
  parts = tf.split(noise, sizes)
  return [
    m if s is None else m + tf.exp(s) * tf.reshape(part, m.shape)
    for m, s, part in zip(means, log_scales, parts, strict=True)
  ]


def divergence(
  means: Weights,
  log_scales: LogScales,
  other_means: Weights,
  other_log_scales: LogScales,
) -> tf.Tensor:
  """Kullback-Leibler divergence of one Gaussian from another, in nats.

  Args:
    means: List of tensors, with `log_scales` those of the Gaussian that the
      expectation is over.
    log_scales: One per mean, of its shape, or `None`.
    other_means: As `means`, of the other Gaussian.
    other_log_scales: As `log_scales`, with `None` at the same places.

  Returns:
    Scalar, the sum over all weights that have a spread.
  """
  pairs: list[tuple[Any, Any]] = []
  for mean, scale, other_mean, other_scale in zip(
    means, log_scales, other_means, other_log_scales, strict=True
  ):
    if scale is not None and other_scale is not None:
      pairs.append((_normal(mean, scale), _normal(other_mean, other_scale)))
  return tf.add_n(
    [tf.reduce_sum(tfp.distributions.kl_divergence(q, p)) for q, p in pairs]
  )


def _normal(mean: tf.Tensor, log_scale: tf.Tensor) -> Any:
  return tfp.distributions.Normal(mean, tf.exp(log_scale))
