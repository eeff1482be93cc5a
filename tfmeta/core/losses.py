"""Losses on one example set, and the kind of targets that each loss takes.

Checks, metrics, likelihoods, exports and the averaging of several predictions
depend on the kind of targets. They all ask `kind_of_targets`.
"""

from collections.abc import Callable
import enum
import inspect
from typing import Any
from typing import get_args
import warnings

import keras
import tensorflow as tf

from tfmeta.typing import Reduction

REDUCTIONS = get_args(Reduction)

Loss = keras.losses.Loss | Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Targets(enum.Enum):
  """The kind of targets that a loss takes.

  Attributes:
    LABELS: Integers in `[0, W)`, one for each example; outputs have W entries.
    ONE_HOT: One probability for each of W classes, of the shape of the outputs.
    BINARY: One probability for each output.
    NUMBERS: Numbers of the shape of the outputs, for regression.
  """

  LABELS = "labels"
  ONE_HOT = "one-hot labels"
  BINARY = "binary labels"
  NUMBERS = "numbers"


_KERAS_LOSSES: dict[Targets, tuple[Any, ...]] = {
  Targets.LABELS: (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.sparse_categorical_crossentropy,
  ),
  Targets.ONE_HOT: (
    keras.losses.CategoricalCrossentropy,
    keras.losses.categorical_crossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.categorical_focal_crossentropy,
  ),
  Targets.BINARY: (
    keras.losses.BinaryCrossentropy,
    keras.losses.binary_crossentropy,
    keras.losses.BinaryFocalCrossentropy,
    keras.losses.binary_focal_crossentropy,
  ),
}


def kind_of_targets(loss: Loss, output_shape: Any) -> Targets:
  """Returns the kind of targets that `loss` takes.

  The kind is known for the cross entropies of Keras and for classes that derive
  from them. All other loss classes of Keras take numbers. Any other loss is
  called on zeros. If it accepts numbers of the shape of the outputs, its
  targets are numbers. If it accepts only integer labels, without the last axis
  of the outputs, its targets are labels.

  Args:
    loss: A Keras loss, or a function `(y, y_pred) -> [n, ...]`.
    output_shape: Shape of the model's outputs, `(None, ..., W)`.
  """
  for kind, known in _KERAS_LOSSES.items():
    classes = tuple(x for x in known if isinstance(x, type))
    if isinstance(loss, classes) or loss in known:
      return kind
  if isinstance(loss, keras.losses.Loss) and is_of_keras(loss):
    return Targets.NUMBERS
  return _kind_by_trial(loss, tuple(output_shape[1:]))


def is_of_keras(loss: Loss) -> bool:
  """Returns whether Keras defines this loss, and not the user."""
  named = loss if inspect.isfunction(loss) else type(loss)
  return named.__module__.partition(".")[0] == "keras"


def takes_shape_of_outputs(loss: Loss) -> bool:
  """Returns whether the targets of `loss` must have the shape of the outputs.

  Losses of Keras compare each output with a target, except for the two that
  take labels beside outputs of any shape.
  """
  others = (keras.losses.CTC, keras.losses.Circle)
  return is_of_keras(loss) and not isinstance(loss, others)


def ignored_class(loss: Loss) -> int | None:
  """Returns the label that `loss` leaves out, or `None` if it counts all."""
  return getattr(loss, "ignore_class", None)


def _kind_by_trial(loss: Loss, shape: tuple[int | None, ...]) -> Targets:
  # The tensors must not join a graph that is being traced.
  with tf.init_scope():
    outputs = _outputs_for_trial(shape)
    labels = tf.zeros(outputs.shape[:-1], tf.int32)
    for targets in (tf.zeros_like(outputs), labels):
      _check_not_scalar(loss, targets, outputs)
    if _takes(loss, tf.zeros_like(outputs), outputs):
      return Targets.NUMBERS
    if outputs.shape[-1] != 1 and _takes(loss, labels, outputs):
      return Targets.LABELS
  return Targets.NUMBERS


def _outputs_for_trial(shape: tuple[int | None, ...]) -> tf.Tensor:
  """Returns outputs of zeros, with more examples than any other axis is long.

  Targets of another shape then cannot be broadcast against several outputs
  without an error.

  Args:
    shape: Shape of the outputs, without the axis of examples.
  """
  known = [size or 2 for size in shape]
  return tf.zeros([max(known, default=1) + 1, *known])


