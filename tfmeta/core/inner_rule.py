"""Options of the inner loop: clipping, Adam, mini-batches and memory."""

from collections.abc import Callable
import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import inner_loop
from tfmeta.core import inputs
from tfmeta.core import keras_internals
from tfmeta.core.inner_loop import AdamState
from tfmeta.typing import LearningRates
from tfmeta.typing import StepRates
from tfmeta.typing import SupportLoss
from tfmeta.typing import Weights

OPTIMIZERS = ("adam", "sgd")

_MAX_POOLING = (
  keras.layers.MaxPooling1D,
  keras.layers.MaxPooling2D,
  keras.layers.MaxPooling3D,
)

# The options by name, with the values that every learner takes.
DEFAULTS = {
  "inner_optimizer": "sgd",
  "inner_clipnorm": None,
  "support_batch_size": None,
  "recompute_steps": False,
}

NAMES = tuple(DEFAULTS)

# Learners that do not differentiate through the inner steps keep none of them.
FIRST_ORDER_NAMES = NAMES[:-1]


def taken_from(kwargs: dict[str, Any], learner_class: Any) -> dict[str, Any]:
  """Removes the options of the inner loop from arguments, and returns them.

  Args:
    kwargs: Arguments of a learner, which this function changes.
    learner_class: A class with the attribute `inner_options`, the names of the
      options that it has.

  Raises:
    ValueError: If an option is out of range, or if the class does not have it.
  """
  found = {name: kwargs.pop(name, DEFAULTS[name]) for name in NAMES}
  for name, value in found.items():
    if value != DEFAULTS[name] and name not in learner_class.inner_options:
      raise ValueError(
        f"{learner_class.__name__} has no option `{name}`, because its own "
        "method takes the inner steps: leave it out. "
        f"Received: {name}={value!r}"
      )
  optimizer, clipnorm, size, recompute = found.values()
  arguments.check_choice("inner_optimizer", optimizer, OPTIMIZERS)
  if clipnorm is not None:
    arguments.check_number("inner_clipnorm", clipnorm, above=0)
  if size is not None:
    arguments.check_integer("support_batch_size", size, least=1)
  arguments.check_choice("recompute_steps", recompute, (False, True))
  return found


def shares_steps(learner: Any, context: Any) -> bool:
  """Returns whether the inner steps of a task should share one function.

  It is compiled once, which takes most of the time of a first update. If tasks
  run in one batch, the steps are small, and a call would cost more. Without a
  gradient, as outside of training, there is less to compile. Max pooling of
  Keras has a fast gradient only in the function that pools.

  Args:
    learner: A `MetaLearner`.
    context: Task, step and mode of the call.
  """
  one_by_one = context.training and learner.task_map_method() == "map"
  return one_by_one and not any(
    isinstance(layer, _MAX_POOLING) and not getattr(layer, "repeats", False)
    for layer in keras_internals.flatten_layers(learner.model)
  )


def _may_share(learner: Any, context: Any) -> bool:
  """Returns whether the steps of `descend` share one function.

  The step is then a tensor. What a user's own class does with it may need a
  Python integer, so only the losses of tfmeta share a function.
  """
  methods = (type(learner).support_loss, type(learner).training_outputs)
  own = all(method.__module__.startswith("tfmeta.") for method in methods)
  return own and shares_steps(learner, context)


def rule_of(
  learner: Any, context: Any = None, **constants: float
) -> "InnerRule":
  """Returns how a learner steps.

  Args:
    learner: A `MetaLearner`.
    context: Task, step and mode of the call. Defaults to `None`: the steps
      share no function.
    **constants: Constants of Adam that differ from those of `InnerRule`.

  Raises:
    ValueError: If steps are to be recomputed, and tasks run in one batch.
  """
  if learner.recompute_steps and learner.task_map_method() != "map":
    raise ValueError(
      "`recompute_steps` needs tasks that are mapped one by one: pass "
      f"task_map='map' too. Received: task_map={learner.task_map!r}, which is "
      f"{learner.task_map_method()!r} for this model"
    )
  return InnerRule(
    learner.inner_optimizer,
    learner.inner_clipnorm,
    recompute=learner.recompute_steps,
    share=context is not None and _may_share(learner, context),
    **constants,
  )


