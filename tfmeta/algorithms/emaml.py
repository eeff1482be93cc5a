"""EMAML (Yoon, Kim, Dia, Kim, Bengio, Ahn, 2018)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import particles
from tfmeta.core import functional
from tfmeta.typing import Weights


@keras.saving.register_keras_serializable("tfmeta")
class EMAML(particles.ParticleLearner):
  """An ensemble of MAMLs: M initial weights, learned without coupling.

  Each particle adapts by gradient steps of its own on the support loss, and
  learns from its own query loss; predictions are means over particles. It is
  what BMAML is compared with [1]:

      weights_m = theta_m, after inner_steps steps on the support loss
      minimise over all theta:  mean over tasks and m of query_loss(weights_m)

  Differences from the authors' code:
    - Query losses are averaged over particles; theirs are summed, which only
      scales the gradient.
    - Their evaluation reports the mean of the particles' errors, and for BMAML
      the error of the mean prediction, which is never larger. Here both
      learners are measured alike, by their mean prediction.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`; its weights are the
      first particle.
    num_particles: Integer >= 1, M.
    particle_weights: Which weights each particle has of its own: `"all"`;
      `"head"`; a list of names of layers; or a function from a variable to a
      boolean. The others begin alike in all particles, and each adapts them
      for itself.
    first_order: Boolean. Whether the gradients of the inner loop are taken for
      constants by the outer one.
    **kwargs: Those of `MetaLearner`, and `noise_stddev`, the standard deviation
      of targets around the outputs of one particle.

  References:
    [1] J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn. Bayesian
        Model-Agnostic Meta-Learning. NeurIPS 2018.
        https://arxiv.org/abs/1806.03836
    Released code: https://github.com/jsikyoon/bmaml
  """

  def __init__(
    self, model: keras.Model, *, first_order: bool = False, **kwargs: Any
  ):
    super().__init__(model, **kwargs)
    self.first_order = first_order
    if not first_order:
      self.warn_if_inexact()

  def drawn_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    def path_of(*initial: tf.Tensor) -> list[Weights]:
      return self.descend(
        support_x,
        support_y,
        [self.inner_learning_rate] * len(initial),
        initial=list(initial),
        first_order=self.first_order,
      )

    return self.for_each_sample(path_of, *self.initial_particles())

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    with self.in_training():
      adapted = self.adapt(support_x, support_y)
    outputs = self.predict_samples(adapted, query_x)
    losses = [
      functional.reduced_loss(self.inner_loss, query_y, one)
      for one in tf.unstack(outputs)
    ]
    return tf.reduce_mean(losses), self.mean_prediction(outputs)

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "first_order": self.first_order}
