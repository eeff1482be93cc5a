"""The outer loss of a batch of tasks, its divergence, and its curvature."""

from collections.abc import Callable
import functools
from typing import Any

import tensorflow as tf

from tfmeta.algorithms import outer_step
from tfmeta.algorithms.context import Context
from tfmeta.core import functional
from tfmeta.core import keras_internals
from tfmeta.core import linearization
from tfmeta.core import replicas
from tfmeta.core import task_map
from tfmeta.rl.episodes import Example
from tfmeta.rl.episodes import step_weights
from tfmeta.typing import Weights


class Objective:
  """The outer loss of a batch of tasks as a function of the initial weights.

  All results are means over the tasks of all replicas. Replicas can meet only
  outside of nested functions, while only such a function is traced once for all
  its uses. So each replica adds up its tasks inside a function, and the sums
  meet outside.

  Args:
    learner: A compiled `PolicyLearner`.
    support: The example of each inner step, tensors `[T, ...]`.
    query: The example of the adapted policies, tensors `[T, ...]`.
  """

  def __init__(self, learner: Any, support: list[Example], query: Example):
    self.learner = learner
    self.tasks = (support, query)
    self.start = functional.weights_of(learner)
    self._context = Context(training=True, step=learner.steps_made())
    self._indices, *_ = outer_step.indexed(self.tasks)
    count = tf.shape(query.observations)[0]
    self._total = replicas.sum_over_replicas(tf.cast(count, tf.float32))
    self._measured = _traced_once(self._sum_measured)

  def slope(self) -> tuple[tf.Tensor, Weights]:
    """Returns the loss at the start, and its gradient."""
    results = outer_step.differentiate(
      self.learner, (self._indices, *self.tasks)
    )
    (losses, _), (gradients, _) = results
    loss, *gradients = self._mean([tf.reduce_sum(losses), *gradients])
    return loss, gradients

  def measure(
    self, weights: Weights, needed: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the loss and the divergence at `weights`.

    Args:
      weights: One tensor for each initial weight.
      needed: Boolean scalar. If it is false, the results are zeros, which take
        no time; all replicas must pass the same value. Defaults to true.
    """
    if needed is None:
      return self._mean(self._measured(weights))
    zero = tf.zeros([], self.tasks[1].decisions.advantages.dtype)
    sums = tf.cond(
      needed, lambda: self._measured(weights), lambda: (zero, zero)
    )
    return self._mean(sums)

  def curvature(
    self, episodes: int | None = None
  ) -> Callable[[Weights], Weights]:
    """Returns the product of the divergence's curvature with a vector.

    The divergence has no slope where the policies are those that acted, so that
    its Hessian is `J' F J` exactly, without second derivatives of the policy.

    Args:
      episodes: Number of episodes of each task to use; all by default.

    Returns:
      A function of one tensor for each initial weight, which returns the same.
    """
    tasks = (self._indices, *self._with_episodes(episodes))
    if self._shares_a_pass():
      product = self._product_of_all(tasks)
    else:
      product = _traced_once(
        lambda vector: self._summed(
          lambda *task: self._product_of_task(task, vector), tasks
        )
      )
    return lambda vector: self._mean(product(vector))

  def _shares_a_pass(self) -> bool:
    """Returns whether all products share one pass through the inner steps.

    The memory of a loop over tasks must not grow with their number. The task of
    zeros that stands in for those of an idle replica may have gradients that
    are not finite. XLA lacks a gradient that a shared pass needs.
    """
    looped = self.learner.task_map_method() == "map"
    return not (looped or has_replicas() or keras_internals.in_xla_context())

  def _product_of_all(self, tasks: Any) -> Callable[[Weights], Weights]:
    method = self.learner.task_map_method()

    def outputs(weights: Weights) -> tf.Tensor:
      return task_map.map_tasks(
        functools.partial(self._outputs, weights), tasks, method
      )

    linear = linearization.Linearization(outputs, self.start)
    mask = tasks[-1].decisions.mask
    shares = task_map.map_tasks(step_weights, (mask,), method)
    return lambda vector: self._curved(linear, shares, vector)

  def _product_of_task(self, task: Any, vector: Weights) -> Any:
    linear = linearization.Linearization(
      lambda weights: self._outputs(weights, *task), self.start
    )
    shares = step_weights(task[-1].decisions.mask)
    return tf.zeros([]), self._curved(linear, shares, vector)

  def _curved(
    self,
    linear: linearization.Linearization,
    shares: tf.Tensor,
    vector: Weights,
  ) -> Weights:
    """Returns `J' F J v`, where each step counts by its share."""
    fisher = self.learner.actions.curvature(linear.outputs, linear.push(vector))
    return linear.pull(shares[..., tf.newaxis] * fisher)

  def _outputs(
    self, weights: Weights, index: tf.Tensor, support: Any, query: Example
  ) -> tf.Tensor:
    """Returns the parameters of the policy adapted from `weights`."""
    learner, context = self.learner, self._context.replace(index=index)
    variables = learner.trainable_variables
    with functional.substituted(learner, variables, weights):
      adapted = learner.adaptation_path(support, context)[-1]
      return learner.query_parameters(adapted, query.observations)

  def _sum_measured(self, weights: Weights) -> Any:
    """Returns the loss and the divergence, summed over this replica's tasks."""

    def of_task(index: tf.Tensor, support: Any, query: Example) -> Any:
      learner, context = self.learner, self._context.replace(index=index)
      variables = learner.trainable_variables
      with functional.substituted(learner, variables, weights):
        loss, outputs = learner.task_loss(support, query, context)
      divergence = learner.mean_divergence(outputs, query.decisions)
      return tf.zeros([]), (loss, divergence)

    return self._summed(of_task, (self._indices, *self.tasks))

  def _with_episodes(self, count: int | None) -> Any:
    if count is None or count >= self.learner.episodes:
      return self.tasks
    axis = 1 + self.learner.particle_axes
    kept = tf.range(count)

    def first(tensor: tf.Tensor) -> tf.Tensor:
      # A scalar of a task has no episodes.
      has_episodes = tensor.shape.rank > axis
      return tf.gather(tensor, kept, axis=axis) if has_episodes else tensor

    return tf.nest.map_structure(first, self.tasks)

  def _summed(self, fn: Callable[..., Any], tasks: Any) -> Any:
    method = self.learner.task_map_method()
    return task_map.map_and_sum(fn, tasks, method)[1]

  def _mean(self, sums: Any) -> Any:
    """Returns means over the tasks of all replicas, from sums of this one."""
    return tf.nest.map_structure(
      lambda t: t / tf.cast(self._total, t.dtype),
      replicas.sum_over_replicas(sums),
    )


def has_replicas() -> bool:
  """Returns whether several replicas make the step together."""
  return tf.distribute.get_strategy().num_replicas_in_sync > 1


def _traced_once(fn: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `fn`; the graph holds it once where replicas call it repeatedly."""
  if not has_replicas():
    return fn
  # TensorFlow would copy the function to each of its calls before it optimizes
  # the graph, which takes longer than tracing.
  whole = {"_noinline": True}
  return tf.function(fn, autograph=False, experimental_attributes=whole)
