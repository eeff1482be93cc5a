"""The task axis and the training step, where a learner meets Keras."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import building
from tfmeta.algorithms import passes
from tfmeta.core import checks
from tfmeta.core import clipping
from tfmeta.core import compiled_steps
from tfmeta.core import functional
from tfmeta.core import replicas
from tfmeta.core import task_map


class TaskBatchModel(keras.Model):
  """Applies `adapt`, `predict_with` and `task_loss` to batches of tasks.

  Internal: derive from `MetaLearner`. All of Keras that is overridden is here.
  """

  task_pass = passes.OUTSIDE
  # Training steps from which on `task_loss` is another computation.
  phase_starts: tuple[int, ...] = ()
  clipvalue: float | None = None
  clipnorm: float | None = None
  meta_loss_tracker: keras.metrics.Mean | None = None

  def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
    def one_task(
      support_x: tf.Tensor, support_y: tf.Tensor, query_x: tf.Tensor
    ) -> tf.Tensor:
      return self.predict_with(self.adapt(support_x, support_y), query_x)

    return self.for_each_task(one_task, self._checked_tasks(inputs))

  def for_each_task(
    self,
    fn: Callable[..., Any],
    tasks: tuple[tf.Tensor, ...],
    *,
    first: Any = 0,
  ) -> Any:
    """Applies `fn` to each of a batch of tasks, outside of training.

    Args:
      fn: Maps the slices of `tasks` for one task to a structure of tensors; it
        may call `adapt`, `adaptation_path` and `predict_with`.
      tasks: Tensors `[T, ...]`.
      first: Integer, the index of the first task, which decides its draws.

    Returns:
      The structure of `fn`, each tensor stacked to `[T, ...]`.
    """

    def one_task(index: tf.Tensor, *task: tf.Tensor) -> Any:
      with self._in_pass(dataclasses.replace(passes.OUTSIDE, index=index)):
        return fn(*task)

    indexed = self._indexed(tasks, first)
    return task_map.map_tasks(one_task, indexed, self._method())

  def train_step(self, data: Any) -> dict[str, Any]:
    x, y = self._unpacked(data)
    tasks = self._indexed((*self._checked_tasks(x), y))
    (losses, y_pred), (gradients, state) = self._differentiate_all(tasks)
    # An optimizer sums over replicas, which need not have as many tasks each.
    total = replicas.sum_over_replicas(tf.cast(tf.shape(y)[0], tf.float32))
    gradients = [g / tf.cast(total, g.dtype) for g in gradients]
    penalty = self._add_penalty(gradients) if self.losses else 0.0
    gradients = clipping.clipped(
      gradients,
      clipvalue=self.clipvalue,
      clipnorm=self.clipnorm,
      scale=self.optimizer.scale_loss(1.0),
    )
    self._update(gradients, state, total)
    meta_loss = functional.mean_or_zero(losses) + tf.cast(penalty, losses.dtype)
    return self._report(y, y_pred, meta_loss)

  def test_step(self, data: Any) -> dict[str, Any]:
    x, y = self._unpacked(data)
    logs = self._report(y, self(x, training=False))
    logs.pop("meta_loss", None)
    return logs

  def make_train_function(self, force: bool = False) -> None:
    if self.train_function is None or force:
      super().make_train_function(force)
      if compiled_steps.can_serve(self):
        self.train_function = compiled_steps.in_one_program(
          self.train_step, self.steps_per_execution, self.train_function
        )

  def _differentiate_all(self, tasks: tuple[tf.Tensor, ...]) -> Any:
    """Sums over tasks; of the phases, all in the graph, the present one."""
    step = passes.step_of(self.optimizer)

    def in_phase(phase: int) -> Any:
      task_pass = passes.TaskPass(
        training=True, step=step, index=0, phase=phase
      )
      differentiate = functools.partial(self._differentiate, task_pass)
      return task_map.map_and_sum(differentiate, tasks, self._method())

    if not self.phase_starts:
      return in_phase(0)
    starts = tf.constant(self.phase_starts, step.dtype)
    passed = tf.reduce_sum(tf.cast(step >= starts, tf.int32))
    return tf.switch_case(
      passed,
      {i: functools.partial(in_phase, i) for i in range(starts.shape[0] + 1)},
    )

  def _differentiate(
    self, task_pass: passes.TaskPass, index: tf.Tensor, *task: tf.Tensor
  ) -> Any:
    """One task: `((loss, outputs), (gradients, assigned state))`."""
    # In a StatelessScope `assign` is recorded, to be averaged over the tasks.
    scope = keras.StatelessScope()
    with self._in_pass(dataclasses.replace(task_pass, index=index)):
      with tf.GradientTape() as tape, scope:
        loss, outputs = self.task_loss(*task)
        scaled = self.optimizer.scale_loss(loss)
    gradients = self._gradients(tape, scaled)
    gradients = [tf.convert_to_tensor(g) for g in gradients]
    state = {
      variable.path: tf.convert_to_tensor(value)
      for variable in self.non_trainable_variables
      if (value := scope.get_current_value(variable)) is not None
    }
    return (loss, outputs), (gradients, state)

  def _add_penalty(self, gradients: list[tf.Tensor]) -> tf.Tensor:
    """Adds those of the regularisers, at the initial weights, to `gradients`.

    Returns:
      What the regularisers add to the loss.
    """
    with tf.GradientTape() as tape:
      penalty = tf.add_n(self.losses)
      scaled = self.optimizer.scale_loss(penalty)
    count = tf.distribute.get_strategy().num_replicas_in_sync
    for place, added in enumerate(self._gradients(tape, scaled)):
      gradients[place] += added / count
    return penalty

  def _gradients(self, tape: tf.GradientTape, loss: tf.Tensor) -> Any:
    weights = [variable.value for variable in self.trainable_variables]
    return tape.gradient(loss, weights, unconnected_gradients="zero")

  def _update(
    self,
    gradients: list[tf.Tensor],
    state: dict[str, tf.Tensor],
    total: tf.Tensor,
  ) -> None:
    # What depends on no data, such as the count of steps, would else be
    # assigned in a step that ends because the data ran out.
    with tf.control_dependencies(gradients):
      self.optimizer.apply_gradients(
        zip(gradients, self.trainable_variables, strict=True)
      )
      for variable in self.non_trainable_variables:
        if variable.path in state:
          value = replicas.sum_over_replicas(state[variable.path])
          variable.assign(value / tf.cast(total, value.dtype))

  def _report(self, y: tf.Tensor, y_pred: Any, meta_loss: Any = 0.0) -> Any:
    """Updates the metrics; `loss` is the mean query loss, for all learners."""
    count = tf.shape(y)[0]
    # Counts known in advance would else grow in a step that finds no data.
    with tf.control_dependencies([y_pred]):
      for metric in self.metrics:
        if metric is self.meta_loss_tracker:
          metric.update_state(meta_loss, sample_weight=count)
        elif metric.name == "loss":
          loss = functional.loss_of_batch(self.inner_loss, y, y_pred)
          metric.update_state(loss, sample_weight=count)
        else:
          metric.update_state(y, y_pred)
    return replicas.as_logs(self.get_metrics_result())

  def _unpacked(self, data: Any) -> tuple[Any, tf.Tensor]:
    """Inputs and query targets of a batch, once they have been checked."""
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    checks.check_fit(weights, self._compile_loss)
    checks.check_inputs(x, rank=len(self.model.input_shape))
    return x, self.checked_targets("Query labels", tf.convert_to_tensor(y))

  def _checked_tasks(self, inputs: Any) -> tuple[tf.Tensor, ...]:
    checks.check_inputs(inputs, rank=len(self.model.input_shape))
    support_x, labels, query_x = (
      tf.convert_to_tensor(inputs[key]) for key in checks.KEYS
    )
    shape = self.model.input_shape[1:]
    checks.check_fits("support_x", support_x.shape, shape, leading=1)
    return support_x, self.checked_targets("Support labels", labels), query_x

  def checked_targets(
    self, name: str, targets: tf.Tensor, *, leading: int = 1
  ) -> tf.Tensor:
    """`targets` once they fit the loss and the outputs."""
    return checks.checked_targets(
      name,
      targets,
      self.model.output_shape,
      classes=functional.takes_labels(self.inner_loss),
      leading=leading,
    )

  def _indexed(
    self, tasks: tuple[tf.Tensor, ...], first: Any = 0
  ) -> tuple[tf.Tensor, ...]:
    """Tasks preceded by their indices over all replicas, from `first` on."""
    return (replicas.task_indices(tf.shape(tasks[0])[0], first), *tasks)

  def _method(self) -> Any:
    auto = self.task_map == "auto"
    return task_map.choose_method(self.model) if auto else self.task_map

  def in_training(self) -> contextlib.AbstractContextManager[None]:
    """Context in which `steps` are those of training, as in `task_loss`."""
    return self._in_pass(dataclasses.replace(self.task_pass, training=True))

  @contextlib.contextmanager
  def _in_pass(self, task_pass: passes.TaskPass) -> Iterator[None]:
    before, self.task_pass = self.task_pass, task_pass
    try:
      yield
    finally:
      self.task_pass = before

  def _maybe_symbolic_build(
    self, iterator: Any = None, data_batch: Any = None
  ) -> None:
    replicas.check_fit(self.distribute_strategy, self.steps_per_execution)
    with self.distribute_strategy.scope():
      building.build_for_fit(self, iterator, data_batch)
