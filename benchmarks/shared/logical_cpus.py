"""Several devices on a machine that has one CPU."""

import tensorflow as tf


def strategy_of(devices: int) -> tf.distribute.Strategy:
  """A strategy for so many logical CPUs, before TensorFlow is used."""
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
