"""Steps of the inner loop, as pure functions of the weights.

They are not Keras optimizers because those assign variables, which cuts the
gradient from the adapted weights back to the initial ones.
"""

from collections.abc import Callable
import math
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from tfmeta.typing import LearningRates
from tfmeta.typing import StepRates
from tfmeta.typing import SupportLoss
from tfmeta.typing import Weights


class AdamState(NamedTuple):
  """What Adam carries from step to step.

  Attributes:
    count: Float scalar, steps taken so far.
    first_moments: Running means of the gradients, one per weight.
    second_moments: Running means of their squares, one per weight.
  """

  count: tf.Tensor
  first_moments: Weights
  second_moments: Weights


def gradients_of(
  loss_fn: Callable[[Weights], tf.Tensor],
  weights: Weights,
  *,
  first_order: bool = False,
) -> Weights:
  """Gradients of `loss_fn` at `weights`; zero where it does not reach.

  Args:
    loss_fn: Maps weights to a scalar.
    weights: List of tensors.
    first_order: Whether an outer tape takes the gradients for constants.
  """
  with tf.GradientTape() as tape:
    tape.watch(weights)
    loss = loss_fn(weights)
  gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
  gradients = [tf.convert_to_tensor(g) for g in gradients]
  return [tf.stop_gradient(g) for g in gradients] if first_order else gradients


def gradient_step(
  loss_fn: Callable[[Weights], tf.Tensor],
  weights: Weights,
  learning_rates: StepRates,
  *,
  first_order: bool = False,
) -> Weights:
  """One step `w - learning_rate * dL/dw`, differentiable twice.

  Args:
    loss_fn: Maps weights to a scalar.
    weights: List of tensors.
    learning_rates: One per weight: numbers, or tensors that broadcast to it;
      `None` for a weight that stays as it is.
    first_order: Whether an outer tape takes the gradients for constants. The
      learning rates keep their gradients.

  Returns:
    The new weights.

  Raises:
    ValueError: If there are not as many learning rates as weights.
  """
  if len(learning_rates) != len(weights):
    raise ValueError(
      "There must be one learning rate for each weight. Received: "
      f"{len(learning_rates)} learning rates, {len(weights)} weights"
    )

  def merged(chosen: Weights) -> Weights:
    pairs = zip(weights, learning_rates, strict=True)
    moved = iter(chosen)
    return [w if rate is None else next(moved) for w, rate in pairs]

  pairs = zip(weights, learning_rates, strict=True)
  chosen = [w for w, rate in pairs if rate is not None]
  rates = [rate for rate in learning_rates if rate is not None]
  gradients = gradients_of(
    lambda w: loss_fn(merged(w)), chosen, first_order=first_order
  )
  return merged(
    [
      w - _rate_like(rate, w) * g
      for w, rate, g in zip(chosen, rates, gradients, strict=True)
    ]
  )


def _rate_like(rate: tf.Tensor | float, weight: tf.Tensor) -> Any:
  """`rate` in the dtype of `weight`; a number keeps its double precision."""
  return tf.cast(rate, weight.dtype) if tf.is_tensor(rate) else rate


def adam_step(
  loss_fn: Callable[[Weights], tf.Tensor],
  weights: Weights,
  state: AdamState,
  *,
  learning_rate: float,
  beta_1: float = 0.9,
  beta_2: float = 0.999,
  epsilon: float = 1e-8,
) -> tuple[Weights, AdamState]:
  """One step of Adam [1], with its state handed in and out.

  The gradients are taken for constants: the derivative of the square root of
  a second moment that is still zero would be infinite.

  Returns:
    The new weights and the new state.

  References:
    [1] D. Kingma, J. Ba. Adam: A Method for Stochastic Optimization. ICLR
        2015. https://arxiv.org/abs/1412.6980
  """
  gradients = gradients_of(loss_fn, weights, first_order=True)
  count = state.count + 1
  first = [
    beta_1 * m + (1 - beta_1) * g
    for m, g in zip(state.first_moments, gradients, strict=True)
  ]
  second = [
    beta_2 * v + (1 - beta_2) * tf.square(g)
    for v, g in zip(state.second_moments, gradients, strict=True)
  ]
  rate = learning_rate * tf.sqrt(_bias(beta_2, count)) / _bias(beta_1, count)
  weights = [
    w - tf.cast(rate, w.dtype) * m / (tf.sqrt(v) + epsilon)
    for w, m, v in zip(weights, first, second, strict=True)
  ]
  return weights, AdamState(count, first, second)


def _bias(beta: float, count: tf.Tensor) -> tf.Tensor | float:
  """`1 - beta**count`, without the cancellation of a beta close to 1."""
  return -tf.math.expm1(count * math.log(beta)) if beta else 1.0


def run_inner_loop(
  step_fn: Callable[[Any, Any], Any],
  carry: Any,
  steps: int,
  *,
  unroll: bool = True,
) -> list[Any]:
  """Applies `carry = step_fn(step, carry)` for steps 0 to `steps - 1`.

  Args:
    step_fn: Maps `(step, carry)` to the next carry, of the same structure,
      shapes and dtypes.
    carry: Structure of tensors.
    steps: Integer >= 0.
    unroll: Whether the graph holds each step (fast, and the carries between
      are to be had) or one `tf.while_loop` (small, for long runs).

  Returns:
    The carries: before the first step and after each when unrolled; before the
    first and after the last otherwise.
  """
  if unroll:
    path = [carry]
    for step in range(steps):
      path.append(step_fn(step, path[-1]))
    return path
  _, last = tf.while_loop(
    lambda step, _: step < steps,
    lambda step, carry: (step + 1, step_fn(step, carry)),
    (tf.constant(0), carry),
    maximum_iterations=steps,
  )
  return [carry, last]


def gradient_path(
  loss_fn: SupportLoss,
  weights: Weights,
  learning_rates: LearningRates,
  steps: int,
  *,
  first_order: bool = False,
  unroll: bool = True,
) -> list[Weights]:
  """Weights before, between and after `steps` gradient steps.

  Args:
    loss_fn: Maps `(weights, step)` to a scalar.
    weights: List of tensors to begin with.
    learning_rates: One per weight, as in `gradient_step`; or a function from
      the step to them.
    steps: Integer >= 0.
    first_order: As in `gradient_step`.
    unroll: As in `run_inner_loop`, which tells what is returned.
  """

  def step_fn(step: Any, weights: Weights) -> Weights:
    rates = learning_rates(step) if callable(learning_rates) else learning_rates
    return gradient_step(
      lambda w: loss_fn(w, step), weights, rates, first_order=first_order
    )

  return run_inner_loop(step_fn, weights, steps, unroll=unroll)
