"""Prepares pytest as absltest does, with two CPUs for two replicas."""

import ctypes
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Several processes share the cores already.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# Tests ask what compiled code computes, once, and not how fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

from absl import flags
import long_tests
import pytest
import tensorflow as tf

_CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
  _CPU, [tf.config.LogicalDeviceConfiguration()] * 2
)

# absltest reads its flags, such as the folder for temporary files.
flags.FLAGS.mark_as_parsed()


def pytest_runtest_teardown(item) -> None:
  """Returns memory to the system after a test that traced a lot.

  Graphs lie in cycles of references, and the C library keeps what is freed:
  gigabytes, in a process of many such tests.
  """
  if "common_test" in item.nodeid:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
      trim(0)


def pytest_collection_finish() -> None:
  """Spares the garbage collector the modules, which live to the end."""
  gc.collect()
  gc.freeze()


def pytest_collection_modifyitems(config, items) -> None:
  """Marks the long tests, and starts with them, so that none is left alone."""
  paths = {config.rootpath / path for path in long_tests.PATHS}
  for item in items:
    if item.path in paths:
      item.add_marker(pytest.mark.long)
  items.sort(key=lambda item: item.path not in paths)
