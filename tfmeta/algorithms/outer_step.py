"""One training step of the outer loop, as functions of a learner.

improve         one step of the optimizer on a batch of tasks
differentiate   gradients of `task_loss`, summed over the tasks of a batch
add_penalty     gradients of the regularizers, at the initial weights
update          one step of the optimizer, and the assigned state
report          metrics
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import functools
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.algorithms.context import Context
from tfmeta.core import checked_values
from tfmeta.core import checks
from tfmeta.core import compiled_metrics
from tfmeta.core import inputs as model_inputs
from tfmeta.core import keras_internals
from tfmeta.core import losses
from tfmeta.core import replicas
from tfmeta.core import shared_function
from tfmeta.core import task_map
from tfmeta.layers import missing_derivatives

_EXAMPLES = ("support_x", "query_x")
_TASK = ("support_x", "support_y", "query_x", "query_y")


def train(learner: Any, data: Any) -> dict[str, Any]:
  """Makes one training step.

  Args:
    learner: A compiled `MetaLearner`.
    data: A batch of tasks, `({"support_x": ..., "support_y": ..., "query_x":
      ...}, query_y)`.

  Returns:
    The metrics by name.
  """
  checks.check_optimizer(learner.optimizer)
  x, y = unpacked(learner, data)
  tasks = (*checked_tasks(learner, x), y)
  weights = checks.checked_weights(x, learner)
  _say_ways(learner, tasks[1], y)
  meta_loss, y_pred = improve(learner, tasks, weights)
  return report(learner, y, y_pred, meta_loss, weights.get("query_weight"))


def _say_ways(learner: Any, support_y: tf.Tensor, query_y: tf.Tensor) -> None:
  """Prints, in the first step, that the model has too many outputs.

  Only the values of the labels tell, so a graph has to look. A program of XLA
  cannot print.
  """
  output_shape = learner.model.output_shape
  one_label = (
    learner.target_kind is losses.Targets.LABELS and len(output_shape) == 2
  )
  if not one_label or learner.jit_compile or keras_internals.in_xla_context():
    return
  highest = tf.reduce_max(
    tf.concat(
      [
        tf.reshape(y, [-1])
        for y in (support_y, tf.cast(query_y, support_y.dtype))
      ],
      axis=0,
    )
  )
  first = keras_internals.batches_seen(learner.optimizer) == 0
  ways = output_shape[-1]
  tf.cond(
    first & (highest < ways - 1) & (highest >= 0),
    lambda: _printed(ways, highest),
    lambda: tf.constant(False),
  )


def _printed(ways: int, highest: tf.Tensor) -> tf.Tensor:
  message = (
    f"The model has {arguments.counted(ways, 'output', 'outputs')}, and labels "
    "of the first batch go up to "
  )
  advice = ": the model needs one output for each way of a task."
  with tf.control_dependencies([tf.print(message, highest, advice, sep="")]):
    return tf.constant(True)


def check_values(name: str, learner: Any, call: dict[str, Any]) -> None:
  """Checks the values of the first batch of a call, eagerly.

  XLA leaves out the checks of values in its programs.

  Args:
    name: Name of the method of the learner.
    learner: The learner.
    call: The arguments of the call by name.
  """
  labeled = not name.startswith("predict")
  check_first_batch(learner, call.get("x"), call.get("y"), labeled=labeled)
  validation = call.get("validation_data")
  if validation is not None:
    pair = isinstance(validation, tuple | list)
    x, y = validation[:2] if pair else (validation, None)
    check_first_batch(learner, x, y)


def improve(
  learner: Any, tasks: tuple[Any, ...], weights: Any = None
) -> tuple[tf.Tensor, Any]:
  """Makes one step of the optimizer on the mean `task_loss` of a batch.

  Args:
    learner: A compiled `MetaLearner`.
    tasks: Structures of tensors `[T, ...]`, the arguments of `task_loss`.
    weights: Weights of examples by name, from `checks.checked_weights`.
      Defaults to `None`: all examples count the same.

  Returns:
    The mean loss of the tasks of this replica plus the penalty of the
    regularizers; and the outputs for these tasks.
  """
  count = _number_of_tasks(tasks, weights)
  results = differentiate(learner, indexed(tasks), weights)
  (values, outputs), (gradients, state) = results
  # The optimizer adds up the gradients of all replicas, whose numbers of tasks
  # may differ. Each part is therefore divided by the total number.
  total = replicas.sum_over_replicas(count)
  gradients = [
    tf.math.divide_no_nan(g, tf.cast(total, g.dtype)) for g in gradients
  ]
  penalty = add_penalty(learner, gradients) if learner.losses else 0.0
  gradients = replicas.clipped(
    gradients,
    clipvalue=learner.clipvalue,
    clipnorm=learner.clipnorm,
    scale=learner.optimizer.scale_loss(1.0),
  )
  update(learner, gradients, state, total)
  mean = replicas.mean_or_zero(values, count)
  return mean + tf.cast(penalty, values.dtype), outputs


def _number_of_tasks(tasks: tuple[Any, ...], weights: Any) -> tf.Tensor:
  """Returns how many tasks count: those with a query of a positive weight."""
  weight = (weights or {}).get("query_weight")
  if weight is None:
    return tf.cast(tf.shape(tf.nest.flatten(tasks)[0])[0], tf.float32)
  return tf.reduce_sum(tf.cast(tf.reduce_any(weight > 0, axis=1), tf.float32))


def test(learner: Any, data: Any) -> dict[str, Any]:
  """Updates the metrics with a batch of tasks, and returns them by name."""
  x, y = unpacked(learner, data)
  weight = checks.checked_weights(x, learner).get("query_weight")
  y_pred = learner(x, training=False)
  logs = report(learner, y, y_pred, query_weight=weight)
  logs.pop("meta_loss", None)
  return logs


def unpacked(learner: Any, data: Any) -> tuple[Any, tf.Tensor]:
  """Returns the inputs and query targets of a batch, after checking them.

  Sample weights join the inputs, as `query_weight`.
  """
  x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
  checks.check_fit(
    keras_internals.compiled_loss(learner),
    keras_internals.compiled_argument(learner, "loss_weights"),
  )
  checks.check_inputs(x, learner.model)
  checks.check_is_tensor("query_y", y)
  checks.check_queries(x["query_x"], y)
  if weight is not None:
    if "query_weight" in x:
      raise ValueError(
        "The weights of queries must come once: as `sample_weight`, or as "
        "`query_weight` in the inputs. Received: both"
      )
    x = {**x, "query_weight": weight}
  return x, learner.checked_targets("Query labels", tf.convert_to_tensor(y))


def check_first_batch(
  learner: Any, x: Any, y: Any, *, labeled: bool = True
) -> None:
  """Checks the values of the first batch of a data set or of arrays.

  Args:
    learner: The learner.
    x: A data set, or a dict of arrays; other data are not looked at.
    y: The query targets if `x` is a dict.
    labeled: Whether there are query targets. Defaults to `True`.
  """
  if isinstance(x, tf.data.Dataset):
    data = next(iter(x.take(1)), None)
  elif isinstance(x, Mapping):
    arrays = (dict(x), y) if labeled else (dict(x),)
    data = tf.nest.map_structure(tf.convert_to_tensor, arrays)
  else:
    return
  if data is None:
    return
  if labeled:
    inputs = unpacked(learner, data)[0]
  else:
    inputs = keras.utils.unpack_x_y_sample_weight(data)[0]
  checked_tasks(learner, inputs)
  checks.checked_weights(inputs, learner)


def checked_tasks(learner: Any, inputs: Any) -> tuple[Any, ...]:
  """Returns `support_x`, `support_y` and `query_x` after checking them."""
  model = learner.model
  checks.check_inputs(inputs, model)
  support_x, query_x = (_examples(model, inputs, name) for name in _EXAMPLES)
  labels = tf.convert_to_tensor(inputs["support_y"])
  checks.check_fits("support_x", support_x, model, leading=1)
  labels = learner.checked_targets("Support labels", labels)
  return (
    support_x,
    checked_values.sizes(labels, support_x, query_x),
    query_x,
  )


def _examples(model: Any, inputs: Any, name: str) -> Any:
  """Returns the examples of a batch as tensors, after checking their values."""
  arranged = model_inputs.arranged(model, name, inputs[name])
  return tf.nest.map_structure(
    lambda x: checked_values.finite(name, tf.convert_to_tensor(x)),
    arranged,
  )


def indexed(tasks: tuple[Any, ...], first: Any = 0) -> tuple[Any, ...]:
  """Returns the indices of tasks over all replicas, followed by the tasks.

  Args:
    tasks: Structures of tensors `[T, ...]`.
    first: Integer, the index of the first task.
  """
  count = tf.shape(tf.nest.flatten(tasks)[0])[0]
  return (replicas.task_indices(count, first), *tasks)


def differentiate(
  learner: Any, tasks: tuple[Any, ...], weights: Any = None
) -> Any:
  """Differentiates `task_loss` for each task of a batch.

  The graph holds each phase of the learner once and runs the current one. A
  phase is compiled when it is first run.

  Args:
    learner: A compiled `MetaLearner`.
    tasks: Structures of tensors `[T, ...]`: the indices of the tasks, and the
      arguments of `task_loss`.
    weights: Weights of examples by name, from `checks.checked_weights`.
      Defaults to `None`: all examples count the same.

  Returns:
    `((losses [T], outputs [T, ...]), (gradients, assigned state))`. The second
    pair is summed over tasks.
  """
  step = keras_internals.batches_seen(learner.optimizer)

  def in_phase(phase: int) -> Any:
    context = Context(training=True, step=step, phase=phase)
    one_task = functools.partial(_differentiate_task, learner, context)
    weighted = (weights or {}, *tasks)
    return task_map.map_and_sum(one_task, weighted, learner.task_map_method())

  if not learner.phase_starts:
    return in_phase(0)
  starts = tf.constant(learner.phase_starts, step.dtype)
  passed = tf.reduce_sum(tf.cast(step >= starts, tf.int32))
  phases: dict[int, Any] = {
    i: functools.partial(in_phase, i) for i in range(starts.shape[0] + 1)
  }
  # With several replicas, sharing has failed in MAML++.
  if tf.distribute.get_strategy().num_replicas_in_sync == 1:
    phases = {
      i: shared_function.SharedFunction(phase) for i, phase in phases.items()
    }
  return tf.switch_case(passed, phases)


def _differentiate_task(
  learner: Any, context: Context, weights: Any, index: tf.Tensor, *task: Any
) -> Any:
  """Returns `((loss, outputs), (gradients, assigned state))` of one task."""
  # Inside a StatelessScope `assign` only records the value, so that the values
  # of all tasks can be averaged.
  scope = keras.StatelessScope()
  context = context.replace(index=index, **weights)
  # The task of a policy has episodes instead of examples.
  if len(task) == len(_TASK):
    support_x, _, query_x, _ = task
    context = context.with_features(learner.model, support_x, query_x)
  with _explained_derivatives(learner):
    with tf.GradientTape() as tape, scope:
      loss, outputs = learner.task_loss(*task, context=context)
      # A task without queries changes nothing, whatever its loss is.
      counted = _counted(weights, loss.dtype)
      loss = loss if counted is None else loss * counted
      scaled = learner.optimizer.scale_loss(loss)
    gradients = _gradients(learner, tape, scaled)
  gradients = [tf.convert_to_tensor(g) for g in gradients]
  state = {
    variable.path: _scaled(tf.convert_to_tensor(value), counted)
    for variable in learner.non_trainable_variables
    if (value := scope.get_current_value(variable)) is not None
  }
  return (loss, outputs), (gradients, state)


def _counted(weights: Any, dtype: Any) -> tf.Tensor | None:
  """Returns 1 for a task with queries and 0 for others; `None`: all count."""
  weight = weights.get("query_weight")
  return None if weight is None else tf.cast(tf.reduce_any(weight > 0), dtype)


def _scaled(value: tf.Tensor, factor: tf.Tensor | None) -> tf.Tensor:
  return value if factor is None else value * tf.cast(factor, value.dtype)


@contextlib.contextmanager
def _explained_derivatives(learner: Any) -> Iterator[None]:
  """Names the layers if TensorFlow has no gradient of an operation."""
  try:
    yield
  except (LookupError, NotImplementedError) as error:
    # Other subclasses, such as KeyError, come from elsewhere.
    if type(error) not in (LookupError, NotImplementedError):
      raise
    found = missing_derivatives.find(learner.model)
    text = "TensorFlow lacks a derivative of an operation outside of its model."
    if found:
      text = missing_derivatives.describe(learner.model, found)
    raise ValueError(
      f"{type(learner).__name__} cannot be trained. {text} Received: {error}"
    ) from error


def add_penalty(learner: Any, gradients: list[tf.Tensor]) -> tf.Tensor:
  """Adds the gradients of the regularizers to `gradients`, in place.

  Regularizers count once per step, at the initial weights.

  Returns:
    The penalty of the regularizers, a scalar.
  """
  with tf.GradientTape() as tape:
    penalty = tf.add_n(learner.losses)
    scaled = learner.optimizer.scale_loss(penalty)
  count = tf.distribute.get_strategy().num_replicas_in_sync
  for place, added in enumerate(_gradients(learner, tape, scaled)):
    # The optimizer adds up the parts of all replicas.
    gradients[place] += added / count
  return penalty


def _gradients(learner: Any, tape: tf.GradientTape, loss: tf.Tensor) -> Any:
  weights = [variable.value for variable in learner.trainable_variables]
  return tape.gradient(loss, weights, unconnected_gradients="zero")


def update(
  learner: Any,
  gradients: list[tf.Tensor],
  state: dict[str, tf.Tensor],
  total: tf.Tensor,
) -> None:
  """Applies the gradients and assigns the mean of the recorded state.

  Args:
    learner: A compiled `MetaLearner`.
    gradients: One tensor for each of `learner.trainable_variables`.
    state: For the path of each variable that tasks assigned, the sum of the
      assigned values over the tasks of this replica.
    total: Float, the number of tasks over all replicas.
  """
  # Without this dependency, values that depend on no data, such as the count of
  # steps, would be assigned in a step that ends because the data ran out.
  with tf.control_dependencies(gradients):
    learner.optimizer.apply_gradients(
      zip(gradients, learner.trainable_variables, strict=True)
    )
    for variable in learner.non_trainable_variables:
      if variable.path in state:
        value = replicas.sum_over_replicas(state[variable.path])
        mean = value / tf.cast(total, value.dtype)
        variable.assign(tf.where(total > 0, mean, variable))


def report(
  learner: Any,
  y: tf.Tensor,
  y_pred: Any,
  meta_loss: Any = 0.0,
  query_weight: tf.Tensor | None = None,
) -> dict[str, Any]:
  """Updates and returns the metrics.

  With weights, all metrics are weighted: padding has to change none of them.

  `loss` is the mean query loss of every learner. Training minimizes
  `meta_loss`, which a learner reports if it may differ from `loss`.
  """
  count = _number_of_tasks((y,), {"query_weight": query_weight})
  # Without this dependency, counts that are known when the step is traced would
  # grow in a step that finds no data.
  with tf.control_dependencies([y_pred]):
    for metric in learner.metrics:
      if metric is learner.meta_loss_tracker:
        metric.update_state(meta_loss, sample_weight=count)
      elif metric.name == "loss":
        loss = losses.loss_of_batch(learner.inner_loss, y, y_pred, query_weight)
        metric.update_state(loss, sample_weight=count)
      else:
        _update_metric(metric, y, y_pred, query_weight)
  return replicas.as_logs(learner.get_metrics_result())


def _update_metric(
  metric: Any, y: tf.Tensor, y_pred: tf.Tensor, weight: tf.Tensor | None
) -> None:
  # As in a plain model, the first axis is that of the examples.
  y, y_pred = losses.merged(y), losses.merged(y_pred)
  with compiled_metrics.named_errors(metric, y, y_pred):
    if weight is None:
      metric.update_state(y, y_pred)
    else:
      weight = tf.reshape(weight, [-1])
      keras_internals.update_weighted(metric, y, y_pred, weight)


def build_for_fit(learner: Any, targets: Any) -> None:
  """Creates the variables of the optimizer and the metrics.

  Args:
    learner: A compiled `MetaLearner`.
    targets: A tensor or `tf.TensorSpec` with the shape and dtype of the query
      targets of a batch, or `None` if they are not known.
  """
  optimizer, model = learner.optimizer, learner.model
  if optimizer is not None and not optimizer.built:
    optimizer.build(learner.trainable_variables)
  metrics = keras_internals.compiled_metrics(learner)
  if metrics is None or metrics.built or targets is None:
    return
  checks.check_is_tensor("query_y", targets)
  outputs = keras.KerasTensor(model.output_shape, model.compute_dtype)
  merged = (None, *targets.shape[2:])
  metrics.build(keras.KerasTensor(merged, targets.dtype), outputs)
  compiled_metrics.check(learner, metrics.metrics, targets)
  compiled_metrics.warn(learner, metrics.metrics)
