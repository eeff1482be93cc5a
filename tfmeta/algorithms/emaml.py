"""EMAML (Yoon, Kim, Dia, Kim, Bengio, Ahn, 2018)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import probabilistic
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import inner_rule
from tfmeta.core import task_map
from tfmeta.layers import chosen_weights
from tfmeta.typing import Weights


@keras.saving.register_keras_serializable("tfmeta")
class EMAML(probabilistic.ParticleLearner):
  """Meta-learner that learns an ensemble: M sets of initial weights.

  Each set of weights, a particle, takes its own gradient steps on the support
  loss and learns from its own query loss. A prediction is the mean prediction
  of all particles. EMAML is the baseline of BMAML [1]:

      weights_m = theta_m, after inner_steps steps on the support loss
      minimize over all theta:  mean over tasks and m of query_loss(weights_m)

  Differences from the authors' code:
    - Query losses are averaged over particles. The authors sum them, which only
      scales the gradient.
    - The metrics measure the mean prediction, for EMAML and for BMAML alike.
      The authors report the mean of the particles' squared errors for EMAML,
      and the squared error of the mean prediction, which is never larger, for
      BMAML.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`, whose weights are the
      first particle; for classification, `[n, W]` logits.
    num_particles: Integer >= 1. Number M of particles. Defaults to 5.
    particle_weights: Weights of which each particle has its own values: `"all"`
      (default); `"head"`, the last layer with trainable weights; a list of
      layer names; or a function from a variable to a boolean. All particles
      start with the same values of the other weights, and each particle adapts
      its own copy of them.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. Defaults to 1.
    inner_learning_rate: Float > 0. Step size of the inner loop. Defaults to
      0.01.
    eval_inner_steps: Integer >= 0. Number of inner steps in `evaluate`,
      `predict`, `adapt` and exported models. Defaults to `inner_steps`.
    inner_loss: A Keras loss, its name, or a function `(y, y_pred) -> [n]`, for
      the support set and the query set. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    normalization: Which statistics batch normalization uses for query examples.
      `"transductive"`: the statistics of the query set itself.
      `"support_stats"`: the statistics of the support set under the adapted
      weights. `"none"`: the moving statistics of the model, which training does
      not update. Defaults to `"transductive"` if the model has batch
      normalization, else to `"none"`.
    first_order: Boolean. Whether the outer gradient treats the inner gradients
      as constants. Defaults to `False`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `ProbabilisticLearner` and `MetaLearner`:
      `noise_stddev` (float > 0: in regression, the standard deviation of
      targets around the outputs of one particle; 1.0 by default),
      `inner_loss_reduction`, `task_map`, `clipvalue`, `clipnorm`, the options
      of the inner loop `inner_optimizer`, `inner_clipnorm`,
      `support_batch_size` and `recompute_steps`, and `name` and `dtype` of the
      Keras model.

  References:
    [1] J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn. Bayesian
        Model-Agnostic Meta-Learning. NeurIPS 2018.
        https://arxiv.org/abs/1806.03836
    Released code: https://github.com/jsikyoon/bmaml
  """

  takes_weights = True
  inner_options = inner_rule.NAMES

  def __init__(
    self,
    model: keras.Model,
    *,
    num_particles: int = 5,
    particle_weights: chosen_weights.WeightChoice = "all",
    inner_steps: int = 1,
    inner_learning_rate: float = 0.01,
    eval_inner_steps: int | None = None,
    inner_loss: Any = None,
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
      normalization=normalization,
      seed=seed,
      **kwargs,
    )
    self.first_order = first_order
    if self.recompute_steps and num_particles > task_map.SAMPLES_WITHOUT_LOOP:
      raise ValueError(
        "`recompute_steps` needs particles that do not run in a loop, which "
        f"are at most {task_map.SAMPLES_WITHOUT_LOOP}. Received: "
        f"num_particles={num_particles}"
      )
    if not first_order:
      self.warn_if_inexact()

  def sampled_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor, context: Context
  ) -> list[Weights]:
    def path_of(*initial: tf.Tensor, context: Context) -> list[Weights]:
      return self.descend(
        support_x,
        support_y,
        [self.inner_learning_rate] * len(initial),
        initial=list(initial),
        first_order=self.first_order,
        context=context,
      )

    return self.for_each_sample(
      path_of, *self.initial_particles(), context=context
    )

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    adapted = self.adapt(support_x, support_y, context)
    outputs = self.predict_samples(adapted, query_x, context)
    query_losses = [
      self.query_loss(query_y, one, context) for one in tf.unstack(outputs)
    ]
    return tf.reduce_mean(query_losses), self.mean_prediction(outputs)

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "first_order": self.first_order}
