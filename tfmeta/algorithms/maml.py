"""MAML and first-order MAML (Finn, Abbeel, Levine, 2017)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import meta_learner
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context
from tfmeta.core import inner_rule
from tfmeta.typing import Weights


@keras.saving.register_keras_serializable("tfmeta")
class MAML(meta_learner.MetaLearner):
  """Meta-learner that learns initial weights for a few inner gradient steps.

  For each task, `inner_steps` gradient steps on the support loss turn the
  initial weights `theta` into adapted weights. Training minimizes the query
  loss of the adapted weights. It differentiates this loss with respect to
  `theta`, through the inner steps [1]:

      weights = theta
      repeat inner_steps times:
        weights = weights - inner_learning_rate * grad(support_loss)(weights)
      minimize over theta:  mean over tasks of query_loss(weights)

  Differences from the authors' code:
    - The inner loss is a mean over the support examples. The authors use the
      sum divided by the shots, which is `inner_loss_reduction="sum_over_ways"`.
      With `"mean"`, multiply their inner learning rate by the ways.
    - The inner loop adapts all trainable weights, including the scales and
      shifts of normalization layers. The authors' normalization has no scale,
      and its shift is learned but not adapted. `ANIL(model, adapted=...)`
      chooses the adapted weights.
    - By default, the outer gradient is not clipped. The authors clip it for
      miniImageNet, as `clipvalue=10` does.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`; for classification,
      `[n, W]` logits.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. Defaults to 1.
    inner_learning_rate: Float > 0. Step size of the inner loop, alpha in [1].
      Defaults to 0.01.
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
      as constants; `FOMAML` is this learner with `True`. Defaults to `False`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `inner_loss_reduction`, `task_map`,
      `clipvalue`, `clipnorm`, the options of the inner loop `inner_optimizer`,
      `inner_clipnorm`, `support_batch_size` and `recompute_steps`, and `name`
      and `dtype` of the Keras model.

  Example:
  ```python
  learner = tfmeta.MAML(tfmeta.models.conv4((28, 28, 1), ways=5),
                        inner_steps=1, inner_learning_rate=0.4)
  learner.compile(optimizer=keras.optimizers.Adam(1e-3), metrics=["accuracy"])
  learner.fit(tasks.batch(32), steps_per_epoch=500, epochs=10)
  ```

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017.
        https://arxiv.org/abs/1703.03400
    Released code: https://github.com/cbfinn/maml
  """

  takes_weights = True
  inner_options = inner_rule.NAMES

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
      [self.inner_learning_rate] * len(self.model.trainable_variables),
      first_order=self.first_order,
      context=context,
    )

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "first_order": self.first_order}


@keras.saving.register_keras_serializable("tfmeta")
class FOMAML(MAML):
  """Meta-learner that simplifies MAML: it takes no second derivatives.

  FOMAML computes the gradient of the query loss at the adapted weights, and
  applies it to the initial weights. In other words, the outer gradient treats
  the inner gradients as constants [1, section 5.2]. This saves time, and the
  memory that differentiating through the steps needs.

  Differences from the authors' code: the same as listed in `MAML`.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`; for classification,
      `[n, W]` logits.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. Defaults to 1.
    inner_learning_rate: Float > 0. Step size of the inner loop, alpha in [1].
      Defaults to 0.01.
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
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `inner_loss_reduction`, `task_map`,
      `clipvalue`, `clipnorm`, the options of the inner loop `inner_optimizer`,
      `inner_clipnorm` and `support_batch_size`, and `name` and `dtype` of the
      Keras model.

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017.
        https://arxiv.org/abs/1703.03400
  """

  inner_options = inner_rule.FIRST_ORDER_NAMES

  def __init__(
    self,
    model: keras.Model,
    *,
    inner_steps: int = 1,
    inner_learning_rate: float = 0.01,
    eval_inner_steps: int | None = None,
    inner_loss: Any = None,
    normalization: str | None = None,
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
      first_order=True,
      seed=seed,
      **kwargs,
    )

  def get_config(self) -> dict[str, Any]:
    config = super().get_config()
    del config["first_order"]
    return config
