"""Meta-SGD (Li, Zhou, Chen, Li, 2017)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import layers
from tfmeta.algorithms import meta_learner
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context
from tfmeta.typing import Weights


@keras.saving.register_keras_serializable("tfmeta")
class MetaSGD(meta_learner.MetaLearner):
  """Meta-learner that learns initial weights and a learning rate for each one.

  The rates have the shapes of the weights. The outer optimizer learns them
  together with the weights, so they determine both the direction and the length
  of an inner step [1]:

      weights = theta - rates * grad(support_loss)(theta)
      minimize over theta and rates:  mean over tasks of query_loss(weights)

  Differences from the paper (the authors published no code):
    - All rates start at `inner_learning_rate`. In the paper, they start at one
      value sampled from [0.005, 0.1].
    - There may be more than one inner step. All steps use the same rates.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`; for classification,
      `[n, W]` logits.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. Defaults to 1.
    inner_learning_rate: Float > 0. Initial value of all rates. Defaults to
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
      as constants. The rates are learned in both cases. Defaults to `False`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `inner_loss_reduction`, `task_map`,
      `clipvalue`, `clipnorm`, and `name` and `dtype` of the Keras model.

  References:
    [1] Z. Li, F. Zhou, F. Chen, H. Li. Meta-SGD: Learning to Learn Quickly for
        Few-Shot Learning. 2017. https://arxiv.org/abs/1707.09835
  """

  takes_weights = True

  def __init__(
    self,
    model: keras.Model,
    *,
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
      inner_steps=inner_steps,
      inner_learning_rate=inner_learning_rate,
      eval_inner_steps=eval_inner_steps,
      inner_loss=inner_loss,
      normalization=normalization,
      seed=seed,
      **kwargs,
    )
    self.first_order = first_order
    variables = model.trainable_variables
    self.learned_rates = layers.LearnedRates(
      [variable.shape for variable in variables],
      initial_rate=inner_learning_rate,
      names=[variable.path for variable in variables],
      dtype=variables[0].dtype,
      name="learned_rates",
    )
    if not first_order:
      self.warn_if_inexact()

  def adaptation_path(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> list[Weights]:
    return self.descend(
      support_x,
      support_y,
      self.learned_rates.at,
      first_order=self.first_order,
      context=context,
    )

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "first_order": self.first_order}
