"""Returns, baselines and advantages of the episodes of one task.

Episodes are padded to one length: `[B, H]` tensors, with a mask that is 1 up to
and including the last step of an episode. Values after the end of an episode
change no result.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# The baseline clips its features to this range and counts steps in hundreds, as
# the released code of MAML does.
_LARGEST_FEATURE = 10.0
_STEPS_PER_UNIT = 100
_RIDGE = 1e-5

# The standard deviation of the advantages may be 0, so this number is added.
_LEAST_DEVIATION = 1e-8


class Advantages(NamedTuple):
  """The advantages of actions over the baseline, and the value of the policy.

  Attributes:
    advantages: `[B, H]`, how much better each action was than the baseline
      expected. They have mean 0 and standard deviation 1 over the steps, and
      are 0 after the end of an episode.
    value: Scalar, the mean discounted return. It is scaled so that its gradient
      equals the gradient of the mean over steps of `probability ratio *
      advantages`.
  """

  advantages: tf.Tensor
  value: tf.Tensor


def discounted_sums(x: tf.Tensor, discount: float) -> tf.Tensor:
  """Returns the discounted sums from each step to the last one.

  Args:
    x: `[..., H]`, with H known when traced.
    discount: Float in [0, 1], the factor of each further step.

  Returns:
    The sums, `[..., H]`.
  """
  # One product with a constant matrix replaces a loop over the steps.
  steps = np.arange(x.shape[-1])
  ahead = np.subtract.outer(steps, steps)
  factors = np.where(ahead >= 0, float(discount) ** np.maximum(ahead, 0), 0.0)
  return tf.linalg.matmul(x, tf.constant(factors, x.dtype))


def linear_baseline(
  observations: tf.Tensor, returns: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
  """Fits returns by a linear function of the observations and of the time.

  The features of a step are its observation o, o squared, and the powers 0 to 3
  of the time t since the start of the episode, as in the released code of MAML
  [1]. The fit is a ridge regression on the same episodes.

  Args:
    observations: `[B, H, ...]`.
    returns: `[B, H]`.
    mask: Weights `[B, H]` of the steps, 0 after the end of an episode.

  Returns:
    The fitted returns, `[B, H]`.

  References:
    [1] https://github.com/cbfinn/maml_rl
  """
  # In float32, a ridge of 1e-5 would vanish beside sums over 2000 steps.
  features = tf.cast(_features(observations, mask), tf.float64)
  x = tf.reshape(features, [-1, features.shape[-1]])
  weights = tf.reshape(tf.cast(mask, tf.float64), [-1, 1])
  y = tf.reshape(tf.cast(returns, tf.float64), [-1, 1])
  ridge = _RIDGE * tf.eye(features.shape[-1], dtype=tf.float64)
  weighted = tf.transpose(x * weights)
  coefficients = tf.linalg.solve(weighted @ x + ridge, weighted @ y)
  fitted = tf.reshape(x @ coefficients, tf.shape(returns))
  return tf.cast(tf.ensure_shape(fitted, returns.shape), returns.dtype)


def _features(observations: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
  """Returns the features `[B, H, f]` of all steps."""
  width = int(np.prod(observations.shape[2:]))
  flat = tf.reshape(
    observations, [tf.shape(mask)[0], observations.shape[1], width]
  )
  flat = tf.clip_by_value(flat, -_LARGEST_FEATURE, _LARGEST_FEATURE)
  time = tf.range(mask.shape[-1], dtype=flat.dtype) / _STEPS_PER_UNIT
  powers = tf.stack([time**power for power in range(4)], axis=-1)
  shape = [tf.shape(flat)[0], mask.shape[-1], 4]
  return tf.concat([flat, flat**2, tf.broadcast_to(powers, shape)], axis=-1)


def advantages(
  observations: tf.Tensor,
  rewards: tf.Tensor,
  mask: tf.Tensor,
  *,
  discount: float,
  gae_decay: float,
) -> Advantages:
  """Estimates generalized advantages [1] with a fitted linear baseline.

  All results are constants for any gradient tape.

  Args:
    observations: `[B, H, ...]`.
    rewards: `[B, H]`.
    mask: `[B, H]`, 1 up to and including the last step of an episode, and 0
      after it. Other numbers above 0 are weights of the steps.
    discount: Float in [0, 1].
    gae_decay: Float in [0, 1]. With 1, advantages are returns minus the
      baseline; with 0, they are one-step temporal differences.

  References:
    [1] J. Schulman, P. Moritz, S. Levine, M. Jordan, P. Abbeel.
        High-Dimensional Continuous Control Using Generalized Advantage
        Estimation. ICLR 2016. https://arxiv.org/abs/1506.02438
  """
  # A product with the mask would keep values that are not finite.
  alive = mask > 0
  there = tf.reshape(alive, _rank_of(observations, tf.shape(mask)))
  observations = tf.where(there, observations, tf.zeros_like(observations))
  rewards = tf.where(alive, rewards, tf.zeros_like(rewards))
  returns = discounted_sums(rewards, discount)
  baseline = linear_baseline(observations, returns, mask)
  baseline = tf.where(alive, baseline, tf.zeros_like(baseline))
  following = tf.pad(baseline[:, 1:], [[0, 0], [0, 1]])
  differences = rewards + discount * following - baseline
  raw = discounted_sums(differences, discount * gae_decay)
  normalized, deviation = _normalized(tf.where(alive, raw, 0.0), mask)
  episodes = tf.reduce_sum(mask[:, 0])
  # The advantages were divided by their deviation, and a surrogate is a mean
  # over steps, so the value gets the same factors.
  value = tf.reduce_sum(returns[:, 0] * mask[:, 0]) / episodes
  scaled = value * episodes / (tf.reduce_sum(mask) * deviation)
  return Advantages(tf.stop_gradient(normalized), tf.stop_gradient(scaled))


def _rank_of(tensor: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
  """Extends `shape` `[2]` by axes of length 1 to the rank of `tensor`."""
  further = [1] * (tensor.shape.rank - 2)
  return tf.concat([shape, tf.constant(further, tf.int32)], axis=0)


def _normalized(
  values: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns values with mean 0 and deviation 1, and the original deviation."""
  total = tf.reduce_sum(mask)
  centered = values - tf.reduce_sum(values * mask) / total
  centered = tf.where(mask > 0, centered, tf.zeros_like(centered))
  variance = tf.reduce_sum(mask * centered**2) / total
  deviation = tf.sqrt(variance) + _LEAST_DEVIATION
  return centered / deviation, deviation
