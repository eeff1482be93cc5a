from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from tfmeta.core import replicas


def strategy_of(cluster):
  """Returns a strategy of workers with these addresses by job."""
  strategy = mock.Mock(spec=tf.distribute.MultiWorkerMirroredStrategy)
  strategy.cluster_resolver.cluster_spec.return_value = tf.train.ClusterSpec(
    cluster
  )
  return strategy


class ReplicasTest(absltest.TestCase):
  def test_one_replica_counts_from_the_first_task(self):
    np.testing.assert_array_equal(replicas.task_indices(3), [0, 1, 2])
    np.testing.assert_array_equal(replicas.task_indices(2, 5), [5, 6])
    self.assertEqual(float(replicas.sum_over_replicas(tf.constant(2.0))), 2.0)

  def test_replicas_share_no_index(self):
    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
      self.skipTest("needs two logical CPUs")
    strategy = tf.distribute.MirroredStrategy(
      [d.name for d in devices[:2]],
      cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    for counts, expected in (
      ((2, 2), [[0, 1], [2, 3]]),
      ((2, 1), [[0, 1], [2]]),
      ((1, 0), [[0], []]),
    ):
      parts = strategy.experimental_distribute_values_from_function(
        lambda context, counts=counts: tf.constant(
          counts[context.replica_id_in_sync_group]
        )
      )
      indices = strategy.run(replicas.task_indices, args=(parts,))
      found = [part.numpy().tolist() for part in indices.values]
      self.assertEqual(found, expected)

  def test_one_worker_logs_scalars(self):
    logs = {"loss": tf.constant(2.0)}
    self.assertEqual(replicas.as_logs(logs)["loss"].shape, ())

  def test_strategies_that_keras_cannot_train_under_are_refused(self):
    refused = mock.Mock(spec=tf.distribute.experimental.ParameterServerStrategy)
    with self.assertRaisesRegex(ValueError, "Use MultiWorkerMirrored"):
      replicas.check_fit(refused, 1)
    replicas.check_fit(tf.distribute.get_strategy(), 100)

  def test_workers_take_one_step_at_a_time(self):
    workers = strategy_of({"worker": ["a:1", "b:1"]})
    replicas.check_fit(workers, 1)
    with self.assertRaisesRegex(ValueError, "steps_per_execution=2"):
      replicas.check_fit(workers, 2)

  def test_counts_the_chief_and_not_the_evaluator_as_a_worker(self):
    for cluster, expected in (
      ({}, False),
      ({"worker": ["a:1"]}, False),
      ({"worker": ["a:1"], "evaluator": ["b:1"]}, False),
      ({"chief": ["a:1"], "worker": ["b:1"]}, True),
    ):
      found = replicas.has_many_workers(strategy_of(cluster))
      self.assertEqual(found, expected, cluster)
    # Without TF_CONFIG it has the processors of this process only.
    alone = tf.distribute.MultiWorkerMirroredStrategy()
    self.assertFalse(replicas.has_many_workers(alone))
    self.assertFalse(replicas.has_many_workers(tf.distribute.get_strategy()))


if __name__ == "__main__":
  absltest.main()
