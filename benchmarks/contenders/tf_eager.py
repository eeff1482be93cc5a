"""MAML in eager TensorFlow: nested gradient tapes, one task after another."""

import keras
import tensorflow as tf

from benchmarks.contenders import measure
from benchmarks.shared import workload


def make_update(case: workload.Case) -> measure.Update:
  """Returns a function that makes a given number of updates."""
  tasks = {k: tf.constant(v) for k, v in workload.make_tasks(case).items()}
  variables = [tf.Variable(w) for w in workload.make_weights(case)]
  optimizer = _make_optimizer(case)

  def update(count: int, tick: measure.Tick) -> float:
    for _ in range(count):
      loss, gradients = _average(case, variables, tasks)
      optimizer.apply_gradients(zip(gradients, variables, strict=True))
      tick()
    return float(loss)

  return update


def _make_optimizer(case):
  if not case.adam:
    return keras.optimizers.SGD(workload.SGD_LEARNING_RATE)
  return keras.optimizers.Adam(
    workload.ADAM_LEARNING_RATE, epsilon=workload.ADAM_EPSILON
  )


def _average(case, variables, tasks):
  """Returns the means of query loss and meta-gradient over tasks.

  Each task has its own tape, so memory does not grow with the number of tasks.
  """
  total, sums = 0.0, [tf.zeros_like(v) for v in variables]
  for i in range(case.tasks):
    task = {key: value[i] for key, value in tasks.items()}
    with tf.GradientTape() as tape:
      weights = _adapt(case, list(variables), task)
      loss = _loss(case, weights, task["query_x"], task["query_y"])
    gradients = tape.gradient(loss, variables)
    sums = [s + g for s, g in zip(sums, gradients, strict=True)]
    total += loss
  return total / case.tasks, [s / case.tasks for s in sums]


def _adapt(case, weights, task):
  for _ in range(case.inner_steps):
    with tf.GradientTape() as tape:
      tape.watch(weights)
      loss = _loss(case, weights, task["support_x"], task["support_y"])
    gradients = tape.gradient(loss, weights)
    if case.first_order:
      gradients = [tf.stop_gradient(g) for g in gradients]
    rate = case.inner_learning_rate
    weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
  return weights


def _loss(case, weights, x, y):
  if case.ways is None:
    return tf.reduce_mean((_mlp(weights, x) - y) ** 2)
  logits = _conv4(weights, x)
  return tf.reduce_mean(
    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
  )


def _mlp(weights, x):
  *hidden, kernel, bias = weights
  for inner_kernel, inner_bias in zip(hidden[::2], hidden[1::2], strict=True):
    x = tf.nn.relu(x @ inner_kernel + inner_bias)
  return x @ kernel + bias


def _conv4(weights, x):
  *blocks, kernel, bias = weights
  for i in range(0, len(blocks), 4):
    x = tf.nn.conv2d(x, blocks[i], 1, "SAME") + blocks[i + 1]
    # `tf.nn.moments` would be shorter, but its second derivatives are wrong.
    mean = tf.reduce_mean(x, axis=(0, 1, 2))
    variance = tf.reduce_mean((x - mean) ** 2, axis=(0, 1, 2))
    scale = blocks[i + 2] * tf.math.rsqrt(variance + workload.NORM_EPSILON)
    x = tf.nn.relu((x - mean) * scale + blocks[i + 3])
    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
  return tf.reshape(x, [tf.shape(x)[0], -1]) @ kernel + bias


if __name__ == "__main__":
  measure.run(make_update)
