"""SavedModels that adapt to new classes without this library.

A SavedModel has these signatures, whose arguments are passed by name:

    serving_default(support_x [T, S, ...], support_y [T, S, ...],
                    query_x [T, Q, ...]) -> {"outputs": [T, Q, ...]}
    adapt(support_x [S, ...], support_y [S, ...]) -> {name: adapted weight}
    predict(query_x [Q, ...], **adapted) -> {"outputs": [Q, ...]}
    predict_samples(query_x [Q, ...], **adapted) -> {"outputs": [M, Q, ...]}

Only learners with several samples of the weights have `predict_samples`, which
returns the outputs of each sample. Labels are int32; examples and targets have
the dtype of the model (float32). If the model has several inputs, each is an
argument of its own, such as `support_x_token_ids` and `support_x_padding_mask`.
There are no weights of examples, because a support set may have any size.

    served = tf.saved_model.load(path)
    adapted = served.signatures["adapt"](support_x=x, support_y=y)
    logits = served.signatures["predict"](query_x=q, **adapted)["outputs"]
"""

import functools
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import checked_values
from tfmeta.core import checks
from tfmeta.core import inputs
from tfmeta.core import losses
from tfmeta.core.losses import Targets


def export_saved_model(learner: Any, filepath: Any, context: Any) -> None:
  """Writes a SavedModel of `learner` with its signatures.

  Args:
    learner: A `MetaLearner`.
    filepath: Folder to write; it is created if necessary.
    context: The `Context` in which the signatures adapt and predict.
  """
  arguments.check_export_path(filepath)
  adapt, like = _traced_adapt(learner, context)
  flat = tf.nest.flatten(like)
  specs = {
    name: tf.TensorSpec(t.shape, t.dtype, name)
    for name, t in zip(_names(learner, flat), flat, strict=True)
  }
  archive = keras.export.ExportArchive()
  archive.track(learner)
  archive.add_endpoint(
    "serving_default",
    _serve_function(learner, context),
    [*_support_specs(learner, leading=1), _query_spec(learner, leading=1)],
  )
  archive.add_endpoint("adapt", adapt)
  predictions = {"predict": learner.predict_with}
  if learner.probabilistic:
    predictions["predict_samples"] = learner.predict_samples
  for name, predict_with in predictions.items():
    archive.add_endpoint(
      name,
      _predict_function(learner, like, predict_with, context),
      [_query_spec(learner, leading=0), specs],
    )
  archive.write_out(filepath, verbose=False)


def _serve_function(learner: Any, context: Any) -> Any:
  def serve(
    support_x: tf.Tensor, support_y: tf.Tensor, query_x: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    values = (support_x, support_y, query_x)
    tasks = dict(zip(checks.KEYS, values, strict=True))
    return {"outputs": learner(tasks, training=False, context=context)}

  return serve


def _traced_adapt(learner: Any, context: Any) -> tuple[Any, Any]:
  """Returns the traced endpoint `adapt`, and the structure of its weights.

  The structure holds symbolic tensors. The endpoint `predict` takes weights of
  their shapes and types.
  """
  structures = []

  # As in `fit`, no control flow of Python depends on tensors. AutoGraph would
  # only convert each function of the algorithm, which takes seconds.
  @tf.function(
    input_signature=_support_specs(learner, leading=0), autograph=False
  )
  def adapt(support_x: tf.Tensor, support_y: tf.Tensor) -> dict[str, tf.Tensor]:
    # In a graph, the `adapt` of learners leaves checks of values to its caller.
    labels = learner.checked_targets("Support labels", support_y, leading=0)
    labels = checked_values.sizes(labels, support_x)
    support_x = _finite("support_x", support_x)
    weights = learner.adapt(support_x, labels, context)
    structures.append(weights)
    flat = tf.nest.flatten(weights)
    return dict(zip(_names(learner, flat), flat, strict=True))

  adapt.get_concrete_function()
  return adapt, structures[-1]


def _predict_function(
  learner: Any, like: Any, predict_with: Any, context: Any
) -> Any:
  """Returns an endpoint that predicts with weights of the structure `like`."""
  names = _names(learner, tf.nest.flatten(like))

  def predict(
    query_x: tf.Tensor, adapted: dict[str, tf.Tensor]
  ) -> dict[str, tf.Tensor]:
    flat = [adapted[name] for name in names]
    weights = tf.nest.pack_sequence_as(like, flat)
    query_x = _finite("query_x", query_x)
    return {"outputs": predict_with(weights, query_x, context)}

  return predict


def _finite(name: str, x: Any) -> Any:
  """Returns examples after checking that they are finite."""
  return tf.nest.map_structure(
    functools.partial(checked_values.finite, name), x
  )


def _names(learner: Any, flat: list[tf.Tensor]) -> list[str]:
  """Returns names for adapted tensors.

  The names are the paths of the model's variables if the tensors have the same
  shapes. Otherwise, they are `adapted_0`, `adapted_1` and so on.
  """
  model = learner.model
  variables = model.trainable_variables + model.non_trainable_variables
  fitting = [v.path.replace("/", "__") for v in variables[: len(flat)]]
  shapes = [tuple(v.shape) for v in variables[: len(flat)]]
  if shapes == [tuple(t.shape) for t in flat]:
    return fitting
  return [f"adapted_{index}" for index in range(len(flat))]


def _support_specs(learner: Any, *, leading: int) -> list[Any]:
  return [
    _spec(learner, "support_x", leading),
    _target_spec(learner, leading),
  ]


def _query_spec(learner: Any, *, leading: int) -> Any:
  return _spec(learner, "query_x", leading)


def _spec(learner: Any, name: str, leading: int) -> Any:
  """Returns the specification of examples, a structure for several inputs.

  A signature takes no structures, so each tensor is an argument of its own.
  """
  specs = inputs.input_specs(learner.model)
  several = tf.nest.is_nested(specs)

  def batched(spec: tf.TensorSpec) -> tf.TensorSpec:
    shape = [None] * (leading + 1) + spec.shape[1:].as_list()
    own = f"{name}_{spec.name}" if several else name
    return tf.TensorSpec(shape, spec.dtype, own)

  return tf.nest.map_structure(batched, specs)


def _target_spec(learner: Any, leading: int) -> tf.TensorSpec:
  shape = losses.shape_of_targets(
    learner.inner_loss, learner.target_kind, learner.model.output_shape
  )
  labels = learner.target_kind is Targets.LABELS
  return tf.TensorSpec(
    [None] * (leading + 1) + shape,
    tf.int32 if labels else tf.float32,
    "support_y",
  )
