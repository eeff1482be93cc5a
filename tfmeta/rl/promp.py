"""ProMP (Rothfuss, Lee, Clavera, Asfour, Abbeel, 2019)."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.algorithms import maml
from tfmeta.algorithms import outer_step
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import credit as surrogates
from tfmeta.rl.episodes import Example
from tfmeta.rl.learner import PolicyLearner


@keras.saving.register_keras_serializable("tfmeta>rl")
class ProMP(PolicyLearner, maml.MAML):
  """Meta-learner of policies with several clipped steps per batch of episodes.

  The inner surrogate is `"lvc"`, the low variance curvature estimator. The
  outer optimizer takes several steps on the same episodes. Clipped ratios keep
  the adapted policies, and a penalty keeps the policies of all inner steps,
  near those that acted [1]:

      r = pi_adapted(a|o) / pi_acted(a|o)
      minimize over theta:
        -mean of min(r * A, clip(r, 1 - clip_ratio, 1 + clip_ratio) * A)
        + divergence_penalty * mean over inner steps of KL(acted || now)

  Use it with `keras.optimizers.Adam(1e-3)`, as the authors do.

  Differences from the authors' code:
    - The coefficient of the penalty is constant. The authors' code can adapt
      it, which their own experiments leave off.

  Args:
    policy: A built `keras.Model` without state, `[n, *observation_shape] -> [n,
      k]`.
    environment: A `tfmeta.environments.Environment`.
    clip_ratio: Float > 0, or `None` for no clipping. Defaults to 0.3.
    epochs: Integer >= 1. Number of steps of the optimizer per batch of
      episodes. Defaults to 5.
    divergence_penalty: Float >= 0. Coefficient of the mean divergence over the
      inner steps. Defaults to 5e-4.
    **kwargs: Forwarded to `PolicyLearner`, which describes them.

  References:
    [1] J. Rothfuss, D. Lee, I. Clavera, T. Asfour, P. Abbeel. ProMP: Proximal
        Meta-Policy Search. ICLR 2019. https://arxiv.org/abs/1810.06784
    Released code: https://github.com/jonasrothfuss/ProMP
  """

  # Several steps per batch are bounded by the clipping instead.
  has_divergence = False

  def __init__(
    self,
    policy: keras.Model,
    environment: Any,
    *,
    clip_ratio: float | None = 0.3,
    epochs: int = 5,
    divergence_penalty: float = 5e-4,
    **kwargs: Any,
  ):
    if clip_ratio is not None:
      arguments.check_number("clip_ratio", clip_ratio, above=0)
    arguments.check_integer("epochs", epochs, least=1)
    arguments.check_number("divergence_penalty", divergence_penalty, least=0)
    super().__init__(policy, environment, **kwargs)
    self.clip_ratio = clip_ratio
    self.epochs = epochs
    self.divergence_penalty = divergence_penalty

  def task_loss(  # pyright: ignore[reportIncompatibleMethodOverride]
    self,
    support: Sequence[Example],
    query: Example,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    path = self.adaptation_path(support, context)
    outputs = self.query_parameters(path[-1], query.observations)
    loss = self.outer_loss(outputs, query.decisions)
    divergences = [
      self.mean_divergence(
        self.action_parameters(weights, example.observations),
        example.decisions,
      )
      for weights, example in zip(path, support, strict=False)
    ]
    if divergences:
      loss += self.divergence_penalty * tf.reduce_mean(divergences)
    return loss, outputs

  def outer_loss(self, parameters: tf.Tensor, decisions: Any) -> tf.Tensor:
    new, acted = self.log_probs(parameters, decisions)
    return surrogates.clipped_ratio_loss(
      new, acted, decisions.advantages, decisions.mask, self.clip_ratio
    )

  def improve(self, examples: tuple[Any, ...]) -> dict[str, tf.Tensor]:
    """Takes `epochs` steps; the reported loss is that of the last one."""

    def step() -> tf.Tensor:
      return outer_step.improve(self, examples)[0]

    # All epochs do the same, so they run one traced function. Replicas cannot
    # meet inside a function that is traced for them.
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
      step = tf.function(step, autograph=False)
    losses = [step() for _ in range(self.epochs)]
    return {"meta_loss": losses[-1]}

  def steps_made(self) -> tf.Tensor:
    return super().steps_made() // self.epochs

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "clip_ratio": self.clip_ratio,
      "epochs": self.epochs,
      "divergence_penalty": self.divergence_penalty,
    }
