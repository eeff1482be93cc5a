"""Prototypical networks (Snell, Swersky, Zemel, 2017)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import meta_learner
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context
from tfmeta.core import functional
from tfmeta.core import losses
from tfmeta.core import model_parts
from tfmeta.layers import chosen_weights
from tfmeta.typing import Weights

# Logit of a class without support examples. It is finite, because the gradient
# of a softmax with an infinite logit may be NaN.
_ABSENT = -1e9

# Arguments of other learners, for inner steps.
_OF_STEPS = (
  "inner_steps",
  "inner_learning_rate",
  "eval_inner_steps",
  "inner_loss_reduction",
)


@keras.saving.register_keras_serializable("tfmeta")
class ProtoNet(meta_learner.MetaLearner):
  """Classifier by the nearest class mean in a learned space of features.

  The prototype of a class is the mean of the features of its support examples.
  The probabilities of a query with features z are a softmax over the negative
  squared distances to all prototypes [1]:

      logits = -|z - prototype|^2

  The features are the inputs of the model's last layer, a `Dense` layer. Its
  own weights are not used. Adapting replaces its kernel by `2 * prototypes` and
  its bias by `-|prototype|^2`, so that its outputs differ from the logits above
  by `|z|^2`, which is the same for all classes and leaves the probabilities as
  they are. An adapted model is therefore an ordinary model of the same layers.

  A model with W outputs serves tasks of up to W ways. Classes without support
  examples get the probability 0, so a query of such a class has a loss of about
  1e9. The paper trains with more ways than it tests with: build the model with
  the larger number.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`, whose last layer is a
      `Dense` layer with a bias and without an activation.
    inner_loss: A Keras loss for the logits of the queries. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    normalization: Which statistics batch normalization uses for query examples:
      `"transductive"`, `"support_stats"` or `"none"`. `MetaLearner` describes
      them. Support examples are normalized by their own statistics. Defaults to
      `"transductive"` if the model has batch normalization, else to `"none"`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `task_map`, `clipvalue`, `clipnorm`,
      and `name` and `dtype` of the Keras model.

  Raises:
    ValueError: If the last layer is another one, or if the targets are not
      classes.

  References:
    [1] J. Snell, K. Swersky, R. Zemel. Prototypical Networks for Few-shot
        Learning. NeurIPS 2017. https://arxiv.org/abs/1703.05175
    Released code: https://github.com/jakesnell/prototypical-networks
  """

  takes_weights = True
  serves_fewer_ways = True

  def __init__(
    self,
    model: keras.Model,
    *,
    inner_loss: Any = None,
    normalization: str | None = None,
    seed: int = 0,
    **kwargs: Any,
  ):
    given = [name for name in _OF_STEPS if name in kwargs]
    if given:
      raise ValueError(
        "ProtoNet takes no gradient steps, so leave out what they need. "
        f"Received: {', '.join(given)}"
      )
    super().__init__(
      model,
      inner_loss=inner_loss,
      normalization=normalization,
      seed=seed,
      **kwargs,
    )
    if self.target_kind not in (losses.Targets.LABELS, losses.Targets.ONE_HOT):
      raise ValueError(
        "ProtoNet takes class labels, integers or one-hot. Received: "
        f"inner_loss={inner_loss!r}"
      )
    if len(model.output_shape) != 2:
      raise ValueError(
        "ProtoNet takes one label for each example, so the model must have "
        f"outputs of shape (None, W). Received: {model.output_shape}"
      )
    self._head_mask = chosen_weights.chosen_mask(model, "model", "head")
    self._split = _split(model, self._head_mask)

  def adaptation_path(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> list[Weights]:
    support_x, support_y = self.checked_support(support_x, support_y)
    features = self._features(support_x, context)
    if self.target_kind is losses.Targets.LABELS:
      ignored = losses.ignored_class(self.inner_loss)
      if ignored is not None:
        support_y = tf.where(support_y == ignored, -1, support_y)
      # The row of a label below 0 is zero.
      support_y = tf.one_hot(support_y, self.model.output_shape[-1])
    kernel, bias = _distances_to_prototypes(
      features, tf.cast(support_y, features.dtype), context.support_weight
    )
    heads = ((tf.zeros_like(kernel), tf.zeros_like(bias)), (kernel, bias))
    path = [self._with_head(*head) for head in heads]
    return [self.with_statistics(w, support_x, context) for w in path]

  def get_config(self) -> dict[str, Any]:
    config = super().get_config()
    return {k: v for k, v in config.items() if k not in _OF_STEPS}

  def _features(self, support_x: Any, context: Context) -> tf.Tensor:
    body = self._split.body
    features, _ = functional.apply(
      body,
      functional.weights_of(body),
      self.state_of(body, 0, context),
      support_x,
      training=True,
      example_weight=context.support_weight,
    )
    return tf.nest.flatten(features)[0]

  def _with_head(self, kernel: tf.Tensor, bias: tf.Tensor) -> Weights:
    """Returns the weights of the model with another last layer."""
    head = iter((kernel, bias))
    weights = functional.weights_of(self.model)
    return [
      tf.cast(next(head), w.dtype) if of_head else w
      for w, of_head in zip(weights, self._head_mask, strict=True)
    ]


def _distances_to_prototypes(
  features: tf.Tensor, shares: tf.Tensor, weight: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns kernel `[D, W]` and bias `[W]` of a layer of negative distances.

  Args:
    features: Features of the support examples, `[S, D]`.
    shares: Their one-hot labels, `[S, W]`. An example with a soft label counts
      in several classes, with these weights.
    weight: Weights `[S]`, or `None`: all examples count the same.
  """
  if weight is not None:
    shares *= tf.cast(weight, shares.dtype)[:, tf.newaxis]
  counts = tf.reduce_sum(shares, axis=0)
  sums = tf.linalg.matmul(features, shares, transpose_a=True)
  prototypes = tf.math.divide_no_nan(sums, counts)
  bias = -tf.reduce_sum(tf.square(prototypes), axis=0)
  return 2 * prototypes, tf.where(counts > 0, bias, _ABSENT)


def _split(model: keras.Model, head: list[bool]) -> model_parts.Parts:
  """Cuts the last layer off a model."""
  variables = model.trainable_variables
  chosen = [v for v, of_head in zip(variables, head, strict=True) if of_head]
  parts = model_parts.cut_before(model, head)
  if parts is None or not _is_dense(parts.head, chosen):
    last = model.layers[-1]
    raise ValueError(
      "ProtoNet needs a model whose last layer is a keras.layers.Dense that "
      "trains, has a bias and no activation, LoRA or quantization, and is "
      "called once, behind layers that have weights. "
      f"Received: {model.name!r}, which ends with {last.name!r} "
      f"({_described(last)})"
    )
  return parts


def _is_dense(head: keras.Model, trained: list[Any]) -> bool:
  """Returns whether a model is one linear layer with these weights."""
  layer = head.layers[-1]
  return (
    len(head.layers) == 2
    and isinstance(layer, keras.layers.Dense)
    and layer.use_bias
    and layer.activation is keras.activations.linear
    and [id(v) for v in trained] == [id(layer.kernel), id(layer.bias)]
  )


def _described(layer: keras.Layer) -> str:
  """Returns the class of a layer and what makes it unfit for a head."""
  activation = getattr(layer, "activation", keras.activations.linear)
  found = {
    "frozen": not layer.trainable,
    "without a bias": not getattr(layer, "use_bias", True),
    "with an activation": activation is not keras.activations.linear,
    "with LoRA": getattr(layer, "lora_enabled", False),
    "quantized": getattr(layer, "quantization_mode", None) is not None,
  }
  causes = [cause for cause, is_so in found.items() if is_so]
  return ", ".join([type(layer).__name__, *causes])
