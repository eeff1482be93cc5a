"""MAML in JAX: `vmap` over tasks, `grad` through `grad`, compiled by `jit`."""

import functools

import jax
import jax.numpy as jnp

from benchmarks.contenders import measure
from benchmarks.shared import workload


def make_update(case: workload.Case) -> measure.Update:
  """Returns a function that makes a given number of updates."""
  jax.config.update("jax_enable_x64", case.dtype == "float64")
  tasks = {k: jnp.asarray(v) for k, v in workload.make_tasks(case).items()}
  weights = [jnp.asarray(w) for w in workload.make_weights(case)]
  zeros = [jnp.zeros_like(w) for w in weights]
  state = (weights, zeros, zeros, jnp.zeros([]))
  steps = {
    count: jax.jit(functools.partial(_several, case, tasks, count))
    for count in (1, measure.SHORT_UPDATES)
  }

  def update(count: int, tick: measure.Tick) -> float:
    nonlocal state
    each = measure.SHORT_UPDATES if count % measure.SHORT_UPDATES == 0 else 1
    loss = jnp.nan
    for _ in range(count // each):
      state, loss = steps[each](state)
      loss.block_until_ready()
      tick()
    return float(loss)

  return update


def _several(case, tasks, count, state):
  """Returns the state after `count` updates and the loss of the first one."""
  state, losses = jax.lax.scan(
    lambda state, _: _update(case, tasks, state), state, length=count
  )
  return state, losses[0]


def _update(case, tasks, state):
  """Returns the state after one update, and the mean query loss before it."""
  weights, first, second, done = state

  def batch_loss(weights):
    losses = jax.vmap(functools.partial(_task_loss, case, weights))(tasks)
    return losses.mean()

  loss, gradients = jax.value_and_grad(batch_loss)(weights)
  if not case.adam:
    rate = workload.SGD_LEARNING_RATE
    weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
    return (weights, first, second, done), loss
  # Adam is written out, so that this contender needs JAX alone.
  done += 1
  first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
  second = [
    0.999 * v + 0.001 * g**2 for v, g in zip(second, gradients, strict=True)
  ]
  rate = workload.ADAM_LEARNING_RATE * jnp.sqrt(1 - 0.999**done)
  rate /= 1 - 0.9**done
  weights = [
    w - rate * m / (jnp.sqrt(v) + workload.ADAM_EPSILON)
    for w, m, v in zip(weights, first, second, strict=True)
  ]
  return (weights, first, second, done), loss


def _task_loss(case, weights, task):
  loss = functools.partial(_loss, case)
  for _ in range(case.inner_steps):
    gradients = jax.grad(loss)(weights, task["support_x"], task["support_y"])
    if case.first_order:
      gradients = [jax.lax.stop_gradient(g) for g in gradients]
    rate = case.inner_learning_rate
    weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
  return loss(weights, task["query_x"], task["query_y"])


def _loss(case, weights, x, y):
  if case.ways is None:
    return jnp.mean((_mlp(weights, x) - y) ** 2)
  logs = jax.nn.log_softmax(_conv4(weights, x))
  return -jnp.mean(jnp.take_along_axis(logs, y[:, None], axis=1))


def _mlp(weights, x):
  *hidden, kernel, bias = weights
  for inner_kernel, inner_bias in zip(hidden[::2], hidden[1::2], strict=True):
    x = jax.nn.relu(x @ inner_kernel + inner_bias)
  return x @ kernel + bias


def _conv4(weights, x):
  *blocks, kernel, bias = weights
  for i in range(0, len(blocks), 4):
    x = jax.lax.conv_general_dilated(
      x, blocks[i], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = x + blocks[i + 1]
    mean = x.mean(axis=(0, 1, 2))
    variance = ((x - mean) ** 2).mean(axis=(0, 1, 2))
    scale = blocks[i + 2] * jax.lax.rsqrt(variance + workload.NORM_EPSILON)
    x = jax.nn.relu((x - mean) * scale + blocks[i + 3])
    window = (1, 2, 2, 1)
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
  return x.reshape(len(x), -1) @ kernel + bias


if __name__ == "__main__":
  measure.run(make_update)
