"""What the replicas of a `tf.distribute` strategy must agree on."""

from typing import Any

import tensorflow as tf


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
  """Sum of `value` over all replicas; itself where there is one."""
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
