"""What XLA does otherwise."""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


def in_xla_context() -> bool:
  """Whether the graph being traced is to be compiled by XLA.

  TensorFlow has no public way to ask; this is the one it uses itself to choose
  between implementations of its control flow.
  """
  graph = tf.compat.v1.get_default_graph()
  return control_flow_util.GraphOrParentsInXlaContext(graph)
