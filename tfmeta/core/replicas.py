"""Values that the replicas of a `tf.distribute` strategy share."""

from typing import Any

import tensorflow as tf


def sum_over_replicas(value: Any) -> Any:
  """Returns the sum over all replicas of each tensor in `value`."""
  replica = tf.distribute.get_replica_context()
  if replica is None or replica.num_replicas_in_sync == 1:
    return value
  return replica.all_reduce(tf.distribute.ReduceOp.SUM, value)


def mean_or_zero(values: tf.Tensor, count: Any = None) -> tf.Tensor:
  """Returns the mean of `[T]` values, or 0 if there are none.

  Args:
    values: Tensor `[T]`.
    count: How many of the values count, if the others are 0. Defaults to
      `None`: all do.
  """
  count = tf.shape(values)[0] if count is None else count
  count = tf.cast(count, values.dtype)
  return tf.math.divide_no_nan(tf.reduce_sum(values), count)


def task_indices(count: tf.Tensor, first: Any = 0) -> tf.Tensor:
  """Returns the indices of this replica's tasks within the whole batch.

  A strategy cuts a batch into parts of equal size. The last parts may be
  shorter or empty.

  Args:
    count: Integer, the number of tasks of this replica.
    first: Integer, the index of the first task of the batch. Defaults to 0.

  Returns:
    Integers `[count]`.
  """
  replica = tf.distribute.get_replica_context()
  if replica is not None and replica.num_replicas_in_sync > 1:
    total = sum_over_replicas(tf.cast(count, tf.float32))
    # The size of a part is rounded up, as the strategy rounds it.
    part = -(-tf.cast(total, tf.int32) // replica.num_replicas_in_sync)
    first += tf.cast(replica.replica_id_in_sync_group, tf.int32) * part
  return first + tf.range(count)


def clipped(
  gradients: list[tf.Tensor],
  *,
  clipvalue: float | None,
  clipnorm: float | None,
  scale: Any = 1.0,
) -> list[tf.Tensor]:
  """Clips the sum of gradients over all replicas.

  Each element is clipped first, then the norm of each tensor. A Keras optimizer
  applies only one of the two. It also clips the part of each replica before the
  parts are added: parts of 5 and -4, both clipped to 0.1, would cancel.

  Args:
    gradients: The parts of this replica, tensors of any shapes.
    clipvalue: Bound on the absolute value of each element of the sum, or
      `None`.
    clipnorm: Bound on the norm of each tensor of the sum, or `None`.
    scale: Scalar by which the gradients were multiplied for loss scaling.
      Defaults to 1.0.

  Returns:
    Tensors of the same shapes, which add up to the clipped sum over all
    replicas. An element that is not finite becomes NaN, so that an optimizer
    with loss scaling notices that its scale is too large.
  """
  if clipvalue is None and clipnorm is None:
    return gradients
  count = tf.distribute.get_strategy().num_replicas_in_sync
  parts = []
  for total in sum_over_replicas(gradients):
    # Clipping would turn an infinite element into a finite one. This difference
    # is NaN where an element is not finite, and 0 elsewhere.
    zero_or_nan = total - total
    if clipvalue is not None:
      limit = tf.cast(clipvalue * scale, total.dtype)
      total = tf.clip_by_value(total, -limit, limit)
    if clipnorm is not None:
      total = tf.clip_by_norm(total, tf.cast(clipnorm * scale, total.dtype))
    parts.append((total + zero_or_nan) / count)
  return parts


def has_many_workers(strategy: tf.distribute.Strategy) -> bool:
  """Returns whether `strategy` spans several processes.

  A `MultiWorkerMirroredStrategy` without `TF_CONFIG` runs in one process.
  """
  if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
    return False
  cluster = strategy.cluster_resolver.cluster_spec()
  workers = [job for job in cluster.jobs if job in ("chief", "worker")]
  return sum(cluster.num_tasks(job) for job in workers) > 1


def as_logs(results: dict[str, Any]) -> dict[str, Any]:
  """Returns metrics in the form that Keras expects from a step.

  With several workers, Keras 3.15 reduces metrics along their first axis, and a
  scalar has no axis.
  """
  if not has_many_workers(tf.distribute.get_strategy()):
    return results
  return tf.nest.map_structure(lambda value: tf.reshape(value, [1]), results)


def check_fit(strategy: tf.distribute.Strategy, steps: int) -> None:
  """Checks that Keras's `fit` can run under `strategy`.

  Args:
    strategy: The strategy in whose scope the learner was created.
    steps: Integer, the `steps_per_execution` of the learner.

  Raises:
    ValueError: If the strategy is a `ParameterServerStrategy`, or if there are
      several workers and several steps per execution.
  """
  if steps > 1 and has_many_workers(strategy):
    raise ValueError(
      "`steps_per_execution` must be 1 under a MultiWorkerMirroredStrategy, "
      "because Keras 3 cannot loop over steps that synchronize workers. "
      f"Received: steps_per_execution={steps}"
    )
  if isinstance(strategy, tf.distribute.experimental.ParameterServerStrategy):
    raise ValueError(
      "`fit` does not run under a ParameterServerStrategy, because Keras 3 "
      "does not use the ClusterCoordinator that it needs. Use "
      "MultiWorkerMirroredStrategy instead. "
      f"Received: {type(strategy).__name__}"
    )
