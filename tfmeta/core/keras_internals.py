"""Private names of Keras and TensorFlow, each with the reason for its use.

No other file of tfmeta uses a private name of a framework; a test enforces
this. For each name below, tests/core/keras_internals_test.py fails as soon as a
public way exists or the name is no longer needed.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_util
from tensorflow.python.saved_model import save_context
from tensorflow.python.util import _pywrap_util_port


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


class Call(NamedTuple):
  """A call of a layer or operation in the graph of a model.

  Attributes:
    operation: The layer or operation.
    inputs: Its symbolic inputs.
    outputs: Its symbolic outputs.
    arguments: The keyword arguments of the call.
  """

  operation: Any
  inputs: list[Any]
  outputs: list[Any]
  arguments: dict[str, Any]


def calls_of(model: keras.Model) -> list[Call]:
  """Returns the calls in the graph of a model, each behind those it needs.

  `Layer.input` and `Layer.output` are those of the first call of a layer, which
  may belong to another model. No public attribute has the keyword arguments.

  Args:
    model: A built functional or `Sequential` model.
  """
  graph = keras.Model(model.inputs, model.outputs)
  depths = sorted(graph._nodes_by_depth.items(), reverse=True)
  nodes = [node for _, of_depth in depths for node in of_depth]
  return [
    Call(
      node.operation,
      node.input_tensors,
      node.output_tensors,
      node.arguments.kwargs,
    )
    for node in nodes
    if not node.is_input
  ]


def has_mask(tensor: Any) -> bool:
  """Returns whether a symbolic tensor carries a mask to the next layer."""
  return getattr(tensor, "_keras_mask", None) is not None


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


def in_xla_context(graph: tf.Graph | None = None) -> bool:
  """Returns whether a graph is compiled by XLA.

  TensorFlow has no public way to ask; its own control flow asks in this way.

  Args:
    graph: A graph, or `None` (default) for the one that is being traced.
  """
  graph = graph or tf.compat.v1.get_default_graph()
  return control_flow_util.GraphOrParentsInXlaContext(graph)


def in_save_context() -> bool:
  """Returns whether a SavedModel is being written.

  TensorFlow then traces the gradients of all functions in the file. It has no
  public way to ask.
  """
  return save_context.in_save_context()


def uses_onednn() -> bool:
  """Returns whether TensorFlow has oneDNN's kernels turned on.

  It decides so when it is imported, and has no public way to ask.
  """
  return _pywrap_util_port.IsMklEnabled()


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


def gradient_name(op: tf.Operation) -> str:
  """Returns the name of the gradient that replaces the one of `op`, or `""`.

  `tf.Graph.gradient_override_map` stores it under a name that is not
  documented.
  """
  try:
    return op.get_attr("_gradient_op_type").decode()
  except ValueError:
    return ""


def has_gradient(op: tf.Operation) -> bool | None:
  """Returns whether TensorFlow, or an override, has a gradient of `op`.

  It is `None` for operations that are declared not differentiable. No public
  function looks a gradient up without calling it.
  """
  try:
    return True if ops.get_gradient_function(op) else None
  except LookupError:
    return False


def graphs_called(graph: tf.Graph, op: tf.Operation) -> list[Any]:
  """Returns the graphs of the functions that an operation of `graph` calls.

  Among them are the bodies of loops and the branches of conditionals. Public
  functions return them as protocol buffers only, which lack the gradients.
  """
  names = [
    function.name
    for value in op.node_def.attr.values()
    for function in [value.func, *value.list.func]
    if function.name and graph._is_function(function.name)
  ]
  called = [getattr(graph._get_function(name), "graph", None) for name in names]
  return [inner for inner in called if inner is not None]


def operations_in(graph: tf.Graph) -> Iterator[tf.Operation]:
  """Yields the operations of a graph and of the functions that it calls."""
  for op in graph.get_operations():
    yield op
    for inner in graphs_called(graph, op):
      yield from operations_in(inner)


def override_in_branches(graph: tf.Graph, names: dict[str, str]) -> None:
  """Overrides gradients in the loops and conditionals of `graph`.

  `tf.Graph.gradient_override_map` reaches the operations of one graph only. The
  bodies of loops and the branches of conditionals have graphs of their own.

  Args:
    graph: A graph that has just been traced.
    names: Mapping from the type of an operation to the name of a gradient.
  """
  for op in graph.get_operations():
    # Other functions may belong to the user, and be called elsewhere too.
    owned = op.type.removeprefix("Stateless") in ("While", "If", "Case")
    for inner in graphs_called(graph, op) if owned else ():
      for inside in inner.get_operations():
        if inside.type in names:
          value = tf.compat.v1.AttrValue(s=names[inside.type].encode())
          inside._set_attr("_gradient_op_type", value)
      override_in_branches(inner, names)
