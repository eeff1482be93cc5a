"""Log-densities of a model whose precisions are uncertain too.

The hierarchy of BMAML [1]: weights are Gaussian around 0, targets around the
outputs, and the precision (the inverse variance) of each has a Gamma prior.
Precisions are handed over as logarithms, which a step can not make negative.

[1] J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn. Bayesian Model-Agnostic
    Meta-Learning. NeurIPS 2018. https://arxiv.org/abs/1806.03836
"""

import math
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfmeta.core import functional
from tfmeta.core import samples
from tfmeta.typing import Weights

# Concentration and rate of the Gamma priors, those of the released code.
_HYPERPRIORS = {
  "log_weight_precision": (2.0, 2.0),
  "log_noise_precision": (2.0, 0.2),
}


def initial_values(loss: Any) -> dict[str, float]:
  """Log-precisions to begin with, those of the released code, by name.

  That of the noise, which is little at first, is there in regression alone.
  """
  values = {"log_weight_precision": 0.0}
  if not functional.takes_labels(loss):
    values["log_noise_precision"] = -math.log(0.01)
  return values


def log_prior(weights: Weights, log_precisions: dict[str, Any]) -> tf.Tensor:
  """Log-density of weights and precisions, a scalar; 0 without any.

  Args:
    weights: List of tensors.
    log_precisions: Scalars `log_weight_precision` and, in regression,
      `log_noise_precision`.
  """
  if not log_precisions:
    return tf.zeros([], weights[0].dtype)
  logs = tf.stack(list(log_precisions.values()))
  settings = zip(*[_HYPERPRIORS[name] for name in log_precisions], strict=True)
  of_precisions = tf.reduce_sum(log_gamma(logs, *settings))
  flat = tf.concat([tf.reshape(w, [-1]) for w in weights], axis=0)
  stddev = tf.exp(-log_precisions["log_weight_precision"] / 2)
  return of_precisions + _log_density(flat, tf.zeros_like(stddev), stddev)


def log_gamma(
  log_precision: tf.Tensor, concentration: Any, rate: Any
) -> tf.Tensor:
  """Log-density of the logarithm of a Gamma variable, elementwise.

  Args:
    log_precision: Tensor.
    concentration: Number or tuple of numbers, that broadcast to it.
    rate: As `concentration`.
  """
  gamma = tfp.distributions.Gamma(
    tf.constant(concentration, log_precision.dtype),
    tf.constant(rate, log_precision.dtype),
  )
  return tfp.distributions.TransformedDistribution(
    gamma, tfp.bijectors.Invert(tfp.bijectors.Exp())
  ).log_prob(log_precision)


def log_likelihood(
  loss: Any, y: tf.Tensor, outputs: tf.Tensor, log_precisions: dict[str, Any]
) -> tf.Tensor:
  """Log-density of a whole set of targets, a scalar.

  Args:
    loss: Inner loss, whose negative is that of one target, unless there is a
      precision of the noise: then targets are Gaussian around the outputs.
    y: `[n, ...]` targets.
    outputs: `[n, ...]`.
    log_precisions: `log_noise_precision` is asked for.
  """
  if "log_noise_precision" in log_precisions:
    stddev = tf.exp(-log_precisions["log_noise_precision"] / 2)
    return _log_density(y, outputs, stddev)
  return -functional.reduced_loss(loss, y, outputs, reduction="sum")


def mixture_loss(
  loss: Any, y: tf.Tensor, outputs: tf.Tensor, log_precisions: dict[str, Any]
) -> tf.Tensor:
  """Negative log of the mean over particles of `log_likelihood`, per target.

  Args:
    loss: As in `log_likelihood`, like `y`.
    y: As there.
    outputs: `[M, n, ...]`.
    log_precisions: Tensors `[M]`.
  """
  logs = [
    log_likelihood(loss, y, one, {k: v[m] for k, v in log_precisions.items()})
    for m, one in enumerate(tf.unstack(outputs))
  ]
  targets = tf.cast(tf.shape(y)[0], logs[0].dtype)
  return -samples.log_mean_exp(tf.stack(logs)) / targets


def _log_density(
  values: tf.Tensor, mean: tf.Tensor, stddev: tf.Tensor
) -> tf.Tensor:
  """Sum over all `values`."""
  return tf.reduce_sum(tfp.distributions.Normal(mean, stddev).log_prob(values))
