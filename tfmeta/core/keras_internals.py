"""Private names of Keras and TensorFlow, each with the reason for its use.

No other file of tfmeta uses a private name of a framework; a test enforces
this. For each name below, tests/core/keras_internals_test.py fails as soon as a
public way exists or the name is no longer needed.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import inspect
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import concrete_function
from tensorflow.python.framework import function_def_to_graph
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


def compiled_argument(model: keras.Model, name: str) -> Any:
  """Returns an argument of the last call of `compile`, or `None`.

  Without a loss, `compile` drops some arguments, such as `loss_weights`. The
  public `get_compile_config` serializes all arguments, and warns of each
  function among them.
  """
  config = getattr(model, "_compile_config", None)
  return None if config is None else config.config.get(name)


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


def is_recomputed(op: tf.Operation) -> bool:
  """Returns whether the gradient of `op` is that of `tf.recompute_grad`.

  `keras.remat` calls it. Its gradient cannot be differentiated. TensorFlow
  registers the gradient under a number, so that only the function tells.
  """
  if not gradient_name(op):
    return False
  gradient: Any = ops.get_gradient_function(op)
  for name in ("tape_grad_fn", "grad_fn"):
    gradient = inspect.getclosurevars(gradient).nonlocals.get(name)
    if gradient is None:
      return False
  return gradient.__qualname__.startswith("recompute_grad.")


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


def override_inside(graph: tf.Graph, names: dict[str, str]) -> None:
  """Overrides gradients in everything that the operations of a graph call.

  `tf.Graph.gradient_override_map` reaches the operations of one graph only. The
  bodies of loops, the branches of conditionals and functions have graphs of
  their own. Loops and conditionals own these graphs. A function may belong to
  the user and be called elsewhere, so that `graph` calls a copy of it instead.
  A custom gradient may use tensors of the graph that it was traced in.
  Functions with custom gradients are therefore left as they are.

  Args:
    graph: A graph that has just been traced.
    names: Mapping from the type of an operation to the name of a gradient.
  """
  for op in graph.get_operations():
    called = graphs_called(graph, op)
    if op.type not in _CALLS:
      for inner in called if _is_control_flow(op) else ():
        _override(inner, names)
      continue
    inside = [op for inner in called for op in operations_in(inner)]
    needed = any(op.type in names for op in inside)
    if needed and not any(map(gradient_name, inside)):
      _call_copies(graph, op, names)


_CALLS = ("PartitionedCall", "StatefulPartitionedCall")

# Where the gradients of loops and conditionals look for the graphs of their
# functions, for each attribute that names a function.
_GRAPHS = {
  "then_branch": "_true_graph",
  "else_branch": "_false_graph",
  "cond": "_cond_graph",
  "body": "_body_graph",
}


def _is_control_flow(op: tf.Operation) -> bool:
  return op.type.removeprefix("Stateless") in ("While", "If", "Case")


def _override(graph: tf.Graph, names: dict[str, str]) -> None:
  """Overrides gradients in a graph and in everything that it calls."""
  for op in graph.get_operations():
    if op.type in names:
      value = tf.compat.v1.AttrValue(s=names[op.type].encode())
      op._set_attr("_gradient_op_type", value)
  override_inside(graph, names)


def _call_copies(
  graph: tf.Graph, op: tf.Operation, names: dict[str, str]
) -> None:
  """Makes an operation call copies of its functions, with other gradients."""
  # The first input of a conditional tells which branch to take.
  inputs = op.inputs[1:] if "If" in op.type or "Case" in op.type else op.inputs
  for key, value in op.node_def.attr.items():
    called = [value.func] if value.func.name else list(value.list.func)
    copies = [_copy(graph, function.name, inputs, names) for function in called]
    if value.func.name:
      op._set_func_attr(key, copies[0].name)
      if op.type in _CALLS:
        op._gradient_function = copies[0]._get_gradient_function()
      else:
        setattr(op, _GRAPHS[key], copies[0].graph)
    elif copies:
      op._set_func_list_attr(key, [copy.name for copy in copies])
      for branch, copy in enumerate(copies):
        setattr(op, f"_branch_graph_{branch}", copy.graph)


def _function(graph: Any, name: str) -> Any:
  """Returns a function of `graph`, or of a graph around it."""
  return graph._get_function(name) or _function(graph.outer_graph, name)


def _copy(
  graph: tf.Graph, name: str, inputs: Sequence[Any], names: dict[str, str]
) -> Any:
  """Returns a copy of a function that `graph` calls, with other gradients."""
  definition = _function(graph, name).cached_definition
  shapes = [None if t.dtype == tf.resource else t.shape for t in inputs]
  with graph.as_default():
    inner = function_def_to_graph.function_def_to_graph(
      definition, input_shapes=shapes
    )
  for op in inner.get_operations():
    if op.type in names:
      value = tf.compat.v1.AttrValue(s=names[op.type].encode())
      op._set_attr("_gradient_op_type", value)
    if op.type in _CALLS or _is_control_flow(op):
      _call_copies(inner, op, names)
  attributes = {
    key: value
    for key, value in definition.attr.items()
    if key != "_input_shapes"
  }
  copy = concrete_function.ConcreteFunction.from_func_graph(
    inner, None, attributes
  )
  # Gradients of loops and conditionals name functions after their graphs.
  inner.name = copy.name.decode()
  copy.add_to_graph(graph)
  return copy
