"""Episodes, and the parts of them that losses take."""

from typing import Any
from typing import NamedTuple

import tensorflow as tf


class Episodes(NamedTuple):
  """Episodes that one policy acted, padded to the horizon H.

  The axes in front are those of tasks and particles, where there are any:
  `[B, H, ...]` are B episodes of one task.

  Attributes:
    observations: `[..., B, H, *observation_shape]`, the observations on which
      the actions were chosen.
    actions: `[..., B, H, a]` floats, or `[..., B, H]` integers.
    rewards: `[..., B, H]`, the rewards that followed the actions.
    mask: `[..., B, H]`, 1.0 up to and including the last step of an episode,
      and 0.0 after it.
    parameters: `[..., B, H, k]`, the parameters of the distributions from which
      the actions were sampled.
  """

  observations: Any
  actions: Any
  rewards: Any
  mask: Any
  parameters: Any


class Decisions(NamedTuple):
  """The constants of a surrogate loss: nothing here has a gradient.

  Attributes:
    actions: As in `Episodes`.
    parameters: As in `Episodes`.
    mask: As in `Episodes`.
    advantages: `[B, H]`, normalized to mean 0 and deviation 1 over the steps.
    value: Scalar. The mean discounted return of the episodes in the units of
      the outer loss, with which `sampling_credit` weights log-likelihoods.
  """

  actions: Any
  parameters: Any
  mask: Any
  advantages: Any
  value: Any


class Example(NamedTuple):
  """The example of one inner step: the episodes of one policy.

  Attributes:
    observations: `[B, H, *observation_shape]`.
    decisions: `Decisions` of the same episodes.
  """

  observations: Any
  decisions: Decisions


def mean_return(episodes: Episodes) -> tf.Tensor:
  """Returns the mean undiscounted return `[T]` of the episodes of each task.

  Args:
    episodes: `[T, ..., B, H, ...]`, with rewards that are 0 after the end of an
      episode, as in those that are acted.
  """
  of_episodes = tf.reduce_sum(episodes.rewards, axis=-1)
  return tf.reduce_mean(of_episodes, axis=range(1, of_episodes.shape.rank))


def cleaned(episodes: Episodes) -> Episodes:
  """Returns episodes without what follows their ends, as tensors.

  The first step of an episode takes the place of the steps after its end, with
  a reward of 0. Zeros could be parameters that no distribution has, or actions
  of probability 0, whose gradient is NaN even where the mask is 0.

  Args:
    episodes: `[B, H, ...]`.
  """
  tensors = Episodes(*map(tf.convert_to_tensor, episodes))

  def clean(tensor: tf.Tensor, instead: tf.Tensor) -> tf.Tensor:
    further = [1] * (tensor.shape.rank - tensors.mask.shape.rank)
    shape = tf.concat([tf.shape(tensors.mask), further], axis=0)
    alive = tf.reshape(tensors.mask > 0, tf.cast(shape, tf.int32))
    return tf.where(alive, tensor, instead)

  return Episodes(
    observations=clean(tensors.observations, tensors.observations[:, :1]),
    actions=clean(tensors.actions, tensors.actions[:, :1]),
    rewards=clean(tensors.rewards, tf.zeros_like(tensors.rewards)),
    mask=tensors.mask,
    parameters=clean(tensors.parameters, tensors.parameters[:, :1]),
  )


def step_weights(mask: tf.Tensor) -> tf.Tensor:
  """Returns weights of the steps that sum to 1, for means over steps.

  Args:
    mask: `[B, H]`, or `[M, B, H]` for M particles. Each particle has the same
      share, however long its episodes are.
  """
  particles = tf.size(mask) // tf.reduce_prod(tf.shape(mask)[-2:])
  steps = tf.reduce_sum(mask, axis=[-2, -1], keepdims=True)
  return mask / (steps * tf.cast(particles, mask.dtype))
