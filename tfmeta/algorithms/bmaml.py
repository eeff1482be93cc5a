"""BMAML (Yoon, Kim, Dia, Kim, Bengio, Ahn, 2018)."""

import math
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta import packages
from tfmeta.algorithms import probabilistic
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import example_weights
from tfmeta.core import inner_loop
from tfmeta.core import inner_rule
from tfmeta.core import losses
from tfmeta.core import svgd
from tfmeta.layers import chosen_weights
from tfmeta.typing import Reduction
from tfmeta.typing import Weights

_OWN_ARGUMENTS = (
  "meta_loss",
  "leader_steps",
  "prior",
  "repulsion_scale",
  "stop_bandwidth",
  "first_order",
)

# Concentration and rate of the Gamma priors in the released code.
_HYPERPRIORS = {
  "log_weight_precision": (2.0, 2.0),
  "log_noise_precision": (2.0, 0.2),
}


@keras.saving.register_keras_serializable("tfmeta")
class BMAML(probabilistic.ParticleLearner):
  """Meta-learner that moves particles by Stein variational gradient descent.

  BMAML learns M sets of initial weights, the particles. On a support set, each
  particle follows the gradients of the log-posterior at all particles, weighted
  by a kernel, and the particles repel each other. Together they approximate a
  posterior over weights [1]:

      particles = initial particles
      repeat inner_steps times:
        particles += inner_learning_rate * svgd_direction(particles, gradients
                       of log p(support | weights) + log p(weights))

  The particles after these steps are the chaser. `meta_loss="chaser"` pulls
  them toward the leader: the same particles after `leader_steps` more steps, on
  the support set and the query set together. The outer gradient treats the
  leader as a constant. The loss is the squared distance between the weights of
  both; precisions do not count. `meta_loss="nll"` averages the likelihood of
  the query set over particles. The loss is the negative logarithm of this mean,
  divided by the number of queries.

  Differences from the authors' code:
    - `repulsion_scale=1.0` uses the exact gradient of the kernel. The authors
      use half of it (0.5), which halves the variance that the particles settle
      to.
    - The median distance, which sets the bandwidth, leaves out the distances of
      particles to themselves.
    - Weights that are not particle-specific follow the mean of the gradients,
      and they count once per particle in the squared distance.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`, whose weights are the
      first particle; for classification, `[n, W]` logits.
    num_particles: Integer >= 1. Number M of particles. A single particle has no
      kernel and ascends the gradient of the log-posterior. Defaults to 5.
    particle_weights: Weights of which each particle has its own values: `"all"`
      (default); `"head"`, the last layer with trainable weights; a list of
      layer names; or a function from a variable to a boolean. The kernel
      compares particles by these weights. The paper uses `"head"` for images.
    meta_loss: Loss that training minimizes: `"chaser"` (default) or `"nll"`.
    leader_steps: Integer >= 1. Number of steps from the chaser to the leader.
      Defaults to 1.
    prior: `"hierarchical"`: weights have a Gaussian prior, whose precision has
      a Gamma(2, 2) prior. Regression targets have a Gaussian likelihood, whose
      precision has a Gamma(2, 0.2) prior; this likelihood replaces the inner
      loss. Each particle has its own values of the precisions. `"flat"`: there
      is no prior, and the likelihood is the exponential of the negative inner
      loss. Defaults to `"hierarchical"` for `inner_loss="mse"`, else to
      `"flat"`.
    repulsion_scale: Float >= 0. Factor of the repulsion. Defaults to 1.0.
    stop_bandwidth: Boolean. Whether the outer gradient treats the bandwidth of
      the kernel as a constant. Defaults to `True`.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. Defaults to 1.
    inner_learning_rate: Float > 0. Step size of the inner loop. Defaults to
      0.01.
    eval_inner_steps: Integer >= 0. Number of inner steps in `evaluate`,
      `predict`, `adapt` and exported models. Defaults to `inner_steps`.
    inner_loss: A Keras loss, its name, or a function `(y, y_pred) -> [n]`, for
      the support set and the query set. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    inner_loss_reduction: How the inner loss is reduced over the support set
      under a flat prior: `"sum"` (default, because the likelihood of a set is a
      product), `"mean"` or `"sum_over_ways"` (the sum divided by the shots).
    normalization: Which statistics batch normalization uses for query examples.
      `"transductive"`: the statistics of the query set itself.
      `"support_stats"`: the statistics of the support set under the adapted
      weights. `"none"`: the moving statistics of the model, which training does
      not update. Defaults to `"transductive"` if the model has batch
      normalization, else to `"none"`.
    first_order: Boolean. Whether the outer gradient treats the gradients of the
      log-posterior as constants. Defaults to `False`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `ProbabilisticLearner` and `MetaLearner`:
      `noise_stddev` (float > 0: in regression under a flat prior, the standard
      deviation of targets around the outputs of one particle; 1.0 by default),
      `task_map`, `clipvalue`, `clipnorm`, and `name` and `dtype` of the Keras
      model.

  Raises:
    ImportError: If the prior is hierarchical and TensorFlow Probability is not
      installed.

  References:
    [1] J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn. Bayesian
        Model-Agnostic Meta-Learning. NeurIPS 2018.
        https://arxiv.org/abs/1806.03836
    Released code: https://github.com/jsikyoon/bmaml
  """

  takes_weights = True

  def __init__(
    self,
    model: keras.Model,
    *,
    num_particles: int = 5,
    particle_weights: chosen_weights.WeightChoice = "all",
    meta_loss: str = "chaser",
    leader_steps: int = 1,
    prior: str | None = None,
    repulsion_scale: float = 1.0,
    stop_bandwidth: bool = True,
    inner_steps: int = 1,
    inner_learning_rate: float = 0.01,
    eval_inner_steps: int | None = None,
    inner_loss: Any = None,
    inner_loss_reduction: Reduction = "sum",
    normalization: str | None = None,
    first_order: bool = False,
    seed: int = 0,
    **kwargs: Any,
  ):
    super().__init__(
      model,
      num_particles=num_particles,
      particle_weights=particle_weights,
      inner_steps=inner_steps,
      inner_learning_rate=inner_learning_rate,
      eval_inner_steps=eval_inner_steps,
      inner_loss=inner_loss,
      inner_loss_reduction=inner_loss_reduction,
      normalization=normalization,
      seed=seed,
      **kwargs,
    )
    arguments.check_choice("meta_loss", meta_loss, ("chaser", "nll"))
    arguments.check_integer("leader_steps", leader_steps, least=1)
    arguments.check_number("repulsion_scale", repulsion_scale, least=0)
    self.meta_loss = meta_loss
    self.leader_steps = leader_steps
    self.prior = self._resolve_prior(prior)
    self.repulsion_scale = repulsion_scale
    self.stop_bandwidth = stop_bandwidth
    self.first_order = first_order
    self.log_precisions = self._log_precisions()
    if not first_order:
      self.warn_if_inexact()

  def sampled_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor, context: Context
  ) -> list[Any]:
    path = self._particle_path(support_x, support_y, context)
    return [self._packed(flat, support_x, context) for flat in path]

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    chaser = self._particle_path(support_x, support_y, context)[-1]
    weights = self._packed(chaser, support_x, context)
    outputs = self.predict_samples(weights, query_x, context)
    if self.meta_loss == "chaser":
      # The leader sees the query labels too, so it is closer to the posterior.
      x = tf.nest.map_structure(
        lambda *parts: tf.concat(parts, axis=0), support_x, query_x
      )
      y = tf.concat([support_y, tf.cast(query_y, support_y.dtype)], axis=0)
      weight = example_weights.both(
        context.support_weight, support_y, context.query_weight, query_y
      )
      of_both = context.replace(support_weight=weight, features=None)
      of_both = of_both.with_features(self.model, x)
      loss = self._distance_to_leader(chaser, x, y, of_both)
    else:
      _, precisions = self._parted(chaser)
      loss = mixture_loss(
        self.inner_loss, query_y, outputs, precisions, context.query_weight
      )
    return loss, self.mean_prediction(outputs)

  def predict_samples(
    self, weights: Any, x: tf.Tensor, context: Context = EVALUATION
  ) -> tf.Tensor:
    return super().predict_samples(weights["weights"], x, context)

  def to_model(self, weights: Any) -> keras.Model:
    return super().to_model(weights["weights"])

  def noise_stddevs(
    self, weights: Any, given: float | None = None
  ) -> tf.Tensor:
    if given is not None or "log_noise_precision" not in weights:
      return super().noise_stddevs(weights, given)
    return tf.exp(-weights["log_noise_precision"] / 2)

  def get_config(self) -> dict[str, Any]:
    own = {name: getattr(self, name) for name in _OWN_ARGUMENTS}
    return {**super().get_config(), **own}

  def _resolve_prior(self, prior: str | None) -> str:
    """Returns the prior, after checking that it fits the inner loss."""
    squared = isinstance(self.inner_loss, keras.losses.MeanSquaredError)
    prior = prior or ("hierarchical" if squared else "flat")
    arguments.check_choice("prior", prior, ("hierarchical", "flat"))
    labels = self.target_kind is losses.Targets.LABELS
    if prior == "hierarchical" and not (squared or labels):
      raise ValueError(
        "`prior='hierarchical'` needs inner_loss='mse', which its Gaussian "
        "likelihood replaces, or a loss of integer labels: use prior='flat' "
        f"with another loss. Received: inner_loss={self.inner_loss!r}"
      )
    if prior == "hierarchical":
      packages.probability()
    return prior

  def _log_precisions(self) -> dict[str, Any]:
    """Creates variables `[M]` by name; there are none under a flat prior."""
    if self.prior == "flat":
      return {}
    return {
      name: self.add_weight(
        shape=(self.num_particles,),
        initializer=keras.initializers.RandomNormal(mean, 1e-3),
        dtype=self.model.trainable_variables[0].dtype,
        name=name,
      )
      for name, mean in initial_log_precisions(self.target_kind).items()
    }

  def _packed(
    self, flat: Weights, support_x: tf.Tensor, context: Context
  ) -> Any:
    """Returns the structure that `predict_with` takes.

    It is a dict with the weights and, by name, the log-precisions.
    """
    weights, log_precisions = self._parted(flat)
    if context.normalization_of(self) == "support_stats":
      weights = self.for_each_sample(
        lambda w: self.with_statistics(w, support_x, context), weights
      )
    return {"weights": weights, **log_precisions}

  def _parted(self, flat: Weights) -> tuple[Weights, dict[str, tf.Tensor]]:
    """Returns the weights, and the log-precisions by name."""
    count = len(self.specific)
    named = zip(self.log_precisions, flat[count:], strict=True)
    return flat[:count], dict(named)

  def _particle_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor, context: Context
  ) -> list[Weights]:
    precisions = map(tf.convert_to_tensor, self.log_precisions.values())
    initial = [*self.initial_particles(), *precisions]
    steps = self.inner_steps_for(context)
    return self._move(initial, support_x, support_y, steps, context)

  def _distance_to_leader(
    self, chaser: Weights, x: tf.Tensor, y: tf.Tensor, context: Context
  ) -> tf.Tensor:
    """Returns the squared distance of the weights from the leader's weights."""
    ends = (chaser, self._leader(chaser, x, y, context))
    return svgd.squared_distance(*(self._parted(flat)[0] for flat in ends))

  def _leader(
    self, chaser: Weights, x: tf.Tensor, y: tf.Tensor, context: Context
  ) -> Weights:
    # The loss must move the chaser toward the leader. A gradient through the
    # leader would also move the leader toward the chaser.
    start = [tf.stop_gradient(t) for t in chaser]
    taken = self.inner_steps_for(context)
    path = self._move(start, x, y, self.leader_steps, context, taken=taken)
    return [tf.stop_gradient(t) for t in path[-1]]

  def _move(
    self,
    particles: Weights,
    x: tf.Tensor,
    y: tf.Tensor,
    steps: int,
    context: Context,
    *,
    taken: int = 0,
  ) -> list[Weights]:
    """Returns the particles before and after each step up the log-posterior.

    Args:
      particles: Tensors `[M, ...]`.
      x: Examples, `[n, ...]`.
      y: Targets, `[n, ...]`.
      steps: Number of steps.
      context: Task, step and mode of the call.
      taken: Number of steps that the particles have already taken. Random
        layers then use new random numbers in the further steps. Defaults to 0.
    """
    x, y = self.checked_support(x, y)

    def gradients_of_one(
      step: tf.Tensor, *particle: tf.Tensor, context: Context
    ) -> Weights:
      return inner_loop.gradients_of(
        lambda one: self._log_posterior(one, step, x, y, context),
        list(particle),
        first_order=self.first_order,
      )

    gradients_of_each = self.sample_map(gradients_of_one, context=context)

    def step_fn(step: Any, particles: Weights) -> Weights:
      # The kernel couples the particles, so all gradients are known before any
      # particle moves.
      steps = tf.fill([self.num_particles], step + taken)
      gradients = gradients_of_each(steps, *particles)
      return self._moved(particles, gradients)

    return inner_loop.run_inner_loop(
      step_fn,
      particles,
      steps,
      unroll=self.unrolls(context),
      share=inner_rule.shares_steps(self, context),
    )

  def _moved(self, particles: Weights, gradients: Weights) -> Weights:
    # Each particle has its own precisions, so the kernel compares them too.
    return svgd.svgd_step(
      particles,
      gradients,
      [*self.specific, *[True] * len(self.log_precisions)],
      self.inner_learning_rate,
      repulsion_scale=self.repulsion_scale,
      stop_bandwidth=self.stop_bandwidth,
    )

  def _log_posterior(
    self,
    particle: Weights,
    step: Any,
    x: tf.Tensor,
    y: tf.Tensor,
    context: Context,
  ) -> tf.Tensor:
    """Returns the log-posterior of one particle, up to a constant."""
    weights, precisions = self._parted(particle)
    outputs = self.training_outputs(weights, step, x, context)
    if self.prior == "flat":
      return -self.reduce_support(y, outputs, context)
    return log_prior(weights, precisions) + log_likelihood(
      self.inner_loss, y, outputs, precisions, context.support_weight
    )


