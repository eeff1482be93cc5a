"""What the replicas of a `tf.distribute` strategy must agree on."""

from typing import Any

import tensorflow as tf


def sum_over_replicas(value: Any) -> Any:
  """Sum of `value`, of each tensor in it, over all replicas."""
  replica = tf.distribute.get_replica_context()
  if replica is None or replica.num_replicas_in_sync == 1:
    return value
  return replica.all_reduce(tf.distribute.ReduceOp.SUM, value)


def task_indices(count: tf.Tensor, first: Any = 0) -> tf.Tensor:
  """Indices of the tasks of this replica within the batch of all.

  A batch is cut into parts of equal size, of which the last may be shorter or
  empty.

  Args:
    count: Integer, number of tasks of this replica.
    first: Integer, index of the first task of the batch.

  Returns:
    Integers `[count]`.
  """
  replica = tf.distribute.get_replica_context()
  if replica is not None and replica.num_replicas_in_sync > 1:
    total = sum_over_replicas(tf.cast(count, tf.float32))
    part = -(-tf.cast(total, tf.int32) // replica.num_replicas_in_sync)
    first += tf.cast(replica.replica_id_in_sync_group, tf.int32) * part
  return first + tf.range(count)


def as_logs(results: dict[str, Any]) -> dict[str, Any]:
  """Metrics as Keras takes them from a step: with an axis, of many workers.

  Keras 3.15 reduces along the first axis then, which a scalar has not.
  """
  if not _has_many_workers(tf.distribute.get_strategy()):
    return results
  return tf.nest.map_structure(lambda value: tf.reshape(value, [1]), results)


def check_fit(strategy: tf.distribute.Strategy, steps: int) -> None:
  """Checks that `fit` of Keras can run under `strategy`.

  Args:
    strategy: The one that the learner was made in.
    steps: `steps_per_execution`.

  Raises:
    ValueError: If it is a `ParameterServerStrategy`, or if there are several
      workers and steps.
  """
  if steps > 1 and _has_many_workers(strategy):
    raise ValueError(
      "`steps_per_execution` must be 1 under a MultiWorkerMirroredStrategy: "
      "Keras 3 can not loop over steps in which workers meet. "
      f"Received: steps_per_execution={steps}"
    )
  if isinstance(strategy, tf.distribute.experimental.ParameterServerStrategy):
    raise ValueError(
      "`fit` of Keras 3 hands its data to the replicas itself, which a "
      "ParameterServerStrategy refuses: it takes data from a "
      "ClusterCoordinator. Use MultiWorkerMirroredStrategy. "
      f"Received: {type(strategy).__name__}"
    )


def _has_many_workers(strategy: tf.distribute.Strategy) -> bool:
  multi = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
  return multi and strategy.extended._in_multi_worker_mode()
