"""BMAML (Yoon, Kim, Dia, Kim, Bengio, Ahn, 2018)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import losses
from tfmeta.algorithms import particles
from tfmeta.algorithms import settings
from tfmeta.core import inner_loop
from tfmeta.core import posterior
from tfmeta.core import svgd
from tfmeta.typing import Weights

_SETTINGS = (
  "meta_loss",
  "leader_steps",
  "prior",
  "repulsion_scale",
  "stop_bandwidth",
  "first_order",
)


@keras.saving.register_keras_serializable("tfmeta")
class BMAML(particles.ParticleLearner):
  """MAML whose inner loop moves particles by Stein variational descent.

  M initial weights are learned. On a support set, particles follow the gradient
  of the log-posterior, shared by a kernel, and repel each other, so that they
  come to stand for a posterior over weights [1]:

      particles = initial particles
      repeat inner_steps times:
        particles += inner_learning_rate * svgd_direction(particles, gradients
                       of log p(support | weights) + log p(weights))

  With `meta_loss="chaser"` these are pulled towards the leader, the particles
  after `leader_steps` more steps on support and query set together, which is a
  constant to the gradient; the loss is the squared distance of their weights
  (not of the noise, which is not fitted then). With `"nll"` it is the negative
  log of the mean over particles of the likelihood of the query set, per query.

  Differences from the authors' code:
    - `repulsion_scale=1.0` is the exact gradient of the kernel; theirs is half
      of it (0.5), which halves the variance that the particles settle to.
    - The median of the bandwidth leaves out a particle's distance from itself.
    - Weights that are not particle-specific follow the mean of the gradients,
      and count once per particle in the distance.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`; its weights are the
      first particle.
    num_particles: Integer >= 1, M. With one, there is no kernel: it is gradient
      ascent on the log-posterior.
    particle_weights: As for `EMAML`; the kernel compares particles by these.
      The paper has `"head"` for images.
    meta_loss: `"chaser"` or `"nll"`.
    leader_steps: Integer >= 1.
    prior: `"hierarchical"`: weights are Gaussian with a precision of Gamma(2,
      2), and in regression targets with one of Gamma(2, 0.2); both precisions
      are particles too. `"flat"`: no prior; the likelihood is the exponential
      of the negative inner loss. By default hierarchical for `"mse"`, which it
      replaces by a Gaussian likelihood, and flat otherwise.
    repulsion_scale: Float >= 0.
    stop_bandwidth: Boolean. Whether the outer gradient takes the bandwidth of
      the kernel for a constant.
    first_order: Boolean. Whether it takes the gradients of the log-posterior
      for constants.
    inner_loss_reduction: As for `MetaLearner`, under a flat prior; the
      likelihood of a support set is a product, so by default `"sum"`.
    **kwargs: Those of `EMAML`; `noise_stddev` is for a flat prior.

  References:
    [1] J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn. Bayesian
        Model-Agnostic Meta-Learning. NeurIPS 2018.
        https://arxiv.org/abs/1806.03836
    Released code: https://github.com/jsikyoon/bmaml
  """

  def __init__(
    self,
    model: keras.Model,
    *,
    meta_loss: str = "chaser",
    leader_steps: int = 1,
    prior: str | None = None,
    repulsion_scale: float = 1.0,
    stop_bandwidth: bool = True,
    first_order: bool = False,
    inner_loss_reduction: Any = "sum",
    **kwargs: Any,
  ):
    super().__init__(model, inner_loss_reduction=inner_loss_reduction, **kwargs)
    settings.check_choice("meta_loss", meta_loss, ("chaser", "nll"))
    settings.check_positive("leader_steps", leader_steps)
    settings.check_not_negative("repulsion_scale", repulsion_scale)
    gaussian = isinstance(self.inner_loss, keras.losses.MeanSquaredError)
    prior = prior or ("hierarchical" if gaussian else "flat")
    losses.check_prior(prior, self.inner_loss)
    self.meta_loss = meta_loss
    self.leader_steps = leader_steps
    self.prior = prior
    self.repulsion_scale = repulsion_scale
    self.stop_bandwidth = stop_bandwidth
    self.first_order = first_order
    self.log_precisions = self._log_precisions()
    if not first_order:
      self.warn_if_inexact()

  def drawn_path(self, support_x: tf.Tensor, support_y: tf.Tensor) -> list[Any]:
    path = self._particle_path(support_x, support_y)
    return [self._packed(flat, support_x) for flat in path]

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    with self.in_training():
      chaser = self._particle_path(support_x, support_y)[-1]
      weights = self._packed(chaser, support_x)
      if self.meta_loss == "chaser":
        x = tf.concat([support_x, query_x], axis=0)
        y = tf.concat([support_y, tf.cast(query_y, support_y.dtype)], axis=0)
        loss = self._distance_to_leader(chaser, x, y)
    outputs = self.predict_samples(weights, query_x)
    if self.meta_loss == "nll":
      _, precisions = self._parted(chaser)
      loss = posterior.mixture_loss(
        self.inner_loss, query_y, outputs, precisions
      )
    return loss, self.mean_prediction(outputs)

  def predict_samples(self, weights: Any, x: tf.Tensor) -> tf.Tensor:
    return super().predict_samples(weights["weights"], x)

  def to_model(self, weights: Any) -> keras.Model:
    return super().to_model(weights["weights"])

  def noise_stddevs(
    self, weights: Any, given: float | None = None
  ) -> tf.Tensor:
    if given is not None or "log_noise_precision" not in weights:
      return super().noise_stddevs(weights, given)
    return tf.exp(-weights["log_noise_precision"] / 2)

  def get_config(self) -> dict[str, Any]:
    own = {name: getattr(self, name) for name in _SETTINGS}
    return {**super().get_config(), **own}

  def _log_precisions(self) -> dict[str, Any]:
    """Variables `[M]` by name; none under a flat prior."""
    if self.prior == "flat":
      return {}
    return {
      name: self.add_weight(
        shape=(self.num_particles,),
        initializer=keras.initializers.RandomNormal(mean, 1e-3),
        dtype=self.model.trainable_variables[0].dtype,
        name=name,
      )
      for name, mean in posterior.initial_values(self.inner_loss).items()
    }

  def _packed(self, flat: Weights, support_x: tf.Tensor) -> Any:
    """What `predict_with` takes: weights and log-precisions by name."""
    weights, log_precisions = self._parted(flat)
    if self.normalization == "support_stats":
      weights = self.for_each_sample(
        lambda w: self.with_statistics(w, support_x), weights
      )
    return {"weights": weights, **log_precisions}

  def _parted(self, flat: Weights) -> tuple[Weights, dict[str, tf.Tensor]]:
    """Weights, and log-precisions by name."""
    count = len(self.specific)
    named = zip(self.log_precisions, flat[count:], strict=True)
    return flat[:count], dict(named)

  def _particle_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    precisions = map(tf.convert_to_tensor, self.log_precisions.values())
    initial = [*self.initial_particles(), *precisions]
    return self._move(initial, support_x, support_y, self.steps)

  def _distance_to_leader(
    self, chaser: Weights, x: tf.Tensor, y: tf.Tensor
  ) -> tf.Tensor:
    """Squared distance of the weights; precisions do not count."""
    ends = (chaser, self._leader(chaser, x, y))
    return svgd.squared_distance(*(self._parted(flat)[0] for flat in ends))

  def _leader(self, chaser: Weights, x: tf.Tensor, y: tf.Tensor) -> Weights:
    start = [tf.stop_gradient(t) for t in chaser]
    path = self._move(start, x, y, self.leader_steps, taken=self.steps)
    return [tf.stop_gradient(t) for t in path[-1]]

  def _move(
    self,
    particles: Weights,
    x: tf.Tensor,
    y: tf.Tensor,
    steps: int,
    *,
    taken: int = 0,
  ) -> list[Weights]:
    """Particles before, between and after steps up the log-posterior."""
    x, y = self.checked_support(x, y)

    def step_fn(step: Any, particles: Weights) -> Weights:
      gradients = self.for_each_sample(
        lambda *particle: inner_loop.gradients_of(
          lambda one: self._log_posterior(one, step + taken, x, y),
          list(particle),
          first_order=self.first_order,
        ),
        *particles,
      )
      return self._moved(particles, gradients)

    return inner_loop.run_inner_loop(
      step_fn, particles, steps, unroll=self.unroll
    )

  def _moved(self, particles: Weights, gradients: Weights) -> Weights:
    return svgd.svgd_step(
      particles,
      gradients,
      [*self.specific, *[True] * len(self.log_precisions)],
      self.inner_learning_rate,
      repulsion_scale=self.repulsion_scale,
      stop_bandwidth=self.stop_bandwidth,
    )

  def _log_posterior(
    self, particle: Weights, step: Any, x: tf.Tensor, y: tf.Tensor
  ) -> tf.Tensor:
    """That of one particle, up to a constant."""
    weights, precisions = self._parted(particle)
    outputs = self.training_outputs(weights, step, x)
    if self.prior == "flat":
      return -self.reduce_support(y, outputs)
    return posterior.log_prior(weights, precisions) + posterior.log_likelihood(
      self.inner_loss, y, outputs, precisions
    )
