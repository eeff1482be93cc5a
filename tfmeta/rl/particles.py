"""EMAML and BMAML for policies (Yoon et al., 2018)."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.algorithms import probabilistic
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import inner_loop
from tfmeta.core import random
from tfmeta.core import svgd
from tfmeta.rl import acting
from tfmeta.rl import checks
from tfmeta.rl.episodes import Episodes
from tfmeta.rl.episodes import Example
from tfmeta.rl.learner import PolicyLearner
from tfmeta.typing import Weights

_NO_ARGUMENTS = {
  "noise_stddev": "the policy has the distribution of the actions",
  "particle_weights": "all weights of the policy have particles",
}


class ParticlePolicies:
  """Mixin of learners of M policies per task, each of which acts for itself.

  Weights and episodes have an axis of particles after that of tasks. A subclass
  derives from this class, from `PolicyLearner` and from `ParticleLearner`, in
  this order, and writes `inner_step`.
  """

  particle_axes = 1

  def initial_weights(self: Any) -> Weights:
    """Returns the initial weights of all particles, tensors `[M, ...]`."""
    return self.initial_particles()

  def example(self: Any, episodes: Episodes) -> Example:
    """Returns the examples of all particles of a task, tensors `[M, ...]`."""
    one = super().example  # pyright: ignore[reportAttributeAccessIssue]
    return self.for_each_sample(one, episodes)

  def query_parameters(self: Any, weights: Any, observations: Any) -> Any:
    """Returns the parameters `[M, B, H, k]` of the actions of all particles."""
    return self.for_each_sample(self.action_parameters, weights, observations)

  def roll_out(
    self: Any, tasks: Any, weights: Any, seeds: tf.Tensor
  ) -> Episodes:
    """Acts episodes `[T, M, B, H, ...]`: each particle acts in each task."""
    count = self.num_particles
    apart = tf.vectorized_map(
      lambda seed: tf.stack([random.fold_in(seed, m) for m in range(count)]),
      seeds,
    )
    tasks = tf.nest.map_structure(lambda t: tf.repeat(t, count, axis=0), tasks)
    weights, seeds = tf.nest.map_structure(_joined, (weights, apart))
    episodes = acting.roll_out(self, tasks, weights, seeds)
    return tf.nest.map_structure(
      lambda t: tf.reshape(
        t, tf.concat([[-1, count], tf.shape(t)[1:]], axis=0)
      ),
      episodes,
    )

  def act(self: Any, weights: Any, observations: Any, seed: Any = None) -> Any:
    """Returns actions `[M, n, ...]` of all particles for observations.

    Args:
      weights: Weights returned by `adapt`, tensors `[M, ...]`.
      observations: `[n, *observation_shape]`.
      seed: Integers `[2]` with which actions are sampled. By default, the most
        likely actions are returned.
    """
    one = super().act  # pyright: ignore[reportAttributeAccessIssue]
    actions = [
      one(
        [w[m] for w in weights],
        observations,
        None if seed is None else random.fold_in(checks.checked_seed(seed), m),
      )
      for m in range(self.num_particles)
    ]
    return tf.stack(actions)


def _joined(tensor: tf.Tensor) -> tf.Tensor:
  """Turns `[T, M, ...]` into `[T * M, ...]`."""
  shape = tf.shape(tensor)
  joined = tf.reshape(tensor, tf.concat([[-1], shape[2:]], axis=0))
  return tf.ensure_shape(joined, [None, *tensor.shape[2:]])


@keras.saving.register_keras_serializable("tfmeta>rl")
class EMAML(ParticlePolicies, PolicyLearner, probabilistic.ParticleLearner):
  """An ensemble of MAMLs for policies, learned without coupling.

  Each particle acts, adapts and learns from its own episodes. It is the
  baseline with which BMAML is compared [1]. It is not E-MAML, the exploration
  term, which is `MAML(sampling_credit=True)`.

  Args:
    policy: A built `keras.Model` without state, `[n, *observation_shape] -> [n,
      k]`, whose weights are the first particle.
    environment: A `tfmeta.environments.Environment`.
    num_particles: Integer >= 1. Number M of particles. Defaults to 5.
    first_order: Boolean. Whether the outer gradient treats the inner gradients
      as constants. Defaults to `False`.
    **kwargs: Forwarded to `PolicyLearner`, which describes them. `episodes` is
      the number of each particle.

  References:
    [1] J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn. Bayesian
        Model-Agnostic Meta-Learning. NeurIPS 2018.
        https://arxiv.org/abs/1806.03836
  """

  def __init__(
    self,
    policy: keras.Model,
    environment: Any,
    *,
    num_particles: int = 5,
    first_order: bool = False,
    **kwargs: Any,
  ):
    checks.check_not_given(kwargs, _NO_ARGUMENTS)
    super().__init__(policy, environment, num_particles=num_particles, **kwargs)
    self.first_order = first_order

  def inner_step(
    self, weights: Weights, example: Example, context: Context = EVALUATION
  ) -> Weights:
    def step_of_one(weights: Weights, example: Example) -> Weights:
      loss_fn = self.support_loss(*example)
      return inner_loop.gradient_step(
        lambda w: loss_fn(w, 0),
        weights,
        [self.inner_learning_rate] * len(weights),
        first_order=self.first_order,
      )

    return self.for_each_sample(step_of_one, weights, example, context=context)

  def get_config(self) -> dict[str, Any]:
    return _particle_config(super().get_config(), first_order=self.first_order)


@keras.saving.register_keras_serializable("tfmeta>rl")
class BMAML(ParticlePolicies, PolicyLearner, probabilistic.ParticleLearner):
  """Bayesian MAML for policies: particles that repel each other as they adapt.

  The inner step is one of Stein variational policy gradient [1]: each particle
  moves along the policy gradients of all particles, and away from them. J is
  the return of a particle, estimated from its own episodes:

      w_m + inner_learning_rate * mean over n of
        k(w_n, w_m) * grad J(w_n) / temperature + grad_{w_n} k(w_n, w_m)

  Differences from the authors' code:
    - `"chaser"` minimizes the squared distance to the leader, as
      `tfmeta.BMAML` does; the authors minimize the distance.
    - With a `TrustRegion`, all particles move in one step, whose divergence is
      the mean over tasks and particles. The authors move one particle after
      the other.

  Args:
    policy: A built `keras.Model` without state, `[n, *observation_shape] -> [n,
      k]`, whose weights are the first particle.
    environment: A `tfmeta.environments.Environment`.
    num_particles: Integer >= 1. Number M of particles. Defaults to 5.
    meta_loss: `"return"` (default): the outer loss is the surrogate of the
      return of the adapted particles. `"chaser"`: it is the squared distance of
      the adapted particles to those that took one more step, on the new
      episodes that they acted; a `TrustRegion` is refused then.
    temperature: Float > 0. The larger it is, the more the particles explore.
      Defaults to 1.0.
    first_order: Boolean. Whether the outer gradient treats the inner gradients
      as constants. Defaults to `False`.
    **kwargs: Forwarded to `PolicyLearner`, which describes them. `episodes` is
      the number of each particle.

  References:
    [1] Y. Liu, P. Ramachandran, Q. Liu, J. Peng. Stein Variational Policy
        Gradient. UAI 2017. https://arxiv.org/abs/1704.02399
    [2] J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn. Bayesian
        Model-Agnostic Meta-Learning. NeurIPS 2018.
        https://arxiv.org/abs/1806.03836
    Released code: https://github.com/jaesik817/bmaml_rl
  """

  def __init__(
    self,
    policy: keras.Model,
    environment: Any,
    *,
    num_particles: int = 5,
    meta_loss: str = "return",
    temperature: float = 1.0,
    first_order: bool = False,
    **kwargs: Any,
  ):
    arguments.check_choice("meta_loss", meta_loss, ("return", "chaser"))
    arguments.check_number("temperature", temperature, above=0)
    checks.check_not_given(kwargs, _NO_ARGUMENTS)
    super().__init__(policy, environment, num_particles=num_particles, **kwargs)
    self.meta_loss = meta_loss
    self.temperature = temperature
    self.first_order = first_order
    self.has_divergence = meta_loss == "return"

  def inner_step(
    self, weights: Weights, example: Example, context: Context = EVALUATION
  ) -> Weights:
    def gradient_of_one(weights: Weights, example: Example) -> Weights:
      loss_fn = self.support_loss(*example)
      return inner_loop.gradients_of(
        lambda w: -loss_fn(w, 0) / self.temperature,
        weights,
        first_order=self.first_order,
      )

    gradients = self.for_each_sample(
      gradient_of_one, weights, example, context=context
    )
    return svgd.svgd_step(
      weights,
      gradients,
      [True] * len(weights),
      self.inner_learning_rate,
      bandwidth="mean_distance",
      stop_bandwidth=False,
    )

  def task_loss(  # pyright: ignore[reportIncompatibleMethodOverride]
    self,
    support: Sequence[Example],
    query: Example,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    if self.meta_loss == "return":
      return super().task_loss(support, query, context)
    followers = self.adaptation_path(support, context)[-1]
    start = [tf.stop_gradient(w) for w in followers]
    leaders = self.inner_step(start, query, context)
    distance = svgd.squared_distance(
      followers, [tf.stop_gradient(w) for w in leaders]
    )
    outputs = self.query_parameters(followers, query.observations)
    return distance, outputs

  def get_config(self) -> dict[str, Any]:
    return _particle_config(
      super().get_config(),
      first_order=self.first_order,
      meta_loss=self.meta_loss,
      temperature=self.temperature,
    )


def _particle_config(config: dict[str, Any], **own: Any) -> dict[str, Any]:
  """Returns a configuration without what belongs to supervised learners."""
  used = {k: v for k, v in config.items() if k not in _NO_ARGUMENTS}
  return {**used, **own}