def _takes(loss: Loss, targets: tf.Tensor, outputs: tf.Tensor) -> bool:
  """Returns whether `loss` gives one value per example for such targets."""
  try:
    values = tf.convert_to_tensor(_per_example(loss)(targets, outputs))
  except Exception:  # Any error of a user's function counts as a refusal.
    return False
  return values.shape[:1] == outputs.shape[:1] and (
    values.shape.rank < max(outputs.shape.rank, 2)
  )


def _check_not_scalar(loss: Loss, targets: tf.Tensor, outputs: Any) -> None:
  """Refuses a function that reduces its values over the examples."""
  if isinstance(loss, keras.losses.Loss):
    return
  try:
    values = tf.convert_to_tensor(loss(targets, outputs))
  except Exception:  # Any error of a user's function counts as a refusal.
    return
  if values.shape.rank == 0:
    raise ValueError(
      "`inner_loss` must return one value for each example; "
      "`inner_loss_reduction` reduces them. Received: a function that returns "
      "a scalar"
    )


def takes_one_target(loss: Loss, output_shape: Any) -> bool:
  """Returns whether `loss` takes one number for several outputs.

  Args:
    loss: A function of the user.
    output_shape: Shape of the model's outputs, `(None, ..., W)`.
  """
  with tf.init_scope():
    outputs = _outputs_for_trial(tuple(output_shape[1:]))
    return _takes(loss, tf.zeros(outputs.shape[:-1]), outputs)


def shape_of_targets(
  loss: Loss, kind: Targets, output_shape: Any
) -> list[int | None]:
  """Returns the shape of the target of one example; `None` may be any size.

  Args:
    loss: A Keras loss, or a function of the user.
    kind: The kind of targets that `loss` takes.
    output_shape: Shape of the model's outputs, `(None, ..., W)`.
  """
  features = list(output_shape[1:])
  if kind is Targets.LABELS:
    return features[:-1]
  if takes_shape_of_outputs(loss) or features[-1] == 1:
    return features
  with tf.init_scope():
    outputs = _outputs_for_trial(tuple(features))
    if _takes(loss, tf.zeros_like(outputs[..., :1]), outputs):
      return [*features[:-1], None]
    if _takes(loss, tf.zeros_like(outputs), outputs):
      return features
  return features[:-1] if takes_one_target(loss, output_shape) else features


def takes_logits(loss: Loss) -> bool:
  """Returns whether `loss` takes logits rather than probabilities.

  A Keras loss says so by its attribute `from_logits`, and a function by the
  default of its argument of that name. A loss without either is assumed to take
  logits.
  """
  if hasattr(loss, "from_logits"):
    return bool(loss.from_logits)
  try:
    argument = inspect.signature(loss).parameters["from_logits"]
  except (KeyError, TypeError, ValueError):
    return True
  return argument.default is not False


def resolve_loss(loss: Any) -> Any:
  """Returns the inner loss that an argument stands for.

  Args:
    loss: A Keras loss, its name, a function, or `None` for the cross entropy of
      integer labels and logits.

  Raises:
    ValueError: If `loss` is none of these.
  """
  if loss is None:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  try:
    resolved = keras.losses.get(loss)
  except ValueError as error:
    raise ValueError(
      "`inner_loss` must be a Keras loss, its name or a function. "
      f"Received: inner_loss={loss!r}"
    ) from error
  if not isinstance(loss, str) or isinstance(resolved, keras.losses.Loss):
    return resolved
  # For some names, Keras returns functions. The class of the same name is
  # better, because it can be saved and says whether it takes logits.
  name = "".join(part.capitalize() for part in resolved.__name__.split("_"))
  return getattr(keras.losses, name, lambda: resolved)()


def warn_of_probabilities(
  loss: Loss, kind: Targets, model: keras.Model
) -> None:
  """Warns if `loss` takes logits and `model` gives probabilities, or reverse.

  Only some last layers tell which of the two a model gives.
  """
  if kind is Targets.NUMBERS or not model.layers:
    return
  last = model.layers[-1]
  activation = getattr(last, "activation", None)
  normalized = isinstance(last, keras.layers.Softmax) or activation in (
    keras.activations.softmax,
    keras.activations.sigmoid,
  )
  linear = activation is keras.activations.linear
  if normalized and takes_logits(loss):
    warnings.warn(
      f"The inner loss takes logits, but {model.name!r} ends in probabilities. "
      "Remove the softmax or sigmoid, or pass a loss that takes probabilities "
      f"as `inner_loss`, such as {_KERAS_LOSSES[kind][0].__name__}() of "
      "keras.losses.",
      stacklevel=4,
    )
  elif linear and not takes_logits(loss):
    warnings.warn(
      f"The inner loss takes probabilities, but {model.name!r} ends in a layer "
      "without an activation. Pass a loss with from_logits=True as "
      f"`inner_loss`, such as {_KERAS_LOSSES[kind][0].__name__}"
      "(from_logits=True) of keras.losses.",
      stacklevel=4,
    )