def initial_log_precisions(kind: losses.Targets) -> dict[str, float]:
  """Returns the initial log-precisions of the released code, by name.

  A precision is an inverse variance. The particles hold its logarithm, so no
  step can make the precision negative. Only regression has a precision of the
  noise. It starts at 100, which is a variance of 0.01.
  """
  values = {"log_weight_precision": 0.0}
  if kind is not losses.Targets.LABELS:
    values["log_noise_precision"] = -math.log(0.01)
  return values


def log_prior(weights: Weights, log_precisions: dict[str, Any]) -> tf.Tensor:
  """Returns the log-density of weights and precisions, a scalar.

  Args:
    weights: List of tensors.
    log_precisions: Scalars by name: `log_weight_precision` and, in regression,
      `log_noise_precision`. If there are none, the density is constant and the
      result is 0.
  """
  if not log_precisions:
    return tf.zeros([], weights[0].dtype)
  logs = tf.stack(list(log_precisions.values()))
  hyperpriors = [_HYPERPRIORS[name] for name in log_precisions]
  of_precisions = tf.reduce_sum(
    log_gamma(logs, *zip(*hyperpriors, strict=True))
  )
  flat = tf.concat([tf.reshape(w, [-1]) for w in weights], axis=0)
  stddev = tf.exp(-log_precisions["log_weight_precision"] / 2)
  return of_precisions + _log_density(flat, tf.zeros_like(stddev), stddev)


