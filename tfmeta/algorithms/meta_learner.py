"""The base class of all learners: everything but the algorithm itself."""

from collections.abc import Callable
import inspect
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta import export
from tfmeta import layers
from tfmeta.algorithms import outer_step
from tfmeta.algorithms import query_normalization
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import calls
from tfmeta.core import checks
from tfmeta.core import compiled_steps
from tfmeta.core import example_weights
from tfmeta.core import functional
from tfmeta.core import inner_rule
from tfmeta.core import keras_internals
from tfmeta.core import losses
from tfmeta.core import random
from tfmeta.core import replicas
from tfmeta.core import side_effects
from tfmeta.core import task_map
from tfmeta.core import unchanged
from tfmeta.layers import converted
from tfmeta.layers import copying
from tfmeta.layers import missing_derivatives
from tfmeta.layers import statistics
from tfmeta.typing import LearningRates
from tfmeta.typing import Reduction
from tfmeta.typing import State
from tfmeta.typing import SupportLoss
from tfmeta.typing import TaskMap
from tfmeta.typing import Weights

# In evaluation, longer inner loops become a loop in the graph.
_MAX_UNROLLED_STEPS = 10

# Inner steps use the streams of random numbers from 0 up, so predictions share
# no random numbers with them.
_PREDICTION_STREAM = -1

_TAKE_CONTEXT = (
  "adapt",
  "adaptation_path",
  "sampled_path",
  "predict_with",
  "task_loss",
)


