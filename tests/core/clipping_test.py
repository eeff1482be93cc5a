"""Tests clipped gradients: the order of bounds, and sums over replicas."""

from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import replicas

BOTH = {"clipvalue": 0.1, "clipnorm": 0.1}


class OrderTest(absltest.TestCase):
  def test_elements_come_first(self):
    # Clipping the norm first would give (0.1, 0.00167), and clipping the
    # elements would then change nothing.
    (found,) = replicas.clipped([tf.constant([3.0, 0.05])], **BOTH)
    norm = np.hypot(0.1, 0.05)
    np.testing.assert_allclose(found, [0.01 / norm, 0.005 / norm], rtol=1e-6)

  def test_each_tensor_has_its_own_norm(self):
    gradients = [tf.fill([4], -2.0), tf.constant([[0.03], [-0.04]])]
    large, small = replicas.clipped(gradients, **BOTH)
    np.testing.assert_allclose(large, [-0.05] * 4, rtol=1e-6)
    np.testing.assert_allclose(small, gradients[1])

  def test_either_bound_alone(self):
    gradient = tf.constant([0.3, -0.4])
    for bounds, expected in (
      ({"clipvalue": 0.35, "clipnorm": None}, [0.3, -0.35]),
      ({"clipvalue": None, "clipnorm": 0.1}, [0.06, -0.08]),
      ({"clipvalue": None, "clipnorm": None}, [0.3, -0.4]),
    ):
      (found,) = replicas.clipped([gradient], **bounds)
      np.testing.assert_allclose(found, expected, rtol=1e-6)

  def test_an_overflow_stays_visible(self):
    (found,) = replicas.clipped([tf.constant([np.inf, 1.0])], **BOTH)
    self.assertFalse(np.isfinite(found[0]))
    variable = keras.Variable([1.0, 1.0])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0))
    optimizer.apply([found], [variable])
    np.testing.assert_array_equal(variable, [1.0, 1.0])

  def test_zero_gradients_stay_zero(self):
    (found,) = replicas.clipped([tf.zeros([3])], **BOTH)
    np.testing.assert_array_equal(found, np.zeros([3]))


class ReplicaTest(absltest.TestCase):
  def test_the_sum_is_clipped_instead_of_its_parts(self):
    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
      self.skipTest("needs two logical CPUs")
    strategy = tf.distribute.MirroredStrategy(
      [d.name for d in devices[:2]],
      cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    # The first parts cancel except for 0.05; the second add up to 0.12.
    parts = ([[5.0], [0.06]], [[-4.95], [0.06]])
    values = strategy.experimental_distribute_values_from_function(
      lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )
    clipped = strategy.run(
      lambda part: replicas.clipped(tf.unstack(part), **BOTH), args=(values,)
    )
    sums = [sum(strategy.experimental_local_results(one)) for one in clipped]
    np.testing.assert_allclose(sums, [[0.05], [0.1]], rtol=1e-5)


if __name__ == "__main__":
  absltest.main()
