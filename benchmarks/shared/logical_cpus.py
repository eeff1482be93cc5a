"""Several devices on a machine that has a single CPU device."""

import tensorflow as tf


def strategy_for(devices: int) -> tf.distribute.Strategy:
  """Returns a strategy that trains on `devices` logical CPUs.

  Logical devices can be configured only before TensorFlow runs its first
  operation, so call this function first.
  """
  if devices == 1:
    return tf.distribute.get_strategy()
  cpu = tf.config.list_physical_devices("CPU")[0]
  tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * devices
  )
  return tf.distribute.MirroredStrategy(
    [f"CPU:{index}" for index in range(devices)],
    cross_device_ops=tf.distribute.ReductionToOneDevice(),
  )