@dataclasses.dataclass(frozen=True)
class InnerRule:
  """How an inner step follows from the gradient of the support loss.

  Attributes:
    optimizer: `"sgd"` or `"adam"`.
    clipnorm: Float > 0, the largest norm of the gradient of all weights
      together, or `None`. A larger gradient is scaled, and the outer gradient
      includes the derivative of the scale.
    beta_1: Float in [0, 1), the decay of Adam's first moments.
    epsilon: Float that is added to the square roots of Adam's second moments.
    recompute: Whether the outer gradient computes each step again, so that the
      memory that it needs does not grow with the number of steps.
    share: Whether unrolled steps share one function, unless the rates are a
      function of the step, which may need a Python integer.
  """

  optimizer: str = "sgd"
  clipnorm: float | None = None
  beta_1: float = 0.9
  epsilon: float = 1e-7
  recompute: bool = False
  share: bool = False

  def path(
    self,
    loss_fn: SupportLoss,
    weights: Weights,
    learning_rates: LearningRates,
    steps: int,
    *,
    first_order: bool = False,
    unroll: bool = True,
  ) -> list[Weights]:
    """Returns the weights before and after each of `steps` steps.

    The moments of Adam start at zero. See `inner_loop.gradient_path` for the
    arguments.
    """

    def step_fn(step: Any, carry: Any) -> Any:
      rates = learning_rates
      if callable(rates):
        rates = rates(step)
      return self.step(
        lambda w: loss_fn(w, step), carry, rates, first_order=first_order
      )

    carry = (weights, self._initial_state(weights))
    path = inner_loop.run_inner_loop(
      step_fn,
      carry,
      steps,
      unroll=unroll,
      share=self.share and not callable(learning_rates),
      recompute=self.recompute,
    )
    return [weights for weights, _ in path]

  def step(
    self,
    loss_fn: Callable[[Weights], tf.Tensor],
    carry: tuple[Weights, Any],
    learning_rates: StepRates,
    *,
    first_order: bool = False,
  ) -> tuple[Weights, Any]:
    """Takes one step.

    Args:
      loss_fn: Maps weights to a scalar.
      carry: The weights, and the `AdamState`, which is `()` for `"sgd"`.
      learning_rates: One rate for each weight, or `None` to leave it unchanged.
      first_order: Whether an outer tape treats the gradients as constants.
        Defaults to `False`.

    Returns:
      The new weights and the new state.
    """
    weights, state = carry
    gradients = inner_loop.gradients_for(
      loss_fn, weights, learning_rates, first_order=first_order
    )
    if self.clipnorm is not None:
      gradients = clipped(gradients, self.clipnorm)
    if self.optimizer == "sgd":
      return inner_loop.stepped(weights, gradients, learning_rates), state
    return inner_loop.adam_stepped(
      weights,
      gradients,
      state,
      learning_rates,
      beta_1=self.beta_1,
      epsilon=self.epsilon,
    )

  def _initial_state(self, weights: Weights) -> Any:
    if self.optimizer == "sgd":
      return ()
    zeros = [tf.zeros_like(w) for w in weights]
    return AdamState(tf.zeros([], weights[0].dtype), zeros, zeros)


def clipped(
  gradients: list[tf.Tensor | None], clipnorm: float
) -> list[tf.Tensor | None]:
  """Scales gradients whose norm, of all together, exceeds `clipnorm`."""
  given = [g for g in gradients if g is not None]
  dtype = given[0].dtype
  squares = [tf.cast(tf.reduce_sum(tf.square(g)), dtype) for g in given]
  square = tf.add_n(squares)
  outside = square > clipnorm**2
  # The derivative of the root at zero is infinite, so zero must not reach it.
  norm = tf.sqrt(tf.where(outside, square, tf.ones_like(square)))
  factor = tf.where(outside, clipnorm / norm, tf.ones_like(norm))
  return [
    None if g is None else tf.cast(factor, g.dtype) * g for g in gradients
  ]


def batches(
  learner: Any, support_y: tf.Tensor, context: Any
) -> Callable[[Any, Any], Any]:
  """Returns a function of examples and the step to those of the mini-batch.

  Examples are sampled without replacement. If the support set is exhausted,
  sampling starts anew.

  Args:
    learner: A `MetaLearner`.
    support_y: Support targets, `[S, ...]`.
    context: Task, step and mode of the call.

  Returns:
    A function that maps a structure of tensors `[S, ...]` and the inner step to
    a structure of tensors `[B, ...]`, or to the whole structure if the learner
    has no `support_batch_size`.
  """
  size, steps = learner.support_batch_size, learner.inner_steps_for(context)
  if size is None or steps == 0:
    return lambda examples, step: examples
  if context.support_weight is not None:
    raise ValueError(
      f"{type(learner).__name__} with a `support_batch_size` takes no weights "
      "of examples, because padding would take places in the mini-batches: "
      f"leave out one of them. Received: support_batch_size={size} and "
      "`support_weight`"
    )
  seed = context.seed_from(learner.seed)
  chosen = mini_batches(inputs.count_of(support_y), size, steps, seed)
  return lambda examples, step: tf.nest.map_structure(
    lambda t: tf.gather(t, tf.gather(chosen, step)), examples
  )


def mini_batches(
  examples: tf.Tensor, size: int, steps: int, seed: tf.Tensor
) -> tf.Tensor:
  """Returns the indices `[steps, B]` of the examples of each mini-batch.

  Args:
    examples: Integer, the number S of examples.
    size: Integer, the number B of examples in a mini-batch; S if S is smaller.
    steps: Integer >= 1, the number of mini-batches.
    seed: Integers `[2]`.
  """
  size = tf.minimum(size, examples)
  epochs = (steps * size - 1) // examples + 1
  # Sorting random integers shuffles the examples. Random floats would differ
  # between plain graphs and XLA, even with the same seed.
  noise = tf.random.stateless_uniform(
    [epochs, examples],
    seed,
    minval=None,
    maxval=None,
    dtype=tf.int32,
    alg="philox",
  )
  order = tf.reshape(tf.argsort(noise, axis=-1), [-1])
  return tf.reshape(order[: steps * size], [steps, size])
