"""ANIL and its relatives (Raghu, Raghu, Bengio, Vinyals, 2020)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import maml
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context
from tfmeta.core import functional
from tfmeta.core import inner_rule
from tfmeta.core import model_parts
from tfmeta.layers import chosen_weights
from tfmeta.typing import SupportLoss
from tfmeta.typing import Weights

# Inner steps use the streams of random numbers from 0 up, and predictions use
# -1: see `MetaLearner.state_of`.
_BODY_STREAM = -2


@keras.saving.register_keras_serializable("tfmeta")
class ANIL(maml.MAML):
  """Meta-learner that adapts only the head, or another choice of the weights.

  The outer loop learns all weights, and the inner loop adapts some of them. The
  outer gradient reaches the other weights in two ways: through the features of
  the queries, and through the features of the support set, on which the inner
  steps depend [1]. If the adapted layers come last in a functional model, the
  learner computes the support features once per task.

  Differences from the paper (the authors published no code): none known. NIL,
  their variant that drops the head at test time, is not implemented. If
  `adapted` chooses the body and not the head, this learner is BOIL [2].

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`; for classification,
      `[n, W]` logits.
    adapted: Weights that the inner loop adapts: `"head"` (default), which is
      the last layer with trainable weights; a list of layer names; or a
      function from a variable to a boolean.
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
      as constants. Defaults to `False`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `inner_loss_reduction`, `task_map`,
      `clipvalue`, `clipnorm`, the options of the inner loop `inner_optimizer`,
      `inner_clipnorm`, `support_batch_size` and `recompute_steps`, and `name`
      and `dtype` of the Keras model.

  Raises:
    ValueError: If `adapted` chooses no weight or names an unknown layer.

  References:
    [1] A. Raghu, M. Raghu, S. Bengio, O. Vinyals. Rapid Learning or Feature
        Reuse? Towards Understanding the Effectiveness of MAML. ICLR 2020.
        https://arxiv.org/abs/1909.09157
    [2] J. Oh, H. Yoo, C. Kim, S. Yun. BOIL: Towards Representation Change for
        Few-shot Learning. ICLR 2021. https://arxiv.org/abs/2008.08882
  """

  takes_weights = True
  inner_options = inner_rule.NAMES

  def __init__(
    self,
    model: keras.Model,
    *,
    adapted: chosen_weights.WeightChoice = "head",
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
      first_order=first_order,
      seed=seed,
      **kwargs,
    )
    self.adapted = adapted
    self._mask = chosen_weights.chosen_mask(model, "adapted", adapted)
    self._split = model_parts.cut_before(model, self._mask)

  def adaptation_path(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> list[Weights]:
    initial = functional.weights_of(self.model)
    if self._split is None:
      loss_fn = self.support_loss(support_x, support_y, context)
    else:
      loss_fn = self._head_loss(
        self._split, initial, support_x, support_y, context
      )
    rate = self.inner_learning_rate
    path = inner_rule.rule_of(self, context).path(
      loss_fn,
      initial,
      [rate if adapted else None for adapted in self._mask],
      self.inner_steps_for(context),
      first_order=self.first_order,
      unroll=self.unrolls(context),
    )
    return [self.with_statistics(w, support_x, context) for w in path]

  def get_config(self) -> dict[str, Any]:
    adapted = self.adapted
    if not isinstance(adapted, str):
      adapted = keras.saving.serialize_keras_object(adapted)
    return {**super().get_config(), "adapted": adapted}

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "ANIL":
    adapted = keras.saving.deserialize_keras_object(config["adapted"])
    return super().from_config({**config, "adapted": adapted})

  def _head_loss(
    self,
    split: model_parts.Parts,
    initial: Weights,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context,
  ) -> SupportLoss:
    """Returns the support loss as a function of `(weights, step)`.

    The features of the support set are computed only once, here.
    """
    support_x, support_y = self.checked_support(support_x, support_y)
    body, head = split.body, split.head
    features, _ = functional.apply(
      body,
      self._weights_of_part(body, initial),
      self.state_of(body, _BODY_STREAM, context),
      support_x,
      training=True,
      example_weight=context.support_weight,
    )

    batch_of = inner_rule.batches(self, support_y, context)

    def loss_fn(weights: Weights, step: Any) -> tf.Tensor:
      x, y = batch_of((features, support_y), step)
      outputs, _ = functional.apply(
        head,
        self._weights_of_part(head, weights),
        self.state_of(head, step, context),
        x,
        training=True,
        example_weight=context.support_weight,
        exact=context.training,
      )
      return self.reduce_support(y, outputs, context)

    return loss_fn

  def _weights_of_part(self, part: keras.Model, weights: Weights) -> Weights:
    return model_parts.values_of(
      part.trainable_variables, self.model.trainable_variables, weights
    )
