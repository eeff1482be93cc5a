"""Compares gradients of a task's loss with central differences, in float64."""

import numpy as np
import tensorflow as tf

STEP = 1e-5


def error_of_gradient(learner, task, *, shift=0.1, gradient=None, step=STEP):
  """Returns the relative error of a gradient along a random direction.

  Args:
    learner: A learner in float64.
    task: The arguments of `task_loss`.
    shift: Standard deviation of the noise that is first added to all trainable
      variables. It moves them away from zero biases, and apart if they begin
      with equal values.
    gradient: The gradient to compare, one tensor for each trainable variable
      at its present value; by default, the gradient of `task_loss`.
    step: Float > 0, the step of the differences.
  """
  variables = learner.trainable_variables
  generator = np.random.default_rng(1)
  for variable in variables:
    variable.assign_add(shift * generator.normal(size=variable.shape))
  direction = [generator.normal(size=v.shape) for v in variables]

  # One graph serves the gradient and both differences: tracing takes longer
  # than running.
  @tf.function(autograph=False)
  def loss_and_gradients():
    if gradient is not None:
      return learner.task_loss(*task)[0], gradient
    return _loss_and_gradients(learner, task)

  _, gradients = loss_and_gradients()
  slope = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
  start, losses = [np.array(v) for v in variables], []
  for sign in (1, -1):
    for variable, value, d in zip(variables, start, direction, strict=True):
      variable.assign(value + sign * step * d)
    losses.append(float(loss_and_gradients()[0]))
  for variable, value in zip(variables, start, strict=True):
    variable.assign(value)
  differences = (losses[0] - losses[1]) / (2 * step)
  return abs(slope - differences) / abs(differences)


def gradients_of(learner, task):
  """Returns the gradients of a task's loss for all trainable variables."""
  return _loss_and_gradients(learner, task)[1]


def _loss_and_gradients(learner, task):
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(*task)
  weights = [variable.value for variable in learner.trainable_variables]
  gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
  return loss, [tf.convert_to_tensor(g) for g in gradients]


def mlp_task(seed=0, *, ways=3, features=4):
  """Returns support and query sets for a small MLP, in float64."""
  random = np.random.default_rng(seed)
  x = tf.constant(random.normal(size=(2, 2 * ways, features)))
  y = tf.constant(np.tile(np.arange(ways), 2))
  return x[0], y, x[1], y


def curve_task(seed=0, *, support=4, queries=5):
  """Returns points of one noisy sine for regression, in float64."""
  random = np.random.default_rng(seed)
  x = random.uniform(-2, 2, (support + queries, 1))
  y = np.sin(x) + 0.1 * random.normal(size=x.shape)
  rows = [tf.constant(t) for t in (x, y)]
  support_x, support_y = (t[:support] for t in rows)
  query_x, query_y = (t[support:] for t in rows)
  return support_x, support_y, query_x, query_y