@calls.checked_calls(outer_step.check_values)
@keras_internals.builds_for_fit
class MetaLearner(keras.Model):
  """Keras model that adapts to a support set and then predicts the queries.

  The inputs are a batch of tasks, `{"support_x": [T, S, ...], "support_y": [T,
  S, ...], "query_x": [T, Q, ...]}`, and the outputs are `[T, Q, ...]`. The
  forward pass adapts to the support set, so `compile`, `fit`, `evaluate`,
  `predict`, `save` and callbacks work as in any Keras model.

  The inputs may also hold weights of examples: `support_weight` `[T, S]`, and
  `query_weight` `[T, Q]`, which `fit` and `evaluate` take as `sample_weight`
  too. Losses and metrics are then weighted means. An example of weight 0
  changes nothing, so tasks of different size share a batch: `padded_batch` of
  `tf.data` pads weights of 1 with zeros. Padded values must be finite, and
  padded labels valid. The batch statistics of `tfmeta.layers` leave out the
  examples of weight 0, and count all others the same; those of Keras cannot, so
  `tfmeta.layers.exact(model)` has to replace them. Other layers that compute
  with several examples at once see the padding. Random layers such as `Dropout`
  use other random numbers if a task is padded. For a single task, the
  weights are in the context: `adapt(x, y,
  tfmeta.EVALUATION.replace(support_weight=weight))`.

  A subclass writes `adaptation_path` (or just `adapt`) for one task without a
  task axis. If its outer update is not the gradient of the mean query loss, it
  also writes `task_loss`. These methods take a `context` as their last
  argument. It says whether the learner is in training, and which step and task
  it is working on. `inner_steps_for(context)` returns the number of inner steps
  to take, and `context.seed_from(self.seed)` returns a seed for the task.

  `task_loss` may assign non-trainable variables of the learner. The learner
  averages the assigned values over the tasks of the batch, and assigns the
  means once, after the step.

  Args:
    model: A built `keras.Model` with one output, `[n, ...] -> [n, ...]`. For
      classification the output is `[n, W]` logits. If it has several inputs,
      `support_x` and `query_x` have the structure of its inputs, such as a
      dictionary of tensors.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. Defaults to 1.
    inner_learning_rate: Float > 0. Step size of the inner loop. Defaults to
      0.01.
    eval_inner_steps: Integer >= 0. Number of inner steps in `evaluate`,
      `predict`, `adapt` and exported models. Defaults to `inner_steps`.
    inner_loss: A Keras loss, its name, or a function `(y, y_pred) -> [n]`, for
      the support set and the query set. It does not include the regularizers of
      the model: `meta_loss` adds them once per training step, at the initial
      weights. Defaults to `SparseCategoricalCrossentropy(from_logits=True)`.
    inner_loss_reduction: How the inner loss is reduced over the support set:
      `"mean"` (default), `"sum"`, or `"sum_over_ways"` (the sum divided by the
      shots). Published inner learning rates belong to different reductions. The
      query loss is always a mean.
    normalization: Which statistics batch normalization uses for query examples.
      `"transductive"`: the statistics of the query set itself, as in most
      published code. A prediction then depends on the other queries of its
      task. `"support_stats"`: the statistics of the support set under the
      adapted weights. `"none"`: the moving statistics of the model, which
      training does not update; it suits models whose batch normalization is
      frozen, and models without any. Defaults to `"transductive"` if the model
      has batch normalization that trains, else to `"none"`. Inner steps always
      normalize the support set by its own statistics. Random layers such as
      `Dropout` are active in inner steps, also in evaluation, and inactive in
      predictions.
    task_map: How tasks are batched: `"map"`, `"vectorize"`, `"unroll"` (see
      `tfmeta.core.map_tasks`) or `"auto"` (default), which chooses between
      `"map"` and `"vectorize"`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Outside of training, random
      layers and mini-batches depend on the support set, and not on the place of
      a task in its batch. Defaults to 0.
    clipvalue: Float > 0. If set, clips each element of the outer gradient to
      `[-clipvalue, clipvalue]`. Unlike the argument of a Keras optimizer, it
      applies to the sum over all replicas, and before an optimizer accumulates
      gradients.
    clipnorm: Float > 0. If set, clips the norm of each tensor of the outer
      gradient, after `clipvalue`.
    **kwargs: Forwarded to `keras.Model`: `name`, `dtype`, `trainable`. Learners
      whose class lists them in `inner_options` also take options of the inner
      loop. `inner_optimizer`: `"sgd"` (default) or `"adam"`, with the formula
      and the defaults of `keras.optimizers.Adam`, whose moments start at zero
      in each task. The outer gradient differentiates Adam exactly: where all
      gradients of a weight have been zero, its step has the derivative
      `inner_learning_rate / epsilon` in the gradient. `inner_clipnorm`: float >
      0; if set, scales the gradient of each inner step whose norm over all
      adapted weights is larger, and the outer gradient includes the derivative
      of the scale. `support_batch_size`: integer >= 1, the number of support
      examples in each inner step, sampled without replacement until the support
      set is exhausted; defaults to the whole support set. `recompute_steps`:
      whether the outer gradient computes each inner step again, and so keeps
      the weights between steps, and nothing else of a step; it needs
      `task_map="map"` and has no effect under XLA; defaults to `False`.

  Raises:
    TypeError: If `model` is not a Keras model.
    ValueError: If `model` is not built, has several outputs or computes in
      float16, or if an argument is out of range.
  """

  # The first choice is the default for models with batch normalization.
  normalizations: tuple[str, ...] = query_normalization.NORMALIZATIONS
  # Training steps at which `task_loss` becomes another computation.
  phase_starts: tuple[int, ...] = ()
  # Whether adapted weights are several samples, as in `ProbabilisticLearner`.
  probabilistic = False
  # Whether the algorithm uses the weights of examples in its context. A class
  # that defines a method of its own must say so again.
  takes_weights = True
  # Which options of the inner loop the algorithm has: see `inner_rule`. A class
  # that defines a method of its own must say so again.
  inner_options: tuple[str, ...] = ()
  # Whether it is usual to train with more ways than there are in a test.
  serves_fewer_ways = False
  meta_loss_tracker: keras.metrics.Mean | None = None

  def __init__(
    self,
    model: keras.Model,
    *,
    inner_steps: int = 1,
    inner_learning_rate: float = 0.01,
    eval_inner_steps: int | None = None,
    inner_loss: Any = None,
    inner_loss_reduction: Reduction = "mean",
    normalization: str | None = None,
    task_map: TaskMap = "auto",
    seed: int = 0,
    clipvalue: float | None = None,
    clipnorm: float | None = None,
    **kwargs: Any,
  ):
    checks.check_model(model)
    arguments.check_integer("inner_steps", inner_steps, least=0)
    if eval_inner_steps is not None:
      arguments.check_integer("eval_inner_steps", eval_inner_steps, least=0)
    arguments.check_number("inner_learning_rate", inner_learning_rate, above=0)
    for name, bound in (("clipvalue", clipvalue), ("clipnorm", clipnorm)):
      if bound is not None:
        arguments.check_number(name, bound, above=0)
    _check_choices(inner_loss_reduction, task_map)
    arguments.check_seed("seed", seed)
    options = inner_rule.taken_from(kwargs, type(self))
    # Autocasting is off, because Keras would also cast the regression targets
    # in the inputs to the compute type.
    super().__init__(autocast=False, **kwargs)
    self.model = model
    self.trained_variables = unchanged.TrainedVariables(model)
    self.whole_layers = converted.kept_whole(model)
    side_effects.check_call(model)
    self.inner_steps = inner_steps
    self.inner_learning_rate = inner_learning_rate
    self.eval_inner_steps = eval_inner_steps
    self.inner_loss = losses.resolve_loss(inner_loss)
    self.target_kind = losses.kind_of_targets(
      self.inner_loss, model.output_shape
    )
    losses.warn_of_probabilities(self.inner_loss, self.target_kind, model)
    self.inner_loss_reduction: Reduction = inner_loss_reduction
    self.normalization = query_normalization.resolved(
      normalization, model, self.normalizations
    )
    for name, value in options.items():
      setattr(self, name, value)
    self.task_map: TaskMap = task_map
    self.seed = seed
    self.clipvalue = clipvalue
    self.clipnorm = clipnorm
    if type(self).task_loss is not MetaLearner.task_loss or model.losses:
      self.meta_loss_tracker = keras.metrics.Mean("meta_loss")
    # All weights exist now. If Keras took the learner for unbuilt, loading it
    # would drop the optimizer's slots.
    self.built = True

  def __init_subclass__(cls, **kwargs: Any) -> None:
    super().__init_subclass__(**kwargs)
    own = {
      name: cls.__dict__[name] for name in _TAKE_CONTEXT if name in vars(cls)
    }
    for name, without in (("takes_weights", False), ("inner_options", ())):
      if own and name not in vars(cls):
        setattr(cls, name, without)
    for name, method in own.items():
      if "context" not in inspect.signature(method).parameters:
        raise TypeError(
          f"{cls.__name__}.{name} must take `context` as its last argument, "
          "with the default tfmeta.EVALUATION (tfmeta.FIRST_STEP for "
          f"`task_loss`). Received: {name}{inspect.signature(method)}"
        )
    for name in {*_TAKE_CONTEXT, *calls.OF_MODEL} & set(vars(cls)):
      method = unchanged.needs_unchanged_model(vars(cls)[name])
      setattr(cls, name, method)

  def adapt(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> Any:
    """Adapts to the support set of one task.

    Args:
      support_x: Support examples, `[S, ...]`.
      support_y: Support targets, `[S, ...]`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.

    Returns:
      The adapted weights, which `predict_with` takes: tensors in the order of
      `model.trainable_variables`. Under `"support_stats"`, tensors in the order
      of `model.non_trainable_variables` follow. An algorithm may return a
      structure of its own instead. For a transductive learner, the context
      `tfmeta.EVALUATION.replace(normalization="support_stats")` adds these
      tensors, so that queries may come one at a time.
    """
    context = context.for_support(self, support_x, support_y)
    return self.adaptation_path(support_x, support_y, context)[-1]

  def adaptation_path(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> list[Any]:
    """Returns the weights before the first inner step and after each step.

    Args:
      support_x: Support examples, `[S, ...]`.
      support_y: Support targets, `[S, ...]`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.

    Returns:
      A list of weights, each in the form that `adapt` returns. The first item
      holds the weights before adapting, and the last item the adapted weights.
      The list has no items between them if the steps run in a graph loop (see
      `unrolls`) or if the algorithm does not tell the steps apart.
    """
    if type(self).adapt is MetaLearner.adapt:
      raise NotImplementedError(
        f"{type(self).__name__} must define `adaptation_path` or `adapt`"
      )
    initial = functional.weights_of(self.model)
    return [
      self.with_statistics(initial, support_x, context),
      self.adapt(support_x, support_y, context),
    ]

  def predict_with(
    self, weights: Any, x: tf.Tensor, context: Context = EVALUATION
  ) -> tf.Tensor:
    """Returns the outputs `[n, ...]` for examples `x` under `weights`.

    Args:
      weights: Weights returned by `adapt`.
      x: Examples, `[n, ...]`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.
    """
    checks.check_weights(weights, self.model)
    checks.check_examples("x", x, self.model)
    count = len(self.model.trainable_variables)
    known = weights[count:]
    of_batch = self.transductive and not known
    quiet = of_batch and not context.training
    model = statistics.without_noise(self.model) if quiet else self.model
    outputs, _ = functional.apply(
      model,
      weights[:count],
      known or self.state_of(self.model, _PREDICTION_STREAM, context),
      context.examples(x) if model is self.model else x,
      training=of_batch,
      example_weight=context.query_weight,
    )
    return outputs

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the scalar that training minimizes, and the query outputs.

    Args:
      support_x: Support examples, `[S, ...]`.
      support_y: Support targets, `[S, ...]`.
      query_x: Query examples, `[Q, ...]`.
      query_y: Query targets, `[Q, ...]`.
      context: Task, step and mode of the call. Defaults to `FIRST_STEP`.

    Returns:
      The loss of one task, a scalar, and the query outputs `[Q, ...]`.
    """
    weights = self.adapt(support_x, support_y, context)
    outputs = self.predict_with(weights, query_x, context)
    return self.query_loss(query_y, outputs, context), outputs

  def query_loss(
    self, y: tf.Tensor, outputs: tf.Tensor, context: Context = FIRST_STEP
  ) -> tf.Tensor:
    """Returns the mean loss for outputs `[Q, ...]` and targets, a scalar."""
    weight = context.query_weight
    return losses.reduced_loss(self.inner_loss, y, outputs, weight=weight)

  def inner_steps_for(self, context: Context = EVALUATION) -> int:
    """Returns the number of inner steps to take, in training or evaluation."""
    if context.training or self.eval_inner_steps is None:
      return self.inner_steps
    return self.eval_inner_steps

  def unrolls(self, context: Context = EVALUATION) -> bool:
    """Returns whether the graph holds a copy of each inner step, not a loop."""
    few = self.inner_steps_for(context) <= _MAX_UNROLLED_STEPS
    return context.training or few

  def descend(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    learning_rates: LearningRates,
    *,
    initial: Weights | None = None,
    first_order: bool = False,
    context: Context = EVALUATION,
  ) -> list[Weights]:
    """Takes gradient steps on the support loss.

    Args:
      support_x: Support examples, `[S, ...]`.
      support_y: Support targets, `[S, ...]`.
      learning_rates: One rate for each trainable weight, or a function from the
        step to such a list. A tensor broadcasts to its weight. `None` leaves
        its weight unchanged.
      initial: Weights to start from. Defaults to the weights of the model.
      first_order: Whether the outer gradient treats inner gradients as
        constants. Defaults to `False`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.

    Returns:
      The weights before the first step and after each step, in the form that
      `adaptation_path` returns.
    """
    path = inner_rule.rule_of(self, context).path(
      self.support_loss(support_x, support_y, context),
      functional.weights_of(self.model) if initial is None else initial,
      learning_rates,
      self.inner_steps_for(context),
      first_order=first_order,
      unroll=self.unrolls(context),
    )
    return [self.with_statistics(w, support_x, context) for w in path]

  def support_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> SupportLoss:
    """Returns the inner loss of one task, a function of `(weights, step)`."""
    support = self.checked_support(support_x, support_y)
    context = context.with_features(self.model, support[0])
    batch_of = inner_rule.batches(self, support[1], context)

    def loss_fn(weights: Weights, step: Any) -> tf.Tensor:
      x, y = batch_of(support, step)
      outputs = self.training_outputs(weights, step, x, context)
      return self.reduce_support(y, outputs, context)

    return loss_fn

  def training_outputs(
    self,
    weights: Weights,
    step: Any,
    x: tf.Tensor,
    context: Context = EVALUATION,
  ) -> tf.Tensor:
    """Returns the outputs `[S, ...]` for examples of one task in an inner step.

    Random layers use new random numbers in each inner step of each task.

    Args:
      weights: One tensor for each of `model.trainable_variables`.
      step: Integer, the inner step counted from 0, or another stream of random
        numbers: see `state_of`.
      x: Examples, `[S, ...]`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.
    """
    state = self.state_of(self.model, step, context)
    outputs, _ = functional.apply(
      self.model,
      weights,
      state,
      context.examples(x),
      training=True,
      example_weight=context.support_weight,
      exact=context.training,
    )
    return outputs

  def state_of(
    self, model: keras.Model, stream: Any, context: Context = EVALUATION
  ) -> State:
    """Returns the non-trainable state of `model`, with seeds for the task.

    The stream decides which random numbers the random layers use, such as
    `Dropout`. Inner step i uses stream i, counted from 0, and predictions use
    stream -1. An algorithm takes its further streams from -2 down. `ANIL` uses
    -2 for the body of the model, which it applies once per task. `PLATIPUS`
    uses -3 and -4 for the gradient steps that shift its means.

    Args:
      model: The learner's model, or a part of it.
      stream: Integer, the stream of random numbers.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.

    Returns:
      One tensor for each of `model.non_trainable_variables`.
    """
    if not functional.is_random(model):
      return functional.state_of(model)
    seed = random.fold_in(context.seed_from(self.seed), stream)
    return functional.state_of(model, seed)

  def reduce_support(
    self, y: tf.Tensor, outputs: tf.Tensor, context: Context = EVALUATION
  ) -> tf.Tensor:
    """Returns the inner loss for outputs `[S, ...]` and targets, a scalar."""
    return losses.reduced_loss(
      self.inner_loss,
      y,
      outputs,
      reduction=self.inner_loss_reduction,
      weight=context.support_weight,
    )

  def with_statistics(
    self, weights: Weights, support_x: tf.Tensor, context: Context = EVALUATION
  ) -> Weights:
    """Appends the support statistics to `weights` under `"support_stats"`.

    With another normalization, it returns `weights` unchanged.

    Args:
      weights: One tensor for each of `model.trainable_variables`.
      support_x: Support examples, `[S, ...]`.
      context: Task, step and mode of the call. Defaults to `EVALUATION`.
    """
    if context.normalization_of(self) != "support_stats":
      return weights
    state = functional.state_of(self.model)
    with example_weights.applied(self.model, context.support_weight):
      found = layers.support_state(self.model, weights, state, support_x)
    return [*weights, *found]

  def checked_support(
    self, support_x: Any, support_y: Any
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the support set of one task as tensors, after checking it.

    Raises:
      ValueError: If the shapes do not fit. In eager mode, also if examples or
        targets are not finite, or if labels are out of range.
    """
    support_x, support_y = checks.checked_support(
      self.model, support_x, support_y
    )
    if tf.executing_eagerly():
      support_y = self.checked_targets("Support labels", support_y, leading=0)
    return support_x, support_y

  def checked_targets(
    self, name: str, targets: tf.Tensor, *, leading: int = 1
  ) -> tf.Tensor:
    """Returns targets after checking that they fit the loss and the outputs."""
    return checks.checked_targets(
      name,
      targets,
      self.target_kind,
      self.model.output_shape,
      leading=leading,
      dtype=self.variable_dtype,
      loss=self.inner_loss,
    )

  def warn_if_inexact(self) -> None:
    """Warns if a layer of the model cannot be differentiated twice."""
    missing_derivatives.warn(type(self).__name__, self.model, stacklevel=4)

  @property
  def transductive(self) -> bool:
    """Whether a prediction depends on the other queries of its task."""
    return self.normalization in ("transductive", "per_step_transductive")

  def call(
    self, inputs: Any, training: Any = None, context: Context = EVALUATION
  ) -> tf.Tensor:
    def one_task(
      support_x: tf.Tensor,
      support_y: tf.Tensor,
      query_x: tf.Tensor,
      context: Context,
    ) -> tf.Tensor:
      context = context.for_task(self, support_x, support_y, query_x)
      weights = self.adapt(support_x, support_y, context)
      return self.predict_with(weights, query_x, context)

    tasks = outer_step.checked_tasks(self, inputs)
    weights = checks.checked_weights(inputs, self)
    return self.for_each_task(one_task, tasks, weights=weights, context=context)

  def for_each_task(
    self,
    fn: Callable[..., Any],
    tasks: tuple[Any, ...],
    *,
    first: Any = 0,
    weights: dict[str, tf.Tensor] | None = None,
    context: Context = EVALUATION,
  ) -> Any:
    """Applies `fn` to each task of a batch, outside of training.

    Args:
      fn: Maps the slices of `tasks` for one task to a structure of tensors. If
        it has an argument `context`, it receives the context of the task, which
        it should pass to `adapt`, `adaptation_path` and `predict_with`.
      tasks: Tensors `[T, ...]`.
      first: Integer, the index of the first task. Random numbers depend on the
        indices of the tasks. Defaults to 0.
      weights: Weights of examples, `support_weight` `[T, S]` and `query_weight`
        `[T, Q]`, which enter the context. Defaults to `None`: all count the
        same.
      context: What is the same for all tasks. Defaults to `EVALUATION`.

    Returns:
      The structure that `fn` returns, each tensor stacked to `[T, ...]`.
    """

    def one_task(weights: Any, index: tf.Tensor, *task: tf.Tensor) -> Any:
      return context.replace(index=index, **weights).call(fn, *task)

    weighted = (weights or {}, *outer_step.indexed(tasks, first))
    return task_map.map_tasks(one_task, weighted, self.task_map_method())

  def task_map_method(self) -> TaskMap:
    """Returns how tasks are batched: `task_map`, with `"auto"` resolved."""
    auto = self.task_map == "auto"
    return task_map.choose_method(self.model) if auto else self.task_map

  def train_step(self, data: Any) -> dict[str, Any]:
    return outer_step.train(self, data)

  def test_step(self, data: Any) -> dict[str, Any]:
    return outer_step.test(self, data)

  def make_train_function(self, force: bool = False) -> None:
    if self.train_function is None or force:
      super().make_train_function(force)
      if compiled_steps.can_serve(self):
        self.train_function = compiled_steps.in_one_program(
          self.train_step, self.steps_per_execution, self.train_function
        )

  def build_for_fit(self, targets: Any) -> None:
    """Creates the variables of the optimizer and the metrics.

    `fit` calls this method before the first step.

    Args:
      targets: A tensor or `tf.TensorSpec` with the shape and dtype of the query
        targets of a batch, or `None` if they are not known.
    """
    replicas.check_fit(self.distribute_strategy, self.steps_per_execution)
    with self.distribute_strategy.scope():
      outer_step.build_for_fit(self, targets)

  def to_model(self, weights: Weights) -> keras.Model:
    """Returns a plain Keras model that predicts as `predict_with(weights, x)`.

    Under `"transductive"`, the batch normalization of this model uses batch
    statistics in `predict` too, unless `weights` hold statistics. `Dropout` is
    inactive in `predict`, as in any Keras model.

    Args:
      weights: Weights returned by `adapt`.

    Raises:
      ValueError: If `weights` has another length than `adapt` returns, or if
        `model` cannot be created again from its configuration.
    """
    return statistics.adapted_copy(
      self.model, weights, transductive=self.transductive
    )

  def export(
    self,
    filepath: Any,
    format: str = "tf_saved_model",
    *,
    normalization: str | None = None,
    **kwargs: Any,
  ) -> Any:
    """Writes a SavedModel that adapts and predicts without this library.

    Its signatures are `serving_default(support_x, support_y, query_x)`,
    `adapt(support_x, support_y)` and `predict(query_x, **adapted)`. They accept
    any number of tasks, shots and queries. See `tfmeta.export`.

    Args:
      filepath: Folder to write.
      format: `"tf_saved_model"` (default), or another format of
        `keras.Model.export`.
      normalization: Which statistics normalize queries in the exported model.
        `"support_stats"`: those of the support set under the adapted weights,
        also if the learner was trained transductively. It then predicts the
        same however many queries come at once. Defaults to `None`: the
        normalization of the learner; if this is transductive, a warning says
        what it costs single queries.
      **kwargs: Forwarded to `keras.Model.export` if `format` is another one, or
        if they contain an `input_signature`; otherwise ignored.
    """
    query_normalization.warn_of_single_queries(self, normalization)
    context = query_normalization.context_for(self, normalization)
    if format != "tf_saved_model" or kwargs.get("input_signature") is not None:
      query_normalization.check_default(context)
      return super().export(filepath, format=format, **kwargs)
    return export.export_saved_model(self, filepath, context)

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "model": copying.serialized(self.model),
      "inner_steps": self.inner_steps,
      "inner_learning_rate": self.inner_learning_rate,
      "eval_inner_steps": self.eval_inner_steps,
      "inner_loss": keras.saving.serialize_keras_object(self.inner_loss),
      "inner_loss_reduction": self.inner_loss_reduction,
      "normalization": self.normalization,
      "task_map": self.task_map,
      "seed": self.seed,
      "clipvalue": self.clipvalue,
      "clipnorm": self.clipnorm,
      **{name: getattr(self, name) for name in self.inner_options},
    }

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "MetaLearner":
    inner_loss = keras.saving.deserialize_keras_object(config["inner_loss"])
    model = copying.deserialized(config["model"])
    return cls(**{**config, "model": model, "inner_loss": inner_loss})


def _check_choices(reduction: Any, task_map_method: Any) -> None:
  arguments.check_choice("inner_loss_reduction", reduction, losses.REDUCTIONS)
  arguments.check_choice("task_map", task_map_method, task_map.TASK_MAPS)
