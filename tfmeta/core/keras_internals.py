"""Private names of Keras and TensorFlow, each with the reason for its use.

No other file of tfmeta uses a private name of a framework; a test enforces
this. For each name below, tests/core/keras_internals_test.py fails as soon as a
public way exists or the name is no longer needed.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops import control_flow_util
from tensorflow.python.saved_model import save_context


def flatten_layers(
  layer: keras.layers.Layer,
  *,
  include_self: bool = True,
  recursive: bool = True,
) -> list[keras.layers.Layer]:
  """Returns the layers inside `layer`, at any depth, outer ones first.

  `Model.layers` lists only the direct children of a model. No public list
  contains the layer inside a wrapper, such as `TimeDistributed`.
  """
  return list(
    layer._flatten_layers(include_self=include_self, recursive=recursive)
  )


def has_own_trainable_weights(layer: keras.layers.Layer) -> bool:
  """Returns whether `layer` holds trainable weights that no sublayer holds.

  `Layer.trainable_weights` also includes the weights of the sublayers.
  """
  return bool(layer._trainable_variables) and layer.trainable


def compiled_metrics(model: keras.Model) -> Any:
  """Returns the metrics that `compile` was given, as one object, or `None`.

  `Model.metrics` lists them flat and cannot build them for given shapes.
  """
  return model._compile_metrics


def compiled_loss(model: keras.Model) -> Any:
  """Returns the object made of the loss that `compile` was given, or `None`.

  `Model.loss` holds the argument of `compile`, or the value that a subclass
  assigned to it last. It does not tell whether `compile` was given a loss.
  """
  return model._compile_loss


def update_weighted(
  metrics: Any, y: tf.Tensor, y_pred: tf.Tensor, weight: tf.Tensor
) -> None:
  """Updates all metrics that `compile` was given with weights.

  The public way gives the weights to `weighted_metrics` only, and padding would
  change the others.

  Args:
    metrics: A metric, or the object that `compiled_metrics` returns.
    y: Targets, `[n, ...]`.
    y_pred: Outputs, `[n, ...]`.
    weight: Weights, `[n]`.
  """
  if not hasattr(metrics, "_user_weighted_metrics"):
    metrics.update_state(y, y_pred, sample_weight=weight)
    return
  if not metrics.built:
    metrics.build(y, y_pred)
  both = [*metrics._flat_metrics, *metrics._flat_weighted_metrics]
  for metric in both:
    if metric is not None:
      metric.update_state(y, y_pred, sample_weight=weight)


def batches_seen(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
  """Returns how many gradients `optimizer` was given, an integer scalar.

  With `gradient_accumulation_steps`, `Optimizer.iterations` counts only the
  updates.
  """
  optimizer = getattr(optimizer, "inner_optimizer", optimizer)
  return tf.convert_to_tensor(optimizer._iterations)


def in_xla_context() -> bool:
  """Returns whether the graph that is being traced is compiled by XLA.

  TensorFlow has no public way to ask; its own control flow asks in this way.
  """
  graph = tf.compat.v1.get_default_graph()
  return control_flow_util.GraphOrParentsInXlaContext(graph)


def in_save_context() -> bool:
  """Returns whether a SavedModel is being written.

  TensorFlow then traces the gradients of all functions in the file. It has no
  public way to ask.
  """
  return save_context.in_save_context()


def builds_for_fit(learner_class: Any) -> Any:
  """Makes `fit` of a class call `build_for_fit` before the first step.

  Keras 3.15 instead calls the model on symbolic inputs at this point. Under a
  strategy, this call fails. Elsewhere, it leaves the optimizer and the metrics
  to create their variables in the first step, which is then traced twice.

  Args:
    learner_class: A `keras.Model` with a method `build_for_fit(targets)`, which
      takes a structure with the shape and dtype of the targets, or `None`.
  """

  def _maybe_symbolic_build(
    self: Any, iterator: Any = None, data_batch: Any = None
  ) -> None:
    if iterator is not None:
      data_batch = iterator.data_adapter.get_tf_dataset().element_spec
    targets = keras.utils.unpack_x_y_sample_weight(data_batch)[1]
    self.build_for_fit(targets)

  learner_class._maybe_symbolic_build = _maybe_symbolic_build
  return learner_class


def seeds(variables: Sequence[Any]) -> list[bool]:
  """Returns which of `variables` are the state of a seed generator.

  No public attribute of a model lists its seed generators. Their variables have
  a name that Keras does not document.
  """
  return [variable.name == "seed_generator_state" for variable in variables]
