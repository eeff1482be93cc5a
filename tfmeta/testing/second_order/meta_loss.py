"""The meta-loss of any model: half of the inputs adapt, half measure.

The check runs on a copy of the model in float64, as a function of its weights.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import functional
from tfmeta.layers import copying
from tfmeta.testing.second_order import finite_differences

# Inner steps move the weights by this share of their norm, in any model.
_INNER_STEP = 0.1
_FLOATS = ("bfloat16", "float16", "float32", "float64")


def in_dtype(model: keras.Model, dtype: str) -> keras.Model:
  """Copies a model with all its layers and floating-point inputs in `dtype`.

  Args:
    model: A built model that Keras can rebuild from its configuration.
    dtype: `"float32"` or `"float64"`.

  Returns:
    The copy, not compiled. Its variables have the same values.

  Raises:
    ValueError: If `model` cannot be rebuilt from its configuration.
  """

  def edit(config):
    inner = config["config"]
    if config["class_name"] == "DTypePolicy":
      return {**config, "config": {"name": dtype}}
    if isinstance(inner, dict) and inner.get("dtype") in _FLOATS:
      return {**config, "config": {**inner, "dtype": dtype}}
    return config

  # Layers without a dtype in their configuration take the global policy.
  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(dtype)
  try:
    return copying.rebuild(model, edit)
  finally:
    keras.config.set_dtype_policy(before)


def nearby_weights(model: keras.Model, seed: int) -> list[tf.Tensor]:
  """Returns the weights of `model`, moved by a hundredth of their size.

  A model that was just initialized may sit on a kink of ReLU, as with zero
  biases on blank images.

  Args:
    model: A built model.
    seed: Seed of the movement.
  """
  weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
  noise = finite_differences.random_like(weights, seed + 1, weights[0].dtype)
  return [
    w + 0.01 * tf.maximum(tf.sqrt(tf.reduce_mean(w * w)), 0.1) * n
    for w, n in zip(weights, noise, strict=True)
  ]


def state_of(model: keras.Model) -> list[tf.Tensor]:
  """Returns the values of the non-trainable variables."""
  return [tf.convert_to_tensor(v) for v in model.non_trainable_variables]


def cast_inputs(model: keras.Model, x: Any) -> tf.Tensor:
  """Returns `x` in the dtype that `model` takes, so that none of it is lost."""
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
  """Returns a function from weights to meta-loss and meta-gradient.

  Args:
    model: A built model.
    point: Weights near which the function will be called. They determine the
      inner learning rate: the first inner step moves the weights by a tenth of
      their norm.
    x: `[n, ...]` inputs. The first half is the support set, the rest the query
      set.
    inner_steps: Number of gradient steps on the support set.
    seed: Seed of the random targets.
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
  """Returns the value of a scalar function and its gradients.

  The gradient is zero for what the function does not depend on.
  """
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
  """Traces `evaluate` once, as a graph or for XLA.

  Args:
    evaluate: Function of a point.
    point: List of tensors. The graph is made for their shapes and dtypes.
    jit_compile: Whether to compile with XLA.
  """
  function = tf.function(evaluate, autograph=False, jit_compile=jit_compile)
  return function.get_concrete_function(point)


def _squared_error(model, weights, state, x, seed):
  """Returns the mean squared error of all outputs for random targets."""
  outputs, _ = functional.apply(
    model, weights, state, x, training=True, exact=True
  )
  outputs = keras.tree.flatten(outputs)
  targets = finite_differences.random_like(outputs, seed, outputs[0].dtype)
  return tf.add_n(
    [
      tf.reduce_mean(tf.math.squared_difference(y, t))
      for y, t in zip(outputs, targets, strict=True)
    ]
  )
