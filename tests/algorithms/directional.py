"""The gradient of a task's loss against central differences, in float64."""

import numpy as np
import tensorflow as tf

STEP = 1e-5


def error_of_gradient(learner, task, *, shift=0.1, gradient=None):
  """Relative error along a random direction through all trainable variables.

  Args:
    learner: In float64.
    task: Arguments of `task_loss`.
    shift: How far variables are moved at random first: away from zero biases,
      and from each other where they begin alike.
    gradient: What to compare, at the variables as they are; by default that of
      the loss as it is differenced.
  """
  variables = learner.trainable_variables
  generator = np.random.default_rng(1)
  for variable in variables:
    variable.assign_add(shift * generator.normal(size=variable.shape))
  direction = [generator.normal(size=v.shape) for v in variables]
  loss = tf.function(lambda: learner.task_loss(*task)[0], autograph=False)
  if gradient is None:
    graph = tf.function(lambda: gradients_of(learner, task), autograph=False)
    gradient = graph()
  slope = sum(np.sum(g * d) for g, d in zip(gradient, direction, strict=True))
  start, losses = [np.array(v) for v in variables], []
  for sign in (1, -1):
    for variable, value, d in zip(variables, start, direction, strict=True):
      variable.assign(value + sign * STEP * d)
    losses.append(float(loss()))
  for variable, value in zip(variables, start, strict=True):
    variable.assign(value)
  differences = (losses[0] - losses[1]) / (2 * STEP)
  return abs(slope - differences) / abs(differences)


def gradients_of(learner, task):
  """Gradients of the task's loss for all trainable variables."""
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(*task)
  weights = [variable.value for variable in learner.trainable_variables]
  gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
  return [tf.convert_to_tensor(g) for g in gradients]


def mlp_task(seed=0, *, ways=3, features=4):
  """Support and query set for a small MLP, in float64."""
  random = np.random.default_rng(seed)
  x = tf.constant(random.normal(size=(2, 2 * ways, features)))
  y = tf.constant(np.tile(np.arange(ways), 2))
  return x[0], y, x[1], y


def curve_task(seed=0, *, support=4, queries=5):
  """Points of one function for regression, in float64."""
  random = np.random.default_rng(seed)
  x = random.uniform(-2, 2, (support + queries, 1))
  y = np.sin(x) + 0.1 * random.normal(size=x.shape)
  rows = [tf.constant(t) for t in (x, y)]
  support_x, support_y = (t[:support] for t in rows)
  query_x, query_y = (t[support:] for t in rows)
  return support_x, support_y, query_x, query_y
