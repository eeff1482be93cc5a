"""Prepares pytest as absltest does, with two CPUs for two replicas."""

import ctypes
import gc
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Several processes share the cores already.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# Tests ask what compiled code computes, once, and not how fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

from absl import flags
import long_tests
import pytest
import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import concrete_function
from tensorflow.python.framework import func_graph

_CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
  _CPU, [tf.config.LogicalDeviceConfiguration()] * 2
)

# absltest reads its flags, such as the folder for temporary files.
flags.FLAGS.mark_as_parsed()


# TensorFlow keeps the graph of every function that was ever called, in a cycle
# of references that the garbage collector does not see. In a process of many
# tests, these are gigabytes.
_finished_graphs: list[Any] = []
_Collector = concrete_function.ConcreteFunctionGarbageCollector
_Collector.release = lambda self: None
_Collector.__del__ = lambda self: _finished_graphs.append(self._func_graph)


def pytest_runtest_logfinish() -> None:
  """Frees the graphs of a test, and spares the collector what is left.

  Keras calls the garbage collector when a layer is quantized, which takes
  seconds among the objects of many tests.
  """
  gc.collect()
  while _finished_graphs:
    func_graph.dismantle_func_graph(_finished_graphs.pop())
  gc.collect()
  gc.freeze()


def pytest_runtest_teardown(item) -> None:
  """Returns memory to the system after a test that traced a lot.

  The C library keeps what is freed.
  """
  if "common_test" in item.nodeid:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
      trim(0)


def pytest_collection_finish() -> None:
  """Spares the garbage collector the modules, which live to the end."""
  gc.collect()
  gc.freeze()


def pytest_collection_modifyitems(config, items) -> None:
  """Marks the long tests, and starts with them, so that none is left alone."""
  del config
  for item in items:
    if long_tests.is_long(item.nodeid):
      item.add_marker(pytest.mark.long)
  items.sort(key=lambda item: not long_tests.is_long(item.nodeid))
