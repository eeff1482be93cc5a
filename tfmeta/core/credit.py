"""Surrogates of the return: losses whose gradient is the policy gradient.

Three surrogates credit the actions of an episode. Their first derivatives are
equal. Their second derivatives differ, and a meta-gradient depends on them. Let
g be the gradient of the log-probability of an action, and A its advantage. The
Hessian of the expected return is

    H1 + H2 + H12 + H12'
    H1  = E sum_t g_t g_t' A_t
    H2  = E sum_t (Hessian of log pi_t) A_t
    H12 = E sum_t sum_{s < t} g_s g_t' A_t

`"log_likelihood"` has H2 alone, `"lvc"` has H1 + H2, and `"dice"` has all four
terms.
"""

from typing import get_args

import numpy as np
import tensorflow as tf

from tfmeta.typing import Surrogate

SURROGATES = get_args(Surrogate)


def credit(
  kind: Surrogate,
  new: tf.Tensor,
  acted: tf.Tensor,
  mask: tf.Tensor,
  credit_decay: float,
) -> tf.Tensor:
  """Returns the factors of the advantages in a surrogate.

  Args:
    kind: `"log_likelihood"`: the log-probability, as in MAML [1]. `"lvc"`: the
      ratio of the probabilities now and when the action was taken [2].
      `"dice"`: the credit of the action, which it shares with earlier actions
      [3, 4]; its value is 0.
    new: Log-probabilities `[B, H]` of the actions now.
    acted: Log-probabilities `[B, H]` of the actions when they were taken. They
      are constants.
    mask: `[B, H]`, 1 up to and including the last step of an episode.
    credit_decay: Float in [0, 1], which only `"dice"` uses. The share of an
      earlier action falls by this factor with each step. With 1, second
      derivatives are exact in expectation. With 0, they equal the second
      derivatives of `"lvc"`.

  Returns:
    The factors, `[B, H]`.

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017.
        https://arxiv.org/abs/1703.03400
    [2] J. Rothfuss, D. Lee, I. Clavera, T. Asfour, P. Abbeel. ProMP: Proximal
        Meta-Policy Search. ICLR 2019. https://arxiv.org/abs/1810.06784
    [3] J. Foerster, G. Farquhar, M. Al-Shedivat, T. Rocktaeschel, E. Xing, S.
        Whiteson. DiCE: The Infinitely Differentiable Monte Carlo Estimator.
        ICML 2018. https://arxiv.org/abs/1802.05098
    [4] G. Farquhar, S. Whiteson, J. Foerster. Loaded DiCE: Trading off Bias and
        Variance in Any-Order Score Function Gradient Estimators. NeurIPS 2019.
        https://arxiv.org/abs/1909.10549
  """
  if kind == "log_likelihood":
    return new
  if kind == "lvc":
    return _ratio(new, acted, mask)
  # A product with the mask would keep values that are not finite.
  alive = tf.where(mask > 0, new, tf.zeros_like(new))
  shares = tf.linalg.matmul(alive, _earlier(new, credit_decay))
  before = credit_decay * tf.pad(shares[:, :-1], [[0, 0], [1, 0]])
  # The difference keeps only the derivatives in which this action takes part.
  return _magic_box(shares) - _magic_box(before)


def _earlier(like: tf.Tensor, decay: float) -> tf.Tensor:
  """Returns the matrix that sums over each step and, decayed, earlier ones."""
  steps = np.arange(like.shape[-1])
  since = np.subtract.outer(steps, steps).T
  factors = np.where(since >= 0, float(decay) ** np.maximum(since, 0), 0.0)
  return tf.constant(factors, like.dtype)


def _ratio(new: tf.Tensor, acted: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
  """Returns the ratio of the probabilities, which is 1 after the end."""
  # If an exponential overflows, its gradient is NaN even at masked steps, so
  # the mask must act before it.
  difference = new - tf.stop_gradient(acted)
  return tf.exp(tf.where(mask > 0, difference, tf.zeros_like(difference)))


def _magic_box(x: tf.Tensor) -> tf.Tensor:
  """Returns 1, with the derivatives of `exp(x)` relative to its value."""
  return tf.exp(x - tf.stop_gradient(x))


def surrogate_loss(
  kind: Surrogate,
  new: tf.Tensor,
  acted: tf.Tensor,
  advantages: tf.Tensor,
  mask: tf.Tensor,
  *,
  credit_decay: float = 1.0,
) -> tf.Tensor:
  """Returns the negative mean over steps of `credit * advantages`, a scalar.

  Args:
    kind: Name of the surrogate: see `credit`.
    new: Log-probabilities `[B, H]` of the actions now.
    acted: Log-probabilities `[B, H]` of the actions when they were taken.
    advantages: `[B, H]`, constants.
    mask: Weights `[B, H]` of the steps, 0 after the end of an episode.
    credit_decay: Float in [0, 1], which only `"dice"` uses. Defaults to 1.0.
  """
  factors = credit(kind, new, acted, mask, credit_decay)
  return -_mean(factors * tf.stop_gradient(advantages), mask)


def clipped_ratio_loss(
  new: tf.Tensor,
  acted: tf.Tensor,
  advantages: tf.Tensor,
  mask: tf.Tensor,
  clip_ratio: float | None = None,
) -> tf.Tensor:
  """Returns the loss of proximal policy optimization [1], a scalar.

  Args:
    new: Log-probabilities `[B, H]` of the actions now.
    acted: Log-probabilities `[B, H]` of the actions when they were taken.
    advantages: `[B, H]`, constants.
    mask: Weights `[B, H]` of the steps, 0 after the end of an episode.
    clip_ratio: Float > 0. A ratio of probabilities gains nothing by moving
      further from 1 than this. Defaults to no limit.

  References:
    [1] J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov. Proximal
        Policy Optimization Algorithms. 2017. https://arxiv.org/abs/1707.06347
  """
  ratio = _ratio(new, acted, mask)
  advantages = tf.stop_gradient(advantages)
  gains = ratio * advantages
  if clip_ratio is not None:
    clipped = tf.clip_by_value(ratio, 1 - clip_ratio, 1 + clip_ratio)
    gains = tf.minimum(gains, clipped * advantages)
  return -_mean(gains, mask)


def _mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
  # A product with the mask alone would keep values that are not finite.
  there = tf.where(mask > 0, values, tf.zeros_like(values))
  return tf.reduce_sum(there * mask) / tf.reduce_sum(mask)
