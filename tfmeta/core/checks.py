"""Checks of models, of tasks and of their tensors."""

from collections.abc import Mapping
from typing import Any
import warnings

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import checked_values
from tfmeta.core import example_weights
from tfmeta.core import inputs as model_inputs
from tfmeta.core import keras_internals
from tfmeta.core import losses
from tfmeta.core.losses import Targets

KEYS = ("support_x", "support_y", "query_x")
WEIGHTS = ("support_weight", "query_weight")


def check_model(model: Any) -> None:
  """Checks that `model` can be called with weights in place of its own."""
  if not isinstance(model, keras.Model):
    raise TypeError(f"`model` must be a keras.Model. Received: {model!r}")
  if not model.built:
    raise ValueError(
      "`model` must be built, so that its weights exist: begin it with "
      f"keras.Input(shape) or call it once. Received: model={model.name!r}, "
      "which is not built"
    )
  if not hasattr(model, "outputs"):
    raise ValueError(
      "`model` must be a functional or a Sequential model, whose shapes are "
      "known: with x = keras.Input(shape), keras.Model(x, model(x)) is one. "
      f"Received: model={model.name!r}, a {type(model).__name__}"
    )
  # A Sequential model has one output, and knows it only once it is called.
  sequential = isinstance(model, keras.Sequential)
  found = model.outputs[0] if sequential else model.output
  if tf.nest.is_nested(found):
    raise ValueError(
      "`model` must have one output, a tensor: with keras.Model(model.input, "
      "model.output[name]), choose the one to learn. Received: a "
      f"{type(found).__name__} of {len(found)} outputs"
    )
  if not model.trainable_variables:
    raise ValueError(
      "`model` must have trainable weights to adapt. Received: "
      f"model={model.name!r}, which has none"
    )
  _check_precision(model)


def _check_precision(model: keras.Model) -> None:
  found = [
    layer
    for layer in keras_internals.flatten_layers(model)
    if layer.compute_dtype == "float16"
  ]
  if found:
    raise ValueError(
      "Models that compute in float16 are not supported, because the steps of "
      "the inner loop underflow there: use the policy 'mixed_bfloat16'. "
      f"Received: model={model.name!r}, whose layer {found[-1].name!r} has the "
      f"dtype policy {found[-1].dtype_policy.name!r}"
    )


def check_inputs(inputs: Any, model: keras.Model) -> None:
  """Checks the keys, the structure and the static shapes of a batch of tasks.

  Args:
    inputs: Mapping with `support_x`, `support_y`, `query_x`: tensors or their
      specifications.
    model: The model of the learner, which decides the structure of examples.

  Raises:
    ValueError: If a key is missing or if the shapes do not fit each other.
  """
  found = set(inputs) if isinstance(inputs, Mapping) else set()
  if not set(KEYS) <= found <= {*KEYS, *WEIGHTS}:
    keys = sorted(found) if isinstance(inputs, Mapping) else type(inputs)
    raise ValueError(
      f"Inputs must be a dict with the keys {', '.join(KEYS)}, and perhaps "
      f"{' and '.join(WEIGHTS)}: batches of tasks, as tfmeta.data makes them. "
      f"Received: {keys}"
    )
  for key in KEYS:
    for part in tf.nest.flatten(inputs[key]):
      check_is_tensor(key, part)
  specs, support, query = (
    tf.nest.flatten(x)
    for x in (
      model_inputs.input_specs(model),
      model_inputs.arranged(model, "support_x", inputs["support_x"]),
      model_inputs.arranged(model, "query_x", inputs["query_x"]),
    )
  )
  for spec, support_x, query_x in zip(specs, support, query, strict=True):
    if support_x.shape.rank == spec.shape.rank:
      raise ValueError(
        "Tasks must come in batches: use .batch(n). Received: single tasks, "
        f"with support_x of shape {support_x.shape}"
      )
    check_features(support_x.shape, query_x.shape, leading=1)
    check_rows(support_x.shape, inputs["support_y"].shape, leading=1)


def check_is_tensor(name: str, value: Any) -> None:
  """Checks that a value is dense and has a known number of axes."""
  if value is None:
    raise ValueError(
      f"{name} must not be missing: batches of tasks are pairs (inputs, "
      "query_y). Received: None"
    )
  if isinstance(value, tf.RaggedTensor | tf.RaggedTensorSpec):
    raise ValueError(
      f"{name} must have the same number of examples in each task of a batch: "
      "use .batch(1), or tasks of one size. Received: a ragged tensor of shape "
      f"{value.shape}"
    )
  if tf.TensorShape(value.shape).rank is None:
    raise ValueError(
      f"{name} must have a known number of axes, the same in all calls: call "
      "set_shape where the data set is made, for example after tf.py_function. "
      "Received: unknown shape"
    )