def _per_example(loss: Loss) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Returns the function that gives one value per example.

  Calling a Keras loss itself also divides by the number of replicas of a
  `tf.distribute` strategy, which would shrink the inner steps.
  """
  return loss.call if isinstance(loss, keras.losses.Loss) else loss


def aligned(y: tf.Tensor, output_shape: Any) -> tf.Tensor:
  """Returns targets with as many axes as the outputs have.

  As in `keras.Model.compile`, targets `[n]` and `[n, 1]` mean the same. A loss
  that gets `[n]` and outputs `[n, 1]` would compare each output with every
  target.

  Args:
    y: Targets, with the axes of the outputs or with an axis of size 1 more or
      less at the end. Other targets are returned as they are.
    output_shape: A `tf.TensorShape`.
  """
  if None in (y.shape.rank, output_shape.rank):
    return y
  missing = output_shape.rank - y.shape.rank
  if missing == 1 and output_shape[-1] == 1:
    return y[..., tf.newaxis]
  if missing == -1 and y.shape[-1] == 1:
    return tf.squeeze(y, axis=-1)
  return y


def reduced_loss(
  loss: Loss,
  y: tf.Tensor,
  y_pred: tf.Tensor,
  *,
  reduction: Reduction = "mean",
  weight: tf.Tensor | None = None,
) -> tf.Tensor:
  """Returns the loss on one example set, a scalar of at least float32.

  Args:
    loss: A Keras loss, or a function that gives one value per example.
    y: Targets, `[n, ...]`.
    y_pred: Outputs of the model, `[n, ...]`.
    reduction: How the values are reduced over examples: `"mean"` (default),
      `"sum"`, or `"sum_over_ways"`. The last is the sum divided by the shots,
      or the mean times the ways (the width of `y_pred`), as in the released
      code of MAML.
    weight: Weights `[n]` of the examples. A mean is then the weighted sum of
      the values divided by the sum of the weights, so examples of weight 0
      change nothing; it is 0 if all weights are 0. Keras instead divides by the
      number of examples. Defaults to `None`: all examples count the same.

  Raises:
    ValueError: If there is not one weight for each example.
  """
  # In 16 bits, a sum over examples would lose too many digits.
  if y_pred.dtype.size < 4:
    y_pred = tf.cast(y_pred, tf.float32)
  values = _per_example(loss)(aligned(y, y_pred.shape), y_pred)
  weight = _weight_of_values(loss, y, values, weight)
  if weight is not None:
    return _weighted(values, weight, reduction, y_pred.shape[-1])
  if reduction == "sum":
    return tf.reduce_sum(values)
  ways = y_pred.shape[-1] if reduction == "sum_over_ways" else 1
  return tf.reduce_mean(values) * tf.cast(ways, values.dtype)


def _weight_of_values(
  loss: Loss, y: tf.Tensor, values: tf.Tensor, weight: tf.Tensor | None
) -> tf.Tensor | None:
  """Returns weights of the shape of `values`, or `None` if all are 1.

  They are those of the examples, and 0 for the class that the loss ignores.
  """
  ignored = ignored_class(loss)
  if weight is None and ignored is None:
    return None
  found = tf.ones_like(values)
  if weight is not None:
    found *= _of_examples(weight, values)
  if ignored is not None:
    found *= tf.cast(tf.reshape(y != ignored, tf.shape(values)), found.dtype)
  return found


def _of_examples(weight: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
  """Returns the weights `[n]` of examples with the axes of `values`."""
  weight = tf.cast(weight, values.dtype)
  # A weight of another shape could broadcast.
  fits = weight.shape.is_compatible_with(values.shape[:1])
  if weight.shape.rank != 1 or not fits:
    raise ValueError(
      "There must be one weight for each example. Received: weights of shape "
      f"{weight.shape} for losses of shape {values.shape}"
    )
  return tf.reshape(weight, [-1, *[1] * (values.shape.rank - 1)])


def _weighted(
  values: tf.Tensor, weight: tf.Tensor, reduction: Reduction, ways: Any
) -> tf.Tensor:
  """Reduces values, with one weight for each."""
  total = tf.reduce_sum(values * weight)
  if reduction == "sum":
    return total
  size = tf.reduce_sum(weight)
  factor = ways if reduction == "sum_over_ways" else 1
  return tf.math.divide_no_nan(total, size) * tf.cast(factor, values.dtype)


def loss_of_batch(
  loss: Loss, y: tf.Tensor, y_pred: tf.Tensor, weight: Any = None
) -> tf.Tensor:
  """Returns the mean over tasks of the mean loss of their queries.

  Args:
    loss: A Keras loss, or a function that gives one value per example.
    y: Targets, `[T, Q, ...]`.
    y_pred: Outputs of the model, `[T, Q, ...]`.
    weight: Weights of the queries, `[T, Q]`. The result is then the mean over
      tasks of the weighted mean of each task, without the tasks in which all
      weights are 0. Defaults to `None`: all queries count the same.

  Returns:
    A scalar; 0 if there are no tasks.
  """
  if ignored_class(loss) is not None or _is_of_set(loss, y, y_pred):
    return _mean_of_tasks(loss, y, y_pred, weight)
  if weight is not None:
    of_task = tf.reduce_sum(weight, axis=1, keepdims=True)
    weight = tf.reshape(tf.math.divide_no_nan(weight, of_task), [-1])
  value = reduced_loss(loss, merged(y), merged(y_pred), weight=weight)
  # The mean over no examples is NaN, which would spoil a running metric.
  return tf.where(tf.shape(y)[0] > 0, value, tf.zeros_like(value))


def _is_of_set(loss: Loss, y: tf.Tensor, y_pred: tf.Tensor) -> bool:
  """Returns whether `loss` gives one value for all examples together."""
  outputs = merged(y_pred)
  values = _per_example(loss)(aligned(merged(y), outputs.shape), outputs)
  return tf.convert_to_tensor(values).shape.rank == 0


def _mean_of_tasks(
  loss: Loss, y: tf.Tensor, y_pred: tf.Tensor, weight: Any
) -> tf.Tensor:
  """Returns the mean of the losses of tasks, computed one by one."""
  weights = tf.ones(tf.shape(y_pred)[:2]) if weight is None else weight

  def of_task(task: Any) -> tf.Tensor:
    targets, outputs, one = task
    value = reduced_loss(
      loss, targets, outputs, weight=None if weight is None else one
    )
    return tf.cast(value, tf.float32)

  values = tf.map_fn(
    of_task, (y, y_pred, weights), fn_output_signature=tf.float32
  )
  counted = tf.cast(tf.reduce_any(weights > 0, axis=1), tf.float32)
  return tf.math.divide_no_nan(
    tf.reduce_sum(values * counted), tf.reduce_sum(counted)
  )


def merged(values: tf.Tensor) -> tf.Tensor:
  """Returns the rows of all tasks, `[T, n, ...]`, as `[T * n, ...]`."""
  shape = tf.concat([[-1], tf.shape(values)[2:]], axis=0)
  return tf.ensure_shape(tf.reshape(values, shape), [None, *values.shape[2:]])


def mean_prediction(outputs: tf.Tensor, loss: Loss) -> tf.Tensor:
  """Returns the joint prediction of several samples of the weights.

  For classes, it averages probabilities; for a regression, it averages the
  outputs. If the outputs are logits, the result consists of logits again: the
  logarithm of the mean probability for several classes, and the log-odds of the
  mean probability for a binary output.

  Args:
    outputs: `[M, n, ...]`, the outputs of each sample.
    loss: The loss that the samples were trained with.

  Returns:
    `[n, ...]` with the dtype of `outputs`.
  """
  kind = kind_of_targets(loss, outputs.shape[1:])
  return mean_prediction_of(outputs, kind, loss)


def mean_prediction_of(
  outputs: tf.Tensor, kind: Targets, loss: Loss
) -> tf.Tensor:
  """Returns the `mean_prediction` for a known kind of targets.

  Finding out the kind may call the loss, so a learner does it only once.

  Args:
    outputs: `[M, n, ...]`, the outputs of each sample.
    kind: The kind of targets that `loss` takes.
    loss: The loss that the samples were trained with.
  """
  if kind is Targets.NUMBERS or not takes_logits(loss):
    return tf.reduce_mean(outputs, axis=0)
  if kind is Targets.BINARY:
    yes, no = tf.math.log_sigmoid(outputs), tf.math.log_sigmoid(-outputs)
    return log_mean_exp(yes) - log_mean_exp(no)
  return log_mean_exp(tf.nn.log_softmax(outputs, axis=-1))


def log_mean_exp(values: tf.Tensor) -> tf.Tensor:
  """Returns the logarithm of the mean of `exp(values)` over the first axis."""
  count = tf.cast(tf.shape(values)[0], values.dtype)
  return tf.reduce_logsumexp(values, axis=0) - tf.math.log(count)