def log_gamma(
  log_precision: tf.Tensor, concentration: Any, rate: Any
) -> tf.Tensor:
  """Returns the log-density of the logarithm of a Gamma variable.

  It includes the Jacobian of the logarithm, because the particles move in the
  space of log-precisions and follow the gradient of the density there.

  Args:
    log_precision: Tensor, the logarithm of the variable.
    concentration: Number or tuple of numbers that broadcasts to
      `log_precision`.
    rate: Number or tuple of numbers that broadcasts to `log_precision`.

  Returns:
    A tensor of the shape of `log_precision`.
  """
  probability = packages.probability()
  gamma = probability.distributions.Gamma(
    tf.constant(concentration, log_precision.dtype),
    tf.constant(rate, log_precision.dtype),
  )
  bijectors = probability.bijectors
  return probability.distributions.TransformedDistribution(
    gamma, bijectors.Invert(bijectors.Exp())
  ).log_prob(log_precision)


def log_likelihood(
  loss: Any,
  y: tf.Tensor,
  outputs: tf.Tensor,
  log_precisions: dict[str, Any],
  weight: tf.Tensor | None = None,
) -> tf.Tensor:
  """Returns the log-density of a whole set of targets, a scalar.

  Args:
    loss: Inner loss. Its negative is the log-density of one target, unless
      there is a precision of the noise.
    y: Targets, `[n, ...]`.
    outputs: Outputs of one particle, `[n, ...]`.
    log_precisions: Scalars by name. If they contain `log_noise_precision`,
      targets are Gaussian around the outputs.
    weight: Weights `[n]` of the targets, or `None`.
  """
  if "log_noise_precision" in log_precisions:
    stddev = tf.exp(-log_precisions["log_noise_precision"] / 2)
    return _log_density(y, outputs, stddev, weight)
  return -losses.reduced_loss(loss, y, outputs, reduction="sum", weight=weight)