def check_features(support: Any, query: Any, *, leading: int) -> None:
  """Checks that support and query examples have the same shape."""
  same_rank = support.rank == query.rank
  after = leading + 1
  if same_rank and support[after:].is_compatible_with(query[after:]):
    return
  raise ValueError(
    "support_x and query_x must hold examples of the same shape, and have the "
    f"same number of axes. Received: support_x {support}, query_x {query}"
  )


def check_queries(query_x: Any, query_y: Any) -> None:
  """Checks that a batch of tasks has query examples, with a target for each.

  A single target would be compared with all outputs of its task.

  Args:
    query_x: Query examples or their specification, or a structure of them.
    query_y: Query targets or their specification.
  """
  for x in tf.nest.flatten(query_x):
    fits = query_y.shape[:2].is_compatible_with(x.shape[:2])
    if not fits or x.shape[1] == 0:
      raise ValueError(
        "A task must hold at least one query example, and query_y one target "
        "for each example of query_x. "
        f"Received: query_x {x.shape}, query_y {query_y.shape}"
      )


def check_examples(name: str, x: Any, model: keras.Model) -> None:
  """Checks the structure, types and shapes of examples of one task."""
  arranged = model_inputs.arranged(model, name, x)
  check_fits(name, model_inputs.tensors(arranged), model, leading=0)


def check_fits(name: str, x: Any, model: keras.Model, *, leading: int) -> None:
  """Checks that examples have the types and shapes that the model takes.

  Args:
    name: Name of the examples, for the message.
    x: Tensors in the structure of the model's inputs.
    model: The model of the learner.
    leading: Number of axes before the examples: 1 for a batch of tasks, 0 for
      one task.
  """
  axes = "[n, ...]" if leading == 0 else "[T, n, ...]"
  specs = tf.nest.flatten(model_inputs.input_specs(model))
  for spec, tensor in zip(specs, tf.nest.flatten(x), strict=True):
    shape, expected = tensor.shape, spec.shape[1:]
    features = shape[leading + 1 :] if shape.rank is not None else shape
    which = f"{name}[{spec.name!r}]" if len(specs) > 1 else name
    if (tensor.dtype == tf.string) != (spec.dtype == tf.string):
      raise ValueError(
        f"{which} must be {tf.as_dtype(spec.dtype).name}, which the model "
        f"takes. Received: {which} of type {tensor.dtype.name}"
      )
    if not features.is_compatible_with(expected):
      raise ValueError(
        f"{which} must be {axes} with examples of the shape {tuple(expected)} "
        f"that the model takes. Received: {which} of shape {shape}"
      )


def check_rows(support_x: Any, support_y: Any, *, leading: int) -> None:
  """Checks that there is one target for each support example."""
  rows = leading + 1
  if (
    support_x.rank is not None
    and support_y.rank is not None
    and support_y.rank >= rows
    and support_x[:rows].is_compatible_with(support_y[:rows])
    and support_x[leading] != 0
  ):
    return
  raise ValueError(
    "A support set must hold at least one example, and support_y one target "
    "for each example of support_x. "
    f"Received: support_x {support_x}, support_y {support_y}"
  )


def checked_support(
  model: keras.Model, support_x: Any, support_y: Any
) -> tuple[Any, tf.Tensor]:
  """Returns the support set of one task as tensors, after checking shapes.

  In eager mode, it also checks that examples and targets are finite, and warns
  of images that are not scaled.
  """
  support_x = model_inputs.tensors(
    model_inputs.arranged(model, "support_x", support_x)
  )
  support_y = tf.convert_to_tensor(support_y)
  for x in tf.nest.flatten(support_x):
    check_rows(x.shape, support_y.shape, leading=0)
  check_fits("support_x", support_x, model, leading=0)
  for x in tf.nest.flatten(support_x):
    checked_values.finite_if_eager("support_x", x)
    warn_of_pixels(x, model)
  return support_x, support_y


def checked_weights(inputs: Any, learner: Any) -> dict[str, tf.Tensor]:
  """Returns the weights of examples by name, after checking them.

  Args:
    inputs: A batch of tasks, which may hold `support_weight` and
      `query_weight`.
    learner: A `MetaLearner`.

  Raises:
    ValueError: If the learner takes no weights, or if they do not fit.
  """
  found = {
    name: tf.cast(inputs[name], learner.variable_dtype)
    for name in WEIGHTS
    if name in inputs
  }
  if found and not learner.takes_weights:
    raise ValueError(
      f"{type(learner).__name__} takes no weights of examples. If its methods "
      "use the weights in their context, set `takes_weights = True` in the "
      f"class. Received: {', '.join(found)}"
    )
  if found:
    example_weights.check_layers(learner.model)
  for name, weight in found.items():
    examples = tf.nest.flatten(inputs[name.replace("weight", "x")])[0]
    found[name] = _checked_weight(name, weight, examples.shape[:2])
  return found


