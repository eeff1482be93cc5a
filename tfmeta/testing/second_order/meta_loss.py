"""A meta-loss for any model: half of the inputs adapt, half measure."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta.testing.second_order import finite_differences

# Inner steps move the weights by this share of their norm, in any model.
_INNER_STEP = 0.1


def nearby_weights(model: keras.Model, seed: int) -> list[tf.Tensor]:
  """Weights of `model` moved by a hundredth of their size.

  A model as initialised may sit on a kink: zero biases on blank images.
  """
  weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
  noise = finite_differences.random_like(weights, seed + 1, weights[0].dtype)
  return [
    w + 0.01 * tf.maximum(tf.sqrt(tf.reduce_mean(w * w)), 0.1) * n
    for w, n in zip(weights, noise, strict=True)
  ]


def state_of(model: keras.Model) -> list[tf.Tensor]:
  """Values of the non-trainable variables."""
  return [tf.convert_to_tensor(v) for v in model.non_trainable_variables]


def cast_inputs(model: keras.Model, x: Any) -> tf.Tensor:
  """`x` in the dtype that `model` takes, so that no precision is lost."""
  known = getattr(model, "inputs", None)
  dtype = known[0].dtype if known else model.trainable_variables[0].dtype
  return tf.cast(x, dtype)


def meta_loss(
  model: keras.Model,
  point: Sequence[tf.Tensor],
  x: tf.Tensor,
  *,
  inner_steps: int,
  seed: int,
) -> finite_differences.Evaluate:
  """Returns the function from weights to meta-loss and meta-gradient.

  Args:
    model: A built model.
    point: Weights near which the function will be called; they set the size of
      the inner steps.
    x: `[n, ...]` inputs; the first half is the support set.
    inner_steps: Gradient steps on the support set.
    seed: Of the random targets.
  """
  half = x.shape[0] // 2
  state = state_of(model)

  def support(weights):
    return _squared_error(model, weights, state, x[:half], seed + 2)

  _, first = value_and_gradients(support, point)
  norm = max(float(tf.linalg.global_norm(first)), 1e-12)
  rate = _INNER_STEP * float(tf.linalg.global_norm(point)) / norm

  def objective(weights):
    for _ in range(inner_steps):
      _, steps = value_and_gradients(support, weights)
      weights = [w - rate * g for w, g in zip(weights, steps, strict=True)]
    return _squared_error(model, weights, state, x[half:], seed + 3)

  return lambda weights: value_and_gradients(objective, weights)


def value_and_gradients(
  function: Any, values: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, list[tf.Tensor]]:
  """Value and gradients of a scalar function, zero where it does not reach."""
  with tf.GradientTape() as tape:
    tape.watch(values)
    value = function(values)
  gradients = tape.gradient(value, values, unconnected_gradients="zero")
  return value, [tf.convert_to_tensor(g) for g in gradients]


def traced(
  evaluate: finite_differences.Evaluate,
  point: Sequence[tf.Tensor],
  *,
  jit_compile: bool,
) -> finite_differences.Evaluate:
  """Traces `evaluate` once, as a graph or for XLA."""
  function = tf.function(evaluate, autograph=False, jit_compile=jit_compile)
  return function.get_concrete_function(point)


def _squared_error(model, weights, state, x, seed):
  outputs, _ = model.stateless_call(weights, state, x, training=True)
  outputs = keras.tree.flatten(outputs)
  targets = finite_differences.random_like(outputs, seed, outputs[0].dtype)
  return tf.add_n(
    [
      tf.reduce_mean(tf.math.squared_difference(y, t))
      for y, t in zip(outputs, targets, strict=True)
    ]
  )
