"""ANIL and its relatives (Raghu, Raghu, Bengio, Vinyals, 2020)."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import maml
from tfmeta.core import functional
from tfmeta.core import inner_loop
from tfmeta.layers import chosen_weights
from tfmeta.typing import SupportLoss
from tfmeta.typing import Weights

# Inner steps draw from the streams from 0 on, and predictions from -1.
_BODY_STREAM = -2


@dataclasses.dataclass(frozen=True)
class _Split:
  """A model cut in two, before the first layer that is adapted."""

  body: keras.Model
  head: keras.Model


@keras.saving.register_keras_serializable("tfmeta")
class ANIL(maml.MAML):
  """MAML that adapts only the head, or any other choice of the weights.

  All weights are learned by the outer loop; its gradient reaches those that
  are not adapted through the query features and through the support features
  that the inner steps use [1]. The features are computed once per task where
  the adapted layers come last in a functional model.

  Differences from the paper (the authors published no code): none known. Their
  NIL, which drops the head at test time, is not here. With the body adapted
  and the head not, this is BOIL [2].

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`.
    adapted: Which weights the inner loop adapts: `"head"`, the last layer that
      has trainable weights; a list of names of layers; or a function from a
      variable to a boolean.
    **kwargs: Those of `MAML`.

  Raises:
    ValueError: If `adapted` chooses no weight or names an unknown layer.

  References:
    [1] A. Raghu, M. Raghu, S. Bengio, O. Vinyals. Rapid Learning or Feature
        Reuse? Towards Understanding the Effectiveness of MAML. ICLR 2020.
        https://arxiv.org/abs/1909.09157
    [2] J. Oh, H. Yoo, C. Kim, S. Yun. BOIL: Towards Representation Change for
        Few-shot Learning. ICLR 2021. https://arxiv.org/abs/2008.08882
  """

  def __init__(
    self,
    model: keras.Model,
    *,
    adapted: chosen_weights.WeightChoice = "head",
    **kwargs: Any,
  ):
    super().__init__(model, **kwargs)
    self.adapted = adapted
    self._mask = chosen_weights.chosen_mask(model, "adapted", adapted)
    self._split = _split(model, self._mask)

  def adaptation_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    initial = functional.weights_of(self.model)
    if self._split is None:
      loss_fn = self.support_loss(support_x, support_y)
    else:
      loss_fn = self._head_loss(self._split, initial, support_x, support_y)
    rate = self.inner_learning_rate
    path = inner_loop.gradient_path(
      loss_fn,
      initial,
      [rate if adapted else None for adapted in self._mask],
      self.steps,
      first_order=self.first_order,
      unroll=self.unroll,
    )
    return [self.with_statistics(w, support_x) for w in path]

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
    split: _Split,
    initial: Weights,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
  ) -> SupportLoss:
    """The support loss on features that are computed once."""
    support_x, support_y = self.checked_support(support_x, support_y)
    body, head = split.body, split.head
    features, _ = functional.apply(
      body,
      self._weights_of_part(body, initial),
      self.state_of(body, _BODY_STREAM),
      support_x,
      training=True,
    )

    def loss_fn(weights: Weights, step: Any) -> tf.Tensor:
      outputs, _ = functional.apply(
        head,
        self._weights_of_part(head, weights),
        self.state_of(head, step),
        features,
        training=True,
      )
      return self.reduce_support(support_y, outputs)

    return loss_fn

  def _weights_of_part(self, part: keras.Model, weights: Weights) -> Weights:
    variables = self.model.trainable_variables
    place = {id(v): w for v, w in zip(variables, weights, strict=True)}
    return [place[id(v)] for v in part.trainable_variables]


def _split(model: keras.Model, mask: list[bool]) -> _Split | None:
  """Cuts a functional model before its first adapted layer, if it can be cut.

  That is so when all that follows depends on the input of that layer alone.
  """
  pairs = zip(model.trainable_variables, mask, strict=True)
  adapted = {id(v) for v, m in pairs if m}
  first = next(
    layer
    for layer in model.layers
    if any(id(v) in adapted for v in layer.trainable_weights)
  )
  try:
    head = keras.Model(first.input, model.output)
    body = keras.Model(model.input, first.input)
  except (ValueError, AttributeError):
    return None
  of_body = {id(v) for v in body.trainable_variables}
  return _Split(body, head) if body.weights and not adapted & of_body else None
