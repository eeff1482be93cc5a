"""MAML with noise in its initial weights, the control of PLATIPUS."""

from typing import Any

import keras

import tfmeta


def make(
  platipus: tfmeta.PLATIPUS,
  network: keras.Model,
  *,
  inner_steps: int,
  initial_from: tfmeta.MAML | None = None,
  **options: Any,
) -> tfmeta.PLATIPUS:
  """Returns a MAML with constant noise in its initial weights.

  It is built as a PLATIPUS whose means do not shift, whose scales are not
  trained, and whose divergence has no weight.

  Args:
    platipus: Learner whose prior gives the standard deviations of the noise.
    network: A new network like that of `platipus`.
    inner_steps: Number of inner steps. The shift of PLATIPUS's prior is a
      further step, which a fair comparison has to add.
    initial_from: MAML trained without noise that gives the means. Without it,
      the result is untrained.
    **options: Further arguments of `tfmeta.PLATIPUS`.
  """
  learner = tfmeta.PLATIPUS(
    network,
    inner_steps=inner_steps,
    kl_weight=0.0,
    initial_prior_rate=0.0,
    initial_posterior_rate=0.0,
    initial_from=initial_from,
    **options,
  )
  for scales in (learner.prior_log_scales, learner.posterior_log_scales):
    for own, learned in zip(scales, platipus.prior_log_scales, strict=True):
      if own is not None:
        own.assign(learned)
        own.trainable = False
  # An initial rate of 0 stays 0.
  learner.unscaled_prior_rate.trainable = False
  learner.unscaled_posterior_rate.trainable = False
  return learner
