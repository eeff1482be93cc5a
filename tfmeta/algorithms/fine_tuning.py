"""Baseline and Baseline++ (Chen, Liu, Kira, Wang, Huang, 2019)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.algorithms import meta_learner
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context
from tfmeta.core import functional
from tfmeta.core import inner_loop
from tfmeta.core import inner_rule
from tfmeta.core import model_parts
from tfmeta.layers import chosen_weights
from tfmeta.typing import SupportLoss
from tfmeta.typing import Weights

# Inner steps use the streams of random numbers from 0 up, and predictions use
# -1: see `MetaLearner.state_of`.
_BODY_STREAM = -2


@keras.saving.register_keras_serializable("tfmeta")
class FineTuning(meta_learner.MetaLearner):
  """Baseline that fits the last layer of a pre-trained model to each task.

  The body of the model, all layers before the last one, was trained beforehand,
  as an ordinary classifier of many classes. Adapting computes the features of
  the support set once, and fits the last layer, the head, by gradient descent
  with momentum and weight decay [1]:

      features = body(support_x)
      repeat inner_steps times:
        gradient = grad(support_loss)(head) + inner_weight_decay * head
        velocity = inner_momentum * velocity + (1 - inner_momentum) * gradient
        head = head - inner_learning_rate * velocity

  The velocity starts at the first gradient. The weights of the body do not
  change. A head that is a `keras.layers.Dense` makes the learner the Baseline
  of the paper; a head that is a `tfmeta.layers.CosineDense`, its Baseline++.

  No training on tasks is needed: compile the learner and evaluate it. `fit` is
  an addition to the paper. It trains the body further, by the gradient of the
  query loss under the fitted head, which it treats as a constant. If the body
  is frozen, `fit` changes nothing.

  Differences from the authors' code:
    - The code samples a new head for each task. Here, the head of each task
      starts at the weights that the last layer of `model` has.
    - The code passes through the support set 100 times in mini-batches of 4, of
      which the last one of a pass is smaller. Here, each step takes the whole
      support set, or `support_batch_size` examples: mini-batches of equal size,
      which may begin in one pass and end in the next.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`, of a pre-trained body
      and a head; for classification, `[n, W]` logits. The head is the last
      layer with trainable weights.
    inner_momentum: Float in [0, 1). Weight of the past gradients in a step.
      Defaults to 0.9.
    inner_weight_decay: Float >= 0. Factor of the weights of the head that is
      added to their gradient. Defaults to 0.001.
    inner_steps: Integer >= 0. Number of gradient steps on the head. Defaults to
      100.
    inner_learning_rate: Float > 0. Step size. Defaults to 0.01.
    eval_inner_steps: Integer >= 0. Number of steps in `evaluate`, `predict`,
      `adapt` and exported models. Defaults to `inner_steps`.
    inner_loss: A Keras loss, its name, or a function `(y, y_pred) -> [n]`, for
      the support set and the query set. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    normalization: Which statistics batch normalization uses. `"none"`: the
      moving statistics of the model, for support and query examples, as in the
      paper. `"transductive"`: support and query set each use their own
      statistics. `"support_stats"`: both use those of the support set. A body
      that has not been trained has no useful moving statistics. Defaults to
      `"none"`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `support_batch_size`,
      `inner_loss_reduction`, `task_map`, `clipvalue`, `clipnorm`, and `name`
      and `dtype` of the Keras model.

  Raises:
    ValueError: If an argument is out of range.

  Example:
    body = keras.models.load_model("runs/pretrain/backbone.keras")
    body.trainable = False
    head = tfmeta.layers.CosineDense(5)
    learner = tfmeta.FineTuning(keras.Sequential([body, head]))
    learner.compile(metrics=["accuracy"])
    result = tfmeta.evaluate(learner, tasks)

  References:
    [1] W. Chen, Y. Liu, Z. Kira, Y. Wang, J. Huang. A Closer Look at Few-shot
        Classification. ICLR 2019. https://arxiv.org/abs/1904.04232
    Released code: https://github.com/wyharveychen/CloserLookFewShot
  """

  takes_weights = True
  inner_options = ("support_batch_size",)
  normalizations = ("none", "transductive", "support_stats")

  def __init__(
    self,
    model: keras.Model,
    *,
    inner_momentum: float = 0.9,
    inner_weight_decay: float = 0.001,
    inner_steps: int = 100,
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
      seed=seed,
      **kwargs,
    )
    arguments.check_number("inner_momentum", inner_momentum, least=0, below=1)
    arguments.check_number("inner_weight_decay", inner_weight_decay, least=0)
    self.inner_momentum = inner_momentum
    self.inner_weight_decay = inner_weight_decay
    self._head_mask = chosen_weights.chosen_mask(model, "model", "head")
    self._split = model_parts.cut_before(model, self._head_mask)

  def adaptation_path(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> list[Weights]:
    weights = functional.weights_of(self.model)
    loss_fn = self._head_loss(weights, support_x, support_y, context)
    pairs = zip(weights, self._head_mask, strict=True)
    # The outer gradient treats the head as a constant.
    head = [tf.stop_gradient(w) for w, of_head in pairs if of_head]
    path = inner_loop.run_inner_loop(
      lambda step, carry: self._step(loss_fn, step, *carry),
      (head, [tf.zeros_like(w) for w in head]),
      self.inner_steps_for(context),
      # Training needs the last weights alone, and a loop keeps no others.
      unroll=self.unrolls(context) and not context.training,
    )
    path = [self._merged(weights, head) for head, _ in path]
    return [self.with_statistics(w, support_x, context) for w in path]

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "inner_momentum": self.inner_momentum,
      "inner_weight_decay": self.inner_weight_decay,
    }

  def _step(
    self, loss_fn: SupportLoss, step: Any, head: Weights, velocity: Weights
  ) -> tuple[Weights, Weights]:
    """Takes one step, and returns the new head and the new velocity."""
    gradients = inner_loop.gradients_of(
      lambda w: loss_fn(w, step), head, first_order=True
    )
    moved = []
    for w, v, g in zip(head, velocity, gradients, strict=True):
      g += self.inner_weight_decay * w
      # The first gradient is the first velocity.
      share = 1 - self.inner_momentum * tf.cast(step > 0, w.dtype)
      moved.append(self.inner_momentum * v + share * g)
    pairs = zip(head, moved, strict=True)
    return [w - self.inner_learning_rate * v for w, v in pairs], moved

  def _head_loss(
    self,
    weights: Weights,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context,
  ) -> SupportLoss:
    """Returns the support loss, a function of the head and the step.

    The features of the support set are computed only once, here.
    """
    support_x, support_y = self.checked_support(support_x, support_y)
    part, features = self.model, support_x
    # The model is all head if there are no weights before it.
    if self._split is not None:
      part = self._split.head
      features = self._outputs(
        self._split.body, weights, _BODY_STREAM, support_x, context
      )
    # An outer tape then has no reason to record the steps.
    features = tf.nest.map_structure(tf.stop_gradient, features)
    batch_of = inner_rule.batches(self, support_y, context)

    def loss_fn(head: Weights, step: Any) -> tf.Tensor:
      x, y = batch_of((features, support_y), step)
      merged = self._merged(weights, head)
      outputs = self._outputs(part, merged, step, x, context)
      return self.reduce_support(y, outputs, context)

    return loss_fn

  def _outputs(
    self, part: keras.Model, weights: Weights, stream: Any, x: Any, context: Any
  ) -> Any:
    """Returns what a part of the model computes for support examples."""
    outputs, _ = functional.apply(
      part,
      model_parts.values_of(
        part.trainable_variables, self.model.trainable_variables, weights
      ),
      self.state_of(part, stream, context),
      x,
      training=context.normalization_of(self) != "none",
      example_weight=context.support_weight,
    )
    return outputs

  def _merged(self, weights: Weights, head: Weights) -> Weights:
    """Returns the weights of the model with another head."""
    moved = iter(head)
    pairs = zip(weights, self._head_mask, strict=True)
    return [next(moved) if of_head else w for w, of_head in pairs]