def _checked_weight(name: str, weight: tf.Tensor, expected: Any) -> tf.Tensor:
  """Returns weights after checking that each example has one.

  Args:
    name: `"support_weight"` or `"query_weight"`.
    weight: The weights.
    expected: Shape of the examples of the batch, without their own axes.

  Raises:
    ValueError: If the shapes differ or, in eager mode, if a weight is negative
      or not finite. For the latter, a graph raises
      `tf.errors.InvalidArgumentError` with the same sentence.
  """
  if weight.shape.rank != 2 or not weight.shape.is_compatible_with(expected):
    argument = "sample_weight` or `" if name == "query_weight" else ""
    raise ValueError(
      f"`{argument}{name}` must hold one weight for each example of each task, "
      f"as its targets do; learners take no `class_weight`. Received: weights "
      f"of shape {weight.shape} for examples of shape {expected}"
    )
  expected = f"`{name}` must hold finite numbers of at least 0."
  return checked_values.in_range(weight, weight, 0, weight.dtype.max, expected)


def check_fit(loss: Any, loss_weights: Any = None) -> None:
  """Checks that `compile` was given no loss and no weights of losses."""
  if loss is not None:
    raise ValueError(
      "A learner is trained on its `inner_loss`: pass that to the "
      "constructor, and no `loss` to `compile`. Received: a compiled loss"
    )
  if loss_weights is not None:
    raise ValueError(
      "A learner has one loss, so `compile` takes no `loss_weights`: an "
      "`inner_loss` of your own can weigh its parts, and `query_weight` weighs "
      f"examples. Received: loss_weights={loss_weights!r}"
    )


def check_optimizer(optimizer: Any) -> None:
  """Checks that `compile` was given an optimizer, which training needs."""
  if optimizer is None:
    raise ValueError(
      "Training needs an optimizer: pass one to `compile`, such as "
      "keras.optimizers.Adam(1e-3). Received: optimizer=None"
    )


def warn_of_pixels(x: tf.Tensor, model: Any) -> None:
  """Warns, in eager mode, if images seem not to be scaled to [0, 1]."""
  layers = {type(layer).__name__ for layer in model.layers}
  scaled = layers & {"Rescaling", "Normalization"}
  if not tf.executing_eagerly() or x.shape.rank != 4 or scaled:
    return
  values = tf.cast(x, tf.float32)
  whole = tf.reduce_all(tf.equal(values, tf.round(values)))
  if bool(whole & (tf.reduce_max(values) > 16)):
    warnings.warn(
      "support_x holds whole numbers up to "
      f"{int(tf.reduce_max(values))}, like pixels from 0 to 255, which "
      f"{model.name!r} does not rescale. tfmeta.data scales images to [0, 1]: "
      "divide by 255 if the learner was trained on such images.",
      stacklevel=2,
    )


def check_weights(
  weights: Any, model: keras.Model, samples: int | None = None
) -> None:
  """Checks that adapted weights are those of `model`, and not examples.

  Args:
    weights: One tensor for each of `model.trainable_variables`, and perhaps for
      each of `model.non_trainable_variables`.
    model: The model of the learner.
    samples: Length of an axis before all others, that of the samples. Defaults
      to `None`: there is no such axis.

  Raises:
    TypeError: If they are no list or tuple.
    ValueError: If their number or a shape is another one.
  """
  if not isinstance(weights, list | tuple):
    raise TypeError(
      "`weights` must be what `adapt` returned, and comes before the examples. "
      f"Received: weights of type {type(weights).__name__}"
    )
  variables = model.trainable_variables
  both = len(variables) + len(model.non_trainable_variables)
  if len(weights) not in (len(variables), both):
    more = f", or {both} with statistics" if both > len(variables) else ""
    raise ValueError(
      f"`weights` must be what `adapt` returned, {len(variables)} tensors"
      f"{more}. Received: {len(weights)} tensors"
    )
  for variable, weight in zip(variables, weights, strict=False):
    shape = tf.TensorShape(getattr(weight, "shape", ()))
    expected = (*([] if samples is None else [samples]), *variable.shape)
    if not shape.is_compatible_with(expected):
      raise ValueError(
        "`weights` must be what `adapt` of this learner returned, with the "
        f"shape {expected} for {variable.path!r}. Received: shape {shape}"
      )


