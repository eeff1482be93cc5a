"""Steps of the inner loop, as pure functions of the weights.

Keras optimizers cannot take these steps: they assign variables, which cuts the
gradient from the adapted weights to the initial ones.
"""

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from tfmeta.core import shared_function
from tfmeta.typing import LearningRates
from tfmeta.typing import StepRates
from tfmeta.typing import SupportLoss
from tfmeta.typing import Weights


class AdamState(NamedTuple):
  """The state that Adam carries from step to step.

  Attributes:
    count: Float scalar, the number of steps taken so far.
    first_moments: Running means of the gradients, one tensor per weight.
    second_moments: Running means of the squared gradients, one tensor per
      weight.
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
  """Returns the gradients of `loss_fn` at `weights`.

  A weight that the loss does not depend on gets a gradient of zeros.

  Args:
    loss_fn: Maps weights to a scalar.
    weights: List of tensors.
    first_order: Whether an outer tape treats the gradients as constants.
      Defaults to `False`.
  """
  with tf.GradientTape() as tape:
    tape.watch(weights)
    loss = loss_fn(weights)
  gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
  # The gradient of an embedding is sparse, and a step needs a dense tensor.
  gradients = [tf.convert_to_tensor(g) for g in gradients]
  # Graphs whose number of examples is not known lose the shape of a few.
  gradients = [
    g if g.shape == w.shape else tf.ensure_shape(g, w.shape)
    for g, w in zip(gradients, weights, strict=True)
  ]
  return [tf.stop_gradient(g) for g in gradients] if first_order else gradients


def gradient_step(
  loss_fn: Callable[[Weights], tf.Tensor],
  weights: Weights,
  learning_rates: StepRates,
  *,
  first_order: bool = False,
) -> Weights:
  """Takes one step `w - learning_rate * dL/dw`, which is twice differentiable.

  Args:
    loss_fn: Maps weights to a scalar.
    weights: List of tensors.
    learning_rates: One rate for each weight: a number, a tensor that broadcasts
      to the weight, or `None`, which leaves the weight unchanged.
    first_order: Whether an outer tape treats the gradients as constants. The
      outer gradients of the learning rates remain. Defaults to `False`.

  Returns:
    The new weights.

  Raises:
    ValueError: If the numbers of learning rates and weights differ.
  """
  gradients = gradients_for(
    loss_fn, weights, learning_rates, first_order=first_order
  )
  return stepped(weights, gradients, learning_rates)


def gradients_for(
  loss_fn: Callable[[Weights], tf.Tensor],
  weights: Weights,
  learning_rates: StepRates,
  *,
  first_order: bool = False,
) -> list[tf.Tensor | None]:
  """Returns the gradients for one step; `None` for weights without a rate.

  See `gradient_step` for the arguments.
  """
  if len(learning_rates) != len(weights):
    raise ValueError(
      "There must be one learning rate for each weight. Received: "
      f"{len(learning_rates)} learning rates, {len(weights)} weights"
    )

  def merged(chosen: Any, others: Any) -> list[Any]:
    pairs = zip(others, learning_rates, strict=True)
    moved = iter(chosen)
    return [other if rate is None else next(moved) for other, rate in pairs]

  # Only the chosen weights are differentiated, which saves the backward pass
  # through layers that do not move.
  pairs = zip(weights, learning_rates, strict=True)
  chosen = [w for w, rate in pairs if rate is not None]
  gradients = gradients_of(
    lambda w: loss_fn(merged(w, weights)), chosen, first_order=first_order
  )
  return merged(gradients, [None] * len(weights))


def stepped(
  weights: Weights,
  gradients: Sequence[tf.Tensor | None],
  learning_rates: StepRates,
) -> Weights:
  """Returns `w - learning_rate * gradient`; `w` itself without a gradient."""
  return [
    w if g is None else w - _rate_like(rate, w) * g
    for w, rate, g in zip(weights, learning_rates, gradients, strict=True)
  ]


def _rate_like(rate: tf.Tensor | float, weight: tf.Tensor) -> Any:
  """Returns a tensor cast to the dtype of `weight`, and a number as it is."""
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
  """Takes one step of Adam [1], as a pure function of the optimizer's state.

  An outer tape treats the gradients as constants.

  Args:
    loss_fn: Maps weights to a scalar.
    weights: List of tensors.
    state: State after the preceding steps.
    learning_rate: Float, the step size.
    beta_1: Float in [0, 1), the decay of the first moments. Defaults to 0.9.
    beta_2: Float in (0, 1), the decay of the second moments. Defaults to 0.999.
    epsilon: Float that is added to the square roots of the second moments.
      Defaults to 1e-8.

  Returns:
    The new weights and the new state.

  References:
    [1] D. Kingma, J. Ba. Adam: A Method for Stochastic Optimization. ICLR
        2015. https://arxiv.org/abs/1412.6980
  """
  return adam_stepped(
    weights,
    gradients_of(loss_fn, weights, first_order=True),
    state,
    [learning_rate] * len(weights),
    beta_1=beta_1,
    beta_2=beta_2,
    epsilon=epsilon,
  )


def adam_stepped(
  weights: Weights,
  gradients: Sequence[tf.Tensor | None],
  state: AdamState,
  learning_rates: StepRates,
  *,
  beta_1: float = 0.9,
  beta_2: float = 0.999,
  epsilon: float = 1e-8,
) -> tuple[Weights, AdamState]:
  """Takes one step of Adam that is differentiable in weights and gradients.

  While all gradients of an entry were zero, its second moment is zero, and the
  derivative of the square root is infinite. The step itself has a derivative
  there, `rate / epsilon` in the gradient, because the first moment is zero too.
  The outer gradient holds this derivative.

  Args:
    weights: List of tensors.
    gradients: One tensor for each weight. `None` leaves the weight and its
      moments unchanged.
    state: State after the preceding steps, with moments for all weights.
    learning_rates: One number for each weight with a gradient.
    beta_1: See `adam_step`.
    beta_2: See `adam_step`.
    epsilon: See `adam_step`.

  Returns:
    The new weights and the new state.
  """
  count = state.count + 1
  first = [
    m if g is None else beta_1 * m + (1 - beta_1) * g
    for m, g in zip(state.first_moments, gradients, strict=True)
  ]
  second = [
    v if g is None else beta_2 * v + (1 - beta_2) * tf.square(g)
    for v, g in zip(state.second_moments, gradients, strict=True)
  ]

  # The rate holds the bias corrections of both moments, which saves two passes
  # over the weights.
  def corrected(rate: Any) -> tf.Tensor:
    return rate * tf.sqrt(_bias(beta_2, count)) / _bias(beta_1, count)

  weights = [
    w
    if g is None
    else w - tf.cast(corrected(rate), w.dtype) * m / (_root(v) + epsilon)
    for w, g, rate, m, v in zip(
      weights, gradients, learning_rates, first, second, strict=True
    )
  ]
  return weights, AdamState(count, first, second)


def _root(x: tf.Tensor) -> tf.Tensor:
  """Returns the square root, with a derivative of 0 at 0."""
  positive = x > 0
  return tf.where(positive, tf.sqrt(tf.where(positive, x, 1)), 0)


def _bias(beta: float, count: tf.Tensor) -> tf.Tensor | float:
  """Returns `1 - beta**count`, without cancellation for a beta close to 1."""
  # The logarithm of a beta of 0 does not exist, but its correction is 1.
  return -tf.math.expm1(count * math.log(beta)) if beta else 1.0


def run_inner_loop(
  step_fn: Callable[[Any, Any], Any],
  carry: Any,
  steps: int,
  *,
  unroll: bool = True,
  share: bool = False,
  recompute: bool = False,
) -> list[Any]:
  """Applies `carry = step_fn(step, carry)` for steps 0 to `steps - 1`.

  Args:
    step_fn: Maps `(step, carry)` to the next carry, which has the same
      structure, shapes and dtypes.
    carry: Structure of tensors.
    steps: Integer >= 0, the number of steps.
    unroll: Whether the graph holds a copy of each step, which is fast and
      gives access to the carries between the steps. If `False`, the steps run
      in one `tf.while_loop`, which keeps the graph of a long run small.
      Defaults to `True`.
    share: Whether unrolled steps share one function, which is traced and
      compiled once. `step_fn` then receives the step as a tensor. Defaults to
      `False`.
    recompute: Whether gradients through unrolled steps compute each step again.
      They then keep the carries between the steps, and nothing else. Steps also
      share one function. Defaults to `False`.

  Returns:
    A list of carries. If unrolled, it holds the carry before the first step and
    the carry after each step. Otherwise, it holds the carry before the first
    step and the carry after the last step.
  """
  if unroll:
    one_step = step_fn
    if recompute:
      one_step = shared_function.RecomputedFunction(step_fn)
    elif share:
      one_step = shared_function.SharedFunction(step_fn)
    path = [carry]
    for step in range(steps):
      path.append(one_step(step, path[-1]))
    return path
  # XLA can differentiate a loop only if the number of its steps has a bound.
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
  share: bool = False,
) -> list[Weights]:
  """Returns the weights before and after each of `steps` gradient steps.

  Args:
    loss_fn: Maps `(weights, step)` to a scalar.
    weights: List of tensors to start from.
    learning_rates: One rate for each weight: a number, a tensor that broadcasts
      to the weight, or `None`, which leaves the weight unchanged. A function
      from the step to such a list gives each step its own rates.
    steps: Integer >= 0, the number of steps.
    first_order: Whether an outer tape treats the gradients as constants.
      Defaults to `False`.
    unroll: Whether the graph holds a copy of each step. If `False`, only the
      weights before the first step and after the last step are returned.
      Defaults to `True`.
    share: Whether unrolled steps share one function: see `run_inner_loop`.
      Defaults to `False`.
  """

  def step_fn(step: Any, weights: Weights) -> Weights:
    rates = learning_rates(step) if callable(learning_rates) else learning_rates
    return gradient_step(
      lambda w: loss_fn(w, step), weights, rates, first_order=first_order
    )

  return run_inner_loop(step_fn, weights, steps, unroll=unroll, share=share)
