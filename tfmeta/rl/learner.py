"""The base class of learners that act: everything but the algorithm itself."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.algorithms import meta_learner
from tfmeta.algorithms import outer_step
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import credit as surrogates
from tfmeta.core import functional
from tfmeta.core import keras_internals
from tfmeta.core import returns
from tfmeta.environments.base import Environment
from tfmeta.rl import acting
from tfmeta.rl import actions
from tfmeta.rl import checks
from tfmeta.rl import export
from tfmeta.rl import outer
from tfmeta.rl import trust_region
from tfmeta.rl.episodes import Decisions
from tfmeta.rl.episodes import Episodes
from tfmeta.rl.episodes import Example
from tfmeta.rl.episodes import cleaned
from tfmeta.rl.episodes import step_weights
from tfmeta.typing import SupportLoss
from tfmeta.typing import Surrogate
from tfmeta.typing import Weights

# The inner loss is a surrogate of returns; this argument of the base class has
# no part in it.
_UNUSED_LOSS = "mse"


class PolicyLearner(meta_learner.MetaLearner):
  """A learner whose tasks are environments, and whose examples are episodes.

  It is a Keras model whose input is a batch of tasks, as
  `environment.tasks(...)` yields them, and whose output is the mean return `[T,
  K + 1]` of the policy before adapting and after each of K inner steps. Each
  inner step learns from new episodes, which the policy of the step before
  acted. A training step acts all episodes, adapts to them, and improves the
  initial weights by the episodes that the adapted policies acted.

  A subclass derives from this class and from a supervised learner, in this
  order. The inner step is that of the supervised learner, with a surrogate of
  the return as its loss:

      A       = advantages of the steps, normalized per task
      support = -mean over steps of  c * A      (`credit` chooses c)
      outer   = -mean over steps of  pi_adapted(a|o) / pi_acted(a|o) * A

  The metrics are `return` and `return_before`, the mean undiscounted returns
  after and before adapting; `loss`, the negative of `return`; `meta_loss`; and,
  with a `TrustRegion`, `divergence` and `accepted`.

  Args:
    policy: A built `keras.Model` without state, `[n, *observation_shape] -> [n,
      k]`, which returns the parameters of a distribution of actions.
    environment: A `tfmeta.environments.Environment`.
    episodes: Integer >= 2. Number of episodes for each inner step of a task,
      and after the last one. Defaults to 20.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. With 0, the policy is the same for all tasks. Defaults to 1.
    inner_learning_rate: Float > 0. Step size of the inner loop. Defaults to
      0.1.
    eval_inner_steps: Integer >= 0. Number of inner steps outside of training.
      Defaults to `inner_steps`.
    later_step_factor: Float > 0. Factor of the step size of all inner steps but
      the first. Published evaluations of MAML halve it, because the first step
      was the only one in training. Defaults to 1.0.
    credit: Surrogate of the inner loss. All have the same gradient, the policy
      gradient; they differ in the second derivatives, and so in the
      meta-gradient [1, 2]. `"lvc"` (default): probability ratios, whose second
      derivative lacks only the terms between different steps. `"dice"`: exact
      in expectation, with a higher variance. `"log_likelihood"`: that of the
      published code of MAML, which lacks more terms.
    credit_decay: Float in [0, 1], for `"dice"`: how much of the credit of
      earlier steps reaches a step. 1.0 (default) is exact, 0.0 has the
      derivatives of `"lvc"`.
    discount: Float in [0, 1]. Discount of rewards per step. Defaults to 0.99.
    gae_decay: Float in [0, 1]. Decay lambda of generalized advantages [3]; 1.0
      (default) means returns minus the baseline.
    distribution: `"gaussian"`, `"categorical"`, or a function from parameters
      `[..., k]` to a TensorFlow Probability distribution. Defaults to the one
      that fits the actions of the environment.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to the supervised learner: `first_order`, `task_map`,
      `clipvalue`, `clipnorm`, and `name` of the Keras model.

  Raises:
    TypeError: If `policy` is not a Keras model or `environment` not an
      `Environment`.
    ValueError: If the policy does not fit the environment, has state or
      computes in low precision, or if an argument is out of range.

  References:
    [1] J. Rothfuss, D. Lee, I. Clavera, T. Asfour, P. Abbeel. ProMP: Proximal
        Meta-Policy Search. ICLR 2019. https://arxiv.org/abs/1810.06784
    [2] J. Foerster, G. Farquhar, M. Al-Shedivat, T. Rocktaeschel, E. Xing, S.
        Whiteson. DiCE: The Infinitely Differentiable Monte Carlo Estimator.
        ICML 2018. https://arxiv.org/abs/1802.05098
    [3] J. Schulman, P. Moritz, S. Levine, M. Jordan, P. Abbeel.
        High-Dimensional Continuous Control Using Generalized Advantage
        Estimation. ICLR 2016. https://arxiv.org/abs/1506.02438
  """

  # Whether the outer loss has a divergence that a `TrustRegion` can bound.
  has_divergence = True
  # How many axes of particles stand before the axis of episodes: 0 or 1.
  particle_axes = 0

  def __init__(
    self,
    policy: keras.Model,
    environment: Environment,
    *,
    episodes: int = 20,
    inner_steps: int = 1,
    inner_learning_rate: float = 0.1,
    eval_inner_steps: int | None = None,
    later_step_factor: float = 1.0,
    credit: Surrogate = "lvc",
    credit_decay: float = 1.0,
    discount: float = 0.99,
    gae_decay: float = 1.0,
    distribution: str | Callable[..., Any] | None = None,
    seed: int = 0,
    **kwargs: Any,
  ):
    checks.check_keywords(kwargs)
    checks.check_settings(episodes, credit, credit_decay, discount, gae_decay)
    arguments.check_number("later_step_factor", later_step_factor, above=0)
    checks.check_environment(environment)
    super().__init__(
      policy,
      inner_steps=inner_steps,
      inner_learning_rate=inner_learning_rate,
      eval_inner_steps=eval_inner_steps,
      inner_loss=_UNUSED_LOSS,
      normalization="none",
      seed=seed,
      **kwargs,
    )
    self.environment = environment
    self.distribution = checks.resolve_distribution(distribution, environment)
    self.actions = actions.ActionDistribution(
      self.distribution, environment.actions
    )
    checks.check_policy(policy, environment, self.actions)
    self.episodes = episodes
    self.later_step_factor = later_step_factor
    self.credit: Surrogate = credit
    self.credit_decay = credit_decay
    self.discount = discount
    self.gae_decay = gae_decay
    # XLA cannot compile a simulator that runs outside of the graph.
    self.supports_jit = environment.in_graph
    self.trackers = outer.new_trackers()

  @property
  def policy(self) -> keras.Model:
    """The model that returns the parameters of the actions."""
    return self.model

  def action_parameters(
    self, weights: Weights, observations: tf.Tensor
  ) -> tf.Tensor:
    """Returns the parameters `[..., k]` of the actions of one task.

    Args:
      weights: One tensor for each of `policy.trainable_variables`.
      observations: `[..., *observation_shape]`.
    """
    shape = self.model.input_shape[1:]
    leading = observations.shape.rank - len(shape)
    rows = tf.reshape(observations, [-1, *shape])
    outputs, _ = functional.apply(
      self.model, weights, [], rows, training=False, exact=True
    )
    # Known lengths stay known to the graph.
    dynamic = tf.unstack(tf.shape(observations)[:leading])
    known = zip(observations.shape[:leading], dynamic, strict=True)
    lengths = [n if static is None else static for static, n in known]
    return tf.reshape(outputs, [*lengths, *outputs.shape[1:]])

  def example(self, episodes: Episodes) -> Example:
    """Returns the example of one inner step, from episodes of one task.

    Args:
      episodes: `[B, H, ...]`.
    """
    # What follows an episode must not become NaN in a gradient.
    episodes = cleaned(episodes)
    observations, rewards, mask = (
      episodes.observations,
      episodes.rewards,
      episodes.mask,
    )
    merits = returns.advantages(
      observations,
      rewards,
      mask,
      discount=self.discount,
      gae_decay=self.gae_decay,
    )
    decisions = Decisions(
      episodes.actions,
      episodes.parameters,
      mask,
      merits.advantages,
      merits.value,
    )
    constants = tf.nest.map_structure(tf.stop_gradient, decisions)
    return Example(tf.stop_gradient(observations), constants)

  def adapt(  # pyright: ignore[reportIncompatibleMethodOverride]
    self,
    episodes: Episodes | Sequence[Episodes],
    context: Context = EVALUATION,
  ) -> Any:
    """Adapts to one task, by one inner step for each set of episodes.

    Args:
      episodes: `Episodes` `[B, H, ...]` of one inner step, or a list with one
        for each step. The policy of each step should have acted its own.
      context: Which task and step this is; evaluation by default.

    Returns:
      The weights of the adapted policy, which `act` takes.

    Raises:
      TypeError: If `episodes` are none.
      ValueError: If a part of them has a wrong shape, an episode has no first
        step, or outside of a graph, if a number is not finite.
    """
    steps = [episodes] if isinstance(episodes, Episodes) else list(episodes)
    examples = [
      self.example(checks.checked_episodes(one, self)) for one in steps
    ]
    return self.adaptation_path(examples, context)[-1]

  def adaptation_path(  # pyright: ignore[reportIncompatibleMethodOverride]
    self, examples: Sequence[Example], context: Context = EVALUATION
  ) -> list[Any]:
    """Returns the weights of one task before and after each inner step.

    Args:
      examples: One `Example` for each inner step.
      context: Which task and step this is; evaluation by default.
    """
    path = [self.initial_weights()]
    for step, example in enumerate(examples):
      path.append(
        self.inner_step(path[-1], self.scaled(example, step), context)
      )
    return path

  def initial_weights(self) -> Any:
    """Returns the weights of the policy before adapting."""
    return functional.weights_of(self.model)

  def scaled(self, example: Example, step: int) -> Example:
    """Returns the example of an inner step, as `later_step_factor` weights it.

    The surrogates are linear in the advantages, so a factor of the advantages
    is a factor of the step size, for every learner.

    Args:
      example: The episodes of the step.
      step: Integer, the inner step, from 0 on.
    """
    if step == 0 or self.later_step_factor == 1:
      return example
    decisions = example.decisions
    merits = self.later_step_factor * decisions.advantages
    return Example(example.observations, decisions._replace(advantages=merits))

  def inner_step(
    self, weights: Any, example: Example, context: Context = EVALUATION
  ) -> Any:
    """Returns the weights of one task after one inner step.

    It is the inner step of the supervised learner, from `weights`.

    Args:
      weights: The weights of the policy that acted the episodes.
      example: The episodes of the step.
      context: Which task and step this is; evaluation by default.
    """
    variables = self.model.trainable_variables
    with functional.substituted(self, variables, weights):
      return super().adaptation_path(*example, context)[-1]

  def inner_steps_for(self, context: Context = EVALUATION) -> int:
    """Returns 1: each inner step has its own episodes and its own call."""
    del context
    return 1

  def adaptations_for(self, context: Context = EVALUATION) -> int:
    """Returns how many inner steps there are, in training or evaluation."""
    return super().inner_steps_for(context)

  def checked_support(self, support_x: Any, support_y: Any) -> tuple[Any, Any]:
    """Returns the support set: episodes were checked where they came in."""
    return support_x, support_y

  def support_loss(
    self,
    support_x: Any,
    support_y: Any,
    context: Context = EVALUATION,
  ) -> SupportLoss:
    """Returns the surrogate loss, a function of `(weights, step)`.

    Args:
      support_x: Observations `[B, H, *observation_shape]`.
      support_y: `Decisions` of the same steps.
      context: Which task and step this is; evaluation by default.
    """
    del context

    def loss_fn(weights: Weights, step: Any) -> tf.Tensor:
      del step
      new, acted = self.log_probs(
        self.action_parameters(weights, support_x), support_y
      )
      return surrogates.surrogate_loss(
        self.credit,
        new,
        acted,
        support_y.advantages,
        support_y.mask,
        credit_decay=self.credit_decay,
      )

    return loss_fn

  def log_probs(
    self, parameters: tf.Tensor, decisions: Decisions
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the log-probabilities of actions, now and when they were acted.

    Args:
      parameters: `[..., B, H, k]`, of the policy now.
      decisions: `Decisions`.

    Returns:
      Two tensors `[..., B, H]`.
    """
    actions = decisions.actions
    return (
      self.actions.log_prob(parameters, actions),
      self.actions.log_prob(decisions.parameters, actions),
    )

  def task_loss(  # pyright: ignore[reportIncompatibleMethodOverride]
    self,
    support: Sequence[Example],
    query: Example,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the outer loss of one task, and the policy's new parameters.

    Args:
      support: The example of each inner step.
      query: The example of the adapted policy.
      context: Which task and step this is; the first training step by default.

    Returns:
      A scalar, and parameters `[B, H, k]` for the observations of `query`.
    """
    weights = self.adaptation_path(support, context)[-1]
    outputs = self.query_parameters(weights, query.observations)
    return self.outer_loss(outputs, query.decisions), outputs

  def query_parameters(self, weights: Any, observations: tf.Tensor) -> Any:
    """Returns the parameters of the actions under adapted weights."""
    return self.action_parameters(weights, observations)

  def outer_loss(
    self, parameters: tf.Tensor, decisions: Decisions
  ) -> tf.Tensor:
    """Returns the importance-weighted surrogate of the return, a scalar.

    Args:
      parameters: `[..., B, H, k]`, of the adapted policy.
      decisions: Of the episodes that the adapted policy acted.
    """
    new, acted = self.log_probs(parameters, decisions)
    gains = tf.exp(new - acted) * decisions.advantages
    return -tf.reduce_sum(step_weights(decisions.mask) * gains)

  def mean_divergence(
    self, parameters: tf.Tensor, decisions: Decisions
  ) -> tf.Tensor:
    """Returns the mean over steps of `KL(policy that acted || policy now)`."""
    divergence = self.actions.divergence(decisions.parameters, parameters)
    return tf.reduce_sum(step_weights(decisions.mask) * divergence)

  def roll_out(self, tasks: Any, weights: Any, seeds: tf.Tensor) -> Episodes:
    """Acts episodes `[T, B, H, ...]` with the weights of each task.

    Args:
      tasks: Structure of tensors `[T, ...]`, as the environment yields it.
      weights: Structure of tensors `[T, ...]`: adapted weights of each task.
      seeds: Integers `[T, 2]`.
    """
    return acting.roll_out(self, tasks, weights, seeds)

  def act(self, weights: Any, observations: Any, seed: Any = None) -> tf.Tensor:
    """Returns actions for observations of one task.

    Args:
      weights: Weights returned by `adapt`.
      observations: `[n, *observation_shape]`.
      seed: Integers `[2]` with which actions are sampled. By default, the most
        likely actions are returned.

    Returns:
      `[n, a]` floats, or `[n]` integers.
    """
    observations = checks.checked_observations(observations, self)
    parameters = self.action_parameters(weights, observations)
    if seed is None:
      return self.actions.mode(parameters)
    seed = checks.checked_seed(seed)
    noise = self.actions.noise(seed, 1, len(observations))
    return self.actions.sample(parameters[tf.newaxis], noise)[0]

  def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
    """Returns the mean returns `[T, K + 1]` before and after each step."""
    tasks = checks.checked_tasks(inputs, self.environment)
    return outer.collect(self, tasks, EVALUATION).returns

  def improve(self, examples: tuple[Any, ...]) -> dict[str, tf.Tensor]:
    """Moves the initial weights, and returns metrics of the move.

    Args:
      examples: The arguments of `task_loss`, structures of tensors `[T, ...]`.
    """
    if isinstance(self.optimizer, trust_region.TrustRegion):
      return trust_region.improve(self, self.optimizer, examples)
    meta_loss, _ = outer_step.improve(self, examples)
    return {"meta_loss": meta_loss}

  def steps_made(self) -> tf.Tensor:
    """Returns how many training steps were made, an integer scalar."""
    return keras_internals.batches_seen(self.optimizer)

  def train_step(self, data: Any) -> dict[str, Any]:
    return outer.train(self, checks.checked_tasks(data, self.environment))

  def test_step(self, data: Any) -> dict[str, Any]:
    return outer.test(self, checks.checked_tasks(data, self.environment))

  def build_for_fit(self, targets: Any) -> None:
    checks.check_compiled(self)
    super().build_for_fit(None)

  def to_model(self, weights: Any) -> keras.Model:
    """Returns the policy with adapted weights, a plain Keras model.

    Args:
      weights: Weights returned by `adapt`.
    """
    return super().to_model(weights)

  def export(
    self, filepath: Any, format: str = "tf_saved_model", **kwargs: Any
  ) -> None:
    """Writes a SavedModel that acts and adapts without this library.

    Its signatures are `initial() -> weights`, `act(observations, **weights) ->
    {"parameters": ...}` and `adapt(observations, actions, rewards, mask,
    parameters, **weights) -> weights`, which makes one inner step. See
    `tfmeta.rl.export`.

    Args:
      filepath: Folder to write.
      format: `"tf_saved_model"`, the only format that can adapt.
      **kwargs: None; the signatures are fixed.
    """
    checks.check_export(format, kwargs)
    export.export_saved_model(self, filepath)

  def get_config(self) -> dict[str, Any]:
    config = super().get_config()
    for name in ("inner_loss", "inner_loss_reduction", "normalization"):
      del config[name]
    serialize = keras.saving.serialize_keras_object
    policy = config.pop("model")
    return {
      **config,
      "policy": policy,
      "environment": serialize(self.environment),
      "episodes": self.episodes,
      "later_step_factor": self.later_step_factor,
      "credit": self.credit,
      "credit_decay": self.credit_decay,
      "discount": self.discount,
      "gae_decay": self.gae_decay,
      "distribution": serialize(self.distribution),
    }

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "PolicyLearner":
    config = dict(config)
    for key in ("policy", "environment", "distribution"):
      config[key] = keras.saving.deserialize_keras_object(config[key])
    return cls(**config)