def mixture_loss(
  loss: Any,
  y: tf.Tensor,
  outputs: tf.Tensor,
  log_precisions: dict[str, Any],
  weight: tf.Tensor | None = None,
) -> tf.Tensor:
  """Returns the negative log of the mean likelihood over particles, per target.

  Args:
    loss: Inner loss. Its negative is the log-density of one target, unless
      there is a precision of the noise.
    y: Targets, `[n, ...]`.
    outputs: Outputs of all particles, `[M, n, ...]`.
    log_precisions: Tensors `[M]` by name. If they contain
      `log_noise_precision`, targets are Gaussian around the outputs.
    weight: Weights `[n]` of the targets, or `None`.
  """

  def of_one(place: int, one: tf.Tensor) -> tf.Tensor:
    precisions = {k: v[place] for k, v in log_precisions.items()}
    return log_likelihood(loss, y, one, precisions, weight)

  logs = [of_one(place, one) for place, one in enumerate(tf.unstack(outputs))]
  dtype = logs[0].dtype
  if weight is None:
    targets = tf.cast(tf.shape(y)[0], dtype)
  else:
    targets = tf.reduce_sum(tf.cast(weight, dtype))
  return tf.math.divide_no_nan(-losses.log_mean_exp(tf.stack(logs)), targets)


def _log_density(
  values: tf.Tensor, mean: tf.Tensor, stddev: tf.Tensor, weight: Any = None
) -> tf.Tensor:
  """Returns the Gaussian log-density, summed over all `values`.

  Args:
    values: `[n, ...]`.
    mean: Means that broadcast to `values`.
    stddev: Standard deviations that broadcast to `values`.
    weight: Weights `[n]`, or `None`: all count the same.
  """
  normal = packages.probability().distributions.Normal(mean, stddev)
  logs = normal.log_prob(values)
  if weight is not None:
    axes = [1] * (logs.shape.rank - 1)
    logs *= tf.cast(tf.reshape(weight, [-1, *axes]), logs.dtype)
  return tf.reduce_sum(logs)