def checked_targets(
  name: str,
  targets: tf.Tensor,
  kind: Targets,
  output_shape: Any,
  *,
  leading: int,
  dtype: Any,
  loss: losses.Loss,
) -> tf.Tensor:
  """Returns targets after checking that they fit the loss and the outputs.

  As in `keras.Model.compile`, an axis of size 1 at the end is added or removed
  where the loss needs it.

  Args:
    name: Name of the targets, for the message.
    targets: Tensor with the targets of all examples.
    kind: Kind of targets that the loss takes.
    output_shape: Shape `(None, ..., W)` of the model's outputs.
    leading: Number of axes before the examples: 1 for a batch of tasks, 0 for
      one task.
    dtype: Float type to which integers are cast unless the loss takes labels.
    loss: The loss. A user's own may take other targets than those of the shape
      of the outputs, but not several targets for one output, and NaN for
      missing targets. It may also leave out a label, which may be out of range.

  Raises:
    ValueError: If the dtype or the shape does not fit, or, in eager mode, if
      labels or probabilities are out of range, or numbers are not finite. For
      these, a graph raises `tf.errors.InvalidArgumentError` with the same
      sentence.
  """
  if targets.dtype == tf.bool:
    targets = tf.cast(targets, tf.int32)
  if kind is Targets.NUMBERS:
    name = name.replace("label", "target")
  free = not losses.takes_shape_of_outputs(loss)
  ignored = losses.ignored_class(loss)
  features = tf.TensorShape(output_shape[1:])
  before = [None] * (leading + 1)
  if kind is Targets.LABELS:
    wanted = tf.TensorShape([*before, *features[:-1]])
    targets = losses.aligned(targets, wanted)
    fits = targets.shape.is_compatible_with(wanted) and output_shape[-1] > 1
    if targets.dtype.is_integer and fits:
      return checked_values.labels_in_range(
        name, targets, output_shape[-1], ignored=ignored
      )
    expected = _expected_labels(output_shape[-1], wanted.rank)
  else:
    wanted = tf.TensorShape([*before, *features])
    targets = losses.aligned(targets, wanted)
    number = targets.dtype.is_integer or targets.dtype.is_floating
    fits = _fits(targets.shape, wanted, features, free=free)
    if free and targets.shape.rank == wanted.rank - 1:
      fits &= losses.takes_one_target(loss, output_shape)
    if number and fits:
      numbers = tf.cast(targets, dtype) if targets.dtype.is_integer else targets
      if free:
        return numbers
      if kind is Targets.NUMBERS:
        return checked_values.finite(name, numbers)
      return checked_values.probabilities(name, numbers, kind)
    expected = f"{kind.value} of the shape {_with_axes(features, leading)}"
  raise ValueError(
    f"{name} must be {expected}, for this loss and outputs of shape "
    f"{output_shape}.{_advice(targets, kind, output_shape)} "
    f"Received: {targets.dtype.name} of shape {targets.shape}"
  )


def _expected_labels(ways: int, axes: int) -> str:
  if ways == 1:
    return "class labels, with one output of the model for each class"
  shown = arguments.counted(axes, "axis", "axes")
  return f"integers from 0 to {ways - 1}, with {shown}"


def _fits(shape: Any, wanted: Any, features: Any, *, free: bool) -> bool:
  """Returns whether targets of a shape can be compared with the outputs."""
  return (
    not _broadcasts(shape, features)
    if free
    else shape.is_compatible_with(wanted)
  )


def _broadcasts(targets: Any, features: Any) -> bool:
  """Returns whether a loss would compare one output with several targets.

  Or one target with several outputs, other than along the last axis, where
  several outputs may describe the distribution of one number.

  Args:
    targets: Shape of the targets.
    features: Shape of the outputs, without the axis of examples.
  """
  pairs = zip(
    reversed(targets.as_list()), reversed(features.as_list()), strict=False
  )
  return any(
    (outputs == 1 and size != 1) or (place and size == 1 and outputs != 1)
    for place, (size, outputs) in enumerate(pairs)
  )


def _with_axes(features: Any, leading: int) -> str:
  names = ["T", "n"][1 - leading :]
  return f"[{', '.join([*names, *map(str, features)])}]"


def _advice(targets: tf.Tensor, kind: Targets, output_shape: Any) -> str:
  """Returns what to change if the targets are those of another loss."""
  numbers = targets.dtype.is_floating
  if kind is Targets.LABELS and (numbers or output_shape[-1] == 1):
    binary = (
      ", and for two classes and one output BinaryCrossentropy"
      if output_shape[-1] == 1
      else ""
    )
    if output_shape[-1] > 1 and targets.shape[-1] == output_shape[-1]:
      binary = ", and one-hot labels need a CategoricalCrossentropy"
    return f' A regression needs inner_loss="mse"{binary}.'
  if kind is Targets.LABELS and targets.shape[-1] == output_shape[-1]:
    return " One-hot labels need a CategoricalCrossentropy."
  if kind is Targets.ONE_HOT and targets.dtype.is_integer:
    return " Integer labels need a SparseCategoricalCrossentropy."
  return ""
