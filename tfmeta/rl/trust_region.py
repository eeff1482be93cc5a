"""Outer steps within a trust region (Schulman et al., 2015)."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import conjugate_gradient
from tfmeta.rl.episodes import Example
from tfmeta.rl.objective import Objective
from tfmeta.rl.objective import has_replicas
from tfmeta.typing import Weights


@keras.saving.register_keras_serializable("tfmeta")
class TrustRegion(keras.optimizers.Optimizer):
  """An optimizer that bounds how far a step moves the adapted policies.

  A step goes along the natural gradient of the outer loss, which conjugate
  gradients compute, and as far as the second-order estimate of the divergence
  allows [1]. If there the outer loss is not lower, or the measured divergence
  is too large, the step becomes shorter. If no length is good, the weights stay
  as they are, and the metric `accepted` is 0.

      divergence = mean over tasks and steps of KL(policy that acted || policy)
      curvature  = J' F J, with J = d(adapted policy)/d(initial weights)

  It is the outer optimizer of the published experiments of MAML [2]. Only
  `tfmeta.rl` learners can use it, because a step needs their losses and not
  just a gradient.

  Args:
    max_divergence: Float > 0, or a Keras learning rate schedule. Bound on the
      divergence. Defaults to 0.01.
    damping: Float >= 0, added to the diagonal of the curvature. Defaults to
      1e-5.
    cg_iterations: Integer >= 1. Iterations of conjugate gradients. Defaults to
      10.
    max_backtracks: Integer >= 1. Number of lengths to try. Defaults to 15.
    backtrack_factor: Float in (0, 1). Ratio of two lengths. Defaults to 0.8.
    curvature_episodes: Integer >= 1. The curvature is computed from this many
      episodes of each inner step and task. A quarter of all episodes makes a
      step several times faster and changes its direction a little; gradient,
      loss and measured divergence use all episodes in any case. Defaults to
      all.
    name: Name of the optimizer.

  References:
    [1] J. Schulman, S. Levine, P. Moritz, M. Jordan, P. Abbeel. Trust Region
        Policy Optimization. ICML 2015. https://arxiv.org/abs/1502.05477
    [2] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017.
        https://arxiv.org/abs/1703.03400
  """

  def __init__(
    self,
    max_divergence: Any = 0.01,
    *,
    damping: float = 1e-5,
    cg_iterations: int = 10,
    max_backtracks: int = 15,
    backtrack_factor: float = 0.8,
    curvature_episodes: int | None = None,
    name: str = "trust_region",
  ):
    if isinstance(max_divergence, int | float):
      arguments.check_number("max_divergence", max_divergence, above=0)
    arguments.check_number("damping", damping, least=0)
    arguments.check_integer("cg_iterations", cg_iterations, least=1)
    arguments.check_integer("max_backtracks", max_backtracks, least=1)
    arguments.check_number(
      "backtrack_factor", backtrack_factor, above=0, below=1
    )
    if curvature_episodes is not None:
      arguments.check_integer("curvature_episodes", curvature_episodes, least=1)
    super().__init__(learning_rate=max_divergence, name=name)
    self.damping = damping
    self.cg_iterations = cg_iterations
    self.max_backtracks = max_backtracks
    self.backtrack_factor = backtrack_factor
    self.curvature_episodes = curvature_episodes

  @property
  def max_divergence(self) -> Any:
    """The bound on the divergence; a schedule decides it at each step."""
    return self.learning_rate

  def apply(self, grads: Any, trainable_variables: Any = None) -> None:
    raise ValueError(
      "A TrustRegion needs the losses of a policy, not just a gradient: pass "
      "it to `compile` of a learner of tfmeta.rl. Received: a call of `apply`"
    )

  def get_config(self) -> dict[str, Any]:
    return {
      "max_divergence": super().get_config()["learning_rate"],
      "damping": self.damping,
      "cg_iterations": self.cg_iterations,
      "max_backtracks": self.max_backtracks,
      "backtrack_factor": self.backtrack_factor,
      "curvature_episodes": self.curvature_episodes,
      "name": self.name,
    }

  @classmethod
  def from_config(
    cls, config: dict[str, Any], custom_objects: Any = None
  ) -> "TrustRegion":
    bound = config["max_divergence"]
    if isinstance(bound, dict):
      bound = keras.saving.deserialize_keras_object(bound, custom_objects)
    return cls(**{**config, "max_divergence": bound})


def improve(
  learner: Any, optimizer: TrustRegion, tasks: tuple[list[Example], Example]
) -> dict[str, tf.Tensor]:
  """Moves the initial weights within the trust region, and returns metrics.

  Args:
    learner: A compiled `PolicyLearner`.
    optimizer: Its optimizer.
    tasks: The example of each inner step, and the example of the adapted
      policies, structures of tensors `[T, ...]`.
  """
  objective = Objective(learner, *tasks)
  loss, gradients = objective.slope()
  step = _full_step(optimizer, objective, gradients)
  weights, divergence, accepted = _search(optimizer, objective, loss, step)
  for variable, value in zip(learner.trainable_variables, weights, strict=True):
    variable.assign(value)
  optimizer.iterations.assign_add(1)
  accepted = tf.cast(accepted, loss.dtype)
  return {"meta_loss": loss, "divergence": divergence, "accepted": accepted}


def _full_step(
  optimizer: TrustRegion, objective: Objective, gradients: Weights
) -> Weights:
  """Returns the step whose estimated divergence is the bound."""
  product = objective.curvature(optimizer.curvature_episodes)

  def damped(vector: Weights) -> Weights:
    return conjugate_gradient.along(product(vector), optimizer.damping, vector)

  direction, residual = conjugate_gradient.conjugate_gradient(
    damped,
    gradients,
    iterations=optimizer.cg_iterations,
    unroll=has_replicas(),
  )
  # The residual knows the last product, which saves computing it anew.
  curved = conjugate_gradient.along(gradients, -1.0, residual)
  steepness = conjugate_gradient.dot(direction, curved)
  bound = tf.cast(optimizer.max_divergence, steepness.dtype)
  ratio = tf.math.divide_no_nan(2 * bound, steepness)
  length = tf.sqrt(tf.maximum(ratio, 0))
  return [-length * d for d in direction]


def _search(
  optimizer: TrustRegion, objective: Objective, loss: tf.Tensor, step: Weights
) -> tuple[Weights, tf.Tensor, tf.Tensor]:
  """Returns the weights of the longest good step, their divergence, and 1.

  If no step is good, it returns the weights at the start, 0 and 0.
  """
  bound = tf.cast(optimizer.max_divergence, loss.dtype)

  def tried(
    index: Any, needed: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    moved = _moved(optimizer, objective.start, step, index)
    lower, divergence = objective.measure(moved, needed)
    return divergence, (lower < loss) & (divergence < bound)

  search = _first_good_together if has_replicas() else _first_good
  index, divergence, accepted = search(
    tried, optimizer.max_backtracks, loss.dtype
  )
  moved = _moved(optimizer, objective.start, step, index)
  weights = [
    tf.where(accepted, new, old)
    for new, old in zip(moved, objective.start, strict=True)
  ]
  zero = tf.zeros_like(divergence)
  return weights, tf.where(accepted, divergence, zero), accepted


def _first_good(
  tried: Callable[[Any], Any], count: int, dtype: Any
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Tries indices from 0 on, until one is good."""

  def following(index: tf.Tensor, *_: Any) -> Any:
    divergence, good = tried(index + 1)
    return index + 1, divergence, good

  return tf.while_loop(
    lambda index, _, good: ~good & (index < count - 1),
    following,
    (tf.constant(-1), tf.zeros([], dtype), tf.constant(False)),
  )


def _first_good_together(
  tried: Callable[..., Any], count: int, dtype: Any
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Does what `_first_good` does, on replicas that meet at every index.

  Loops on different replicas may end at different times, so that the graph
  holds all indices. Those after the first good one need no computing.
  """
  index, divergence = tf.constant(-1), tf.zeros([], dtype)
  good = tf.constant(False)
  for following in range(count):
    measured, found = tried(following, ~good)
    index = tf.where(good, index, following)
    divergence = tf.where(good, divergence, measured)
    good |= found
  return index, divergence, good


def _moved(
  optimizer: TrustRegion, start: Weights, step: Weights, index: Any
) -> Weights:
  factor = tf.cast(optimizer.backtrack_factor, step[0].dtype)
  scale = factor ** tf.cast(index, step[0].dtype)
  return conjugate_gradient.along(start, scale, step)
