"""Measures the time that a task's convolutions and matrix products take alone.

The program traces one task of `tfmeta.MAML`, collects the convolutions and
matrix products in its graph, and runs each of them alone, as a plain operation
on tensors of the same shapes. It subtracts the time that Python takes to start
an operation. With these kernels, another implementation can be faster only with
fewer operations or other shapes.
"""

import argparse
import collections
import json
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared import workload
import tfmeta

KINDS = ("Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput", "MatMul")
REPEATS = 20


def main() -> None:
  """Prints CPU seconds for each kind of operation as a line of JSON."""
  # One thread runs everything, so that no time goes into dividing small
  # operations among threads.
  tf.config.threading.set_intra_op_parallelism_threads(1)
  parser = argparse.ArgumentParser()
  parser.add_argument("--case", required=True)
  case = workload.CASES[parser.parse_args().case]
  seconds, counts = collections.Counter(), collections.Counter()
  start = _start_seconds()
  for operation, count in _operations(case).items():
    seconds[operation[0]] += count * (_seconds(*operation) - start)
    counts[operation[0]] += count
  report = {
    "cpu_seconds_per_task": sum(seconds.values()),
    "by_kind": seconds,
    "counts": counts,
    "start_seconds": start,
  }
  print(json.dumps(report))


def _operations(case) -> collections.Counter:
  """Counts the operations of a task by kind, attributes and shapes."""
  model = tfmeta.models.conv4(case.image, ways=case.ways, filters=case.filters)
  # tfmeta's pooling moves inner steps into a function of its own, which hides
  # their operations. Keras's layer keeps them in the graph.
  model = keras.models.clone_model(model, clone_function=_with_keras_pooling)
  learner = tfmeta.MAML(
    model,
    inner_steps=case.inner_steps,
    inner_learning_rate=case.inner_learning_rate,
    first_order=case.first_order,
  )
  task = {k: tf.constant(v[0]) for k, v in workload.make_tasks(case).items()}
  weights = model.trainable_variables

  @tf.function(autograph=False)
  def one_task(support_x, support_y, query_x, query_y):
    with tf.GradientTape() as tape:
      loss, _ = learner.task_loss(support_x, support_y, query_x, query_y)
    return tape.gradient(loss, [v.value for v in weights])

  order = ("support_x", "support_y", "query_x", "query_y")
  graph = one_task.get_concrete_function(*[task[k] for k in order]).graph
  return collections.Counter(
    _described(node) for node in _needed(graph) if node.type in KINDS
  )


def _with_keras_pooling(layer):
  if isinstance(layer, tfmeta.layers.MaxPooling2D):
    return keras.layers.MaxPooling2D(
      layer.pool_size, strides=layer.strides, padding=layer.padding
    )
  return type(layer).from_config(layer.get_config())


def _needed(graph):
  """Returns the operations that the outputs depend on.

  TensorFlow prunes the others before it runs the graph.
  """
  needed, waiting = set(), [tensor.op for tensor in graph.outputs]
  while waiting:
    node = waiting.pop()
    if node not in needed:
      needed.add(node)
      waiting += [*(tensor.op for tensor in node.inputs), *node.control_inputs]
  return needed


def _described(node):
  """Returns what is needed to run the operation again, as a hashable key."""
  attributes = {"padding", "transpose_a", "transpose_b"}
  kept = {
    name: node.get_attr(name) for name in attributes & {*node.node_def.attr}
  }
  shapes = tuple(_shape(node, number) for number in range(len(node.inputs)))
  return node.type, tuple(sorted(kept.items())), shapes


def _shape(node, number):
  """Returns the shape of an input, or the value of an input that is a shape.

  The gradients of a convolution receive the shape of their output as an input.
  """
  sizes = {"Conv2DBackpropFilter": 1, "Conv2DBackpropInput": 0}
  if sizes.get(node.type) == number:
    return "sizes", tuple(node.outputs[0].shape)
  return "tensor", tuple(node.inputs[number].shape)


def _start_seconds() -> float:
  """Returns the CPU seconds that Python takes to start an operation.

  A graph starts operations faster, so this time does not belong to the floor.
  """
  number = tf.constant(1.0)
  begin = time.process_time()
  for _ in range(50 * REPEATS):
    tf.raw_ops.Neg(x=number)
  return (time.process_time() - begin) / (50 * REPEATS)


def _seconds(kind, attributes, shapes) -> float:
  """Returns the CPU seconds that one operation takes, its start included."""
  random = np.random.default_rng(0)
  arguments = [
    tf.constant(shape, tf.int32)
    if what == "sizes"
    else tf.constant(random.normal(size=shape), tf.float32)
    for what, shape in shapes
  ]
  options = {
    k: v.decode() if isinstance(v, bytes) else v for k, v in attributes
  }
  run = getattr(tf.raw_ops, kind)
  names = {
    "Conv2D": ("input", "filter"),
    "Conv2DBackpropFilter": ("input", "filter_sizes", "out_backprop"),
    "Conv2DBackpropInput": ("input_sizes", "filter", "out_backprop"),
    "MatMul": ("a", "b"),
  }[kind]
  options.update(zip(names, arguments, strict=True))
  if kind.startswith("Conv"):
    options["strides"] = [1, 1, 1, 1]
  run(**options)
  begin = time.process_time()
  for _ in range(REPEATS):
    run(**options)
  return (time.process_time() - begin) / REPEATS


if __name__ == "__main__":
  main()
