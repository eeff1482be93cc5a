"""Checks of constructor arguments, and the defaults that depend on a model."""

from collections.abc import Callable
import math
from typing import Any

import keras
import tensorflow as tf

from tfmeta import layers
from tfmeta.core import functional
from tfmeta.core import task_map

# Longer runs at test time become a loop in the graph.
MAX_UNROLLED_STEPS = 10

NORMALIZATIONS = ("transductive", "support_stats", "none")


def check_model(model: Any) -> None:
  """Checks that `model` can be called with weights in place of its own."""
  if not isinstance(model, keras.Model):
    raise TypeError(f"`model` must be a keras.Model. Received: {model!r}")
  if not model.built:
    raise ValueError(
      "`model` must be built, so that its weights exist: begin it with "
      f"keras.Input(shape) or call it once. Received: model={model.name!r}, "
      "which is not built"
    )
  if not hasattr(model, "outputs"):
    raise ValueError(
      "`model` must be a functional or a Sequential model, whose shapes are "
      "known: with x = keras.Input(shape), keras.Model(x, model(x)) is one. "
      f"Received: model={model.name!r}, a {type(model).__name__}"
    )
  if len(model.inputs) != 1 or len(model.outputs) != 1:
    raise ValueError(
      "`model` must have one input and one output. Received: "
      f"{len(model.inputs)} inputs, {len(model.outputs)} outputs"
    )
  if not model.trainable_variables:
    raise ValueError(
      "`model` must have trainable weights to adapt. Received: "
      f"model={model.name!r}, which has none"
    )
  _check_precision(model)


def _check_precision(model: keras.Model) -> None:
  policies = {
    layer.compute_dtype for layer in model._flatten_layers(include_self=True)
  }
  if "float16" in policies:
    raise ValueError(
      "Models that compute in float16 are not supported, because the steps of "
      "the inner loop underflow there: use the policy 'mixed_bfloat16'. "
      f"Received: model={model.name!r} with dtype policy "
      f"{model.dtype_policy.name!r}"
    )


def check_steps(name: str, steps: Any) -> None:
  """Checks a number of inner steps."""
  if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
    raise ValueError(
      f"`{name}` must be an integer of at least 0. Received: {name}={steps!r}"
    )


def check_positive(name: str, value: Any) -> None:
  """Checks an integer of at least 1."""
  if isinstance(value, bool) or not isinstance(value, int) or value < 1:
    raise ValueError(
      f"`{name}` must be an integer of at least 1. Received: {name}={value!r}"
    )


def check_seed(seed: Any) -> None:
  """Checks an integer that TensorFlow's stateless operations take."""
  if (
    isinstance(seed, bool)
    or not isinstance(seed, int)
    or not -(2**31) <= seed < 2**31
  ):
    raise ValueError(
      "`seed` must be an integer of 32 bits, from -2**31 to 2**31 - 1. "
      f"Received: seed={seed!r}"
    )


def check_rate(name: str, rate: Any) -> None:
  """Checks a learning rate."""
  number = isinstance(rate, int | float) and not isinstance(rate, bool)
  if not number or not 0 < rate < float("inf"):
    raise ValueError(
      f"`{name}` must be a number above 0. Received: {name}={rate!r}"
    )


def check_bound(name: str, bound: Any) -> None:
  """Checks a bound of gradients; `None` is no bound."""
  if bound is not None:
    check_rate(name, bound)


def check_not_negative(name: str, value: Any) -> None:
  """Checks a weight of a term of a loss."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not 0 <= value < float("inf"):
    raise ValueError(
      f"`{name}` must be a number of at least 0. Received: {name}={value!r}"
    )


def check_between(name: str, value: Any, low: float, high: float) -> None:
  """Checks a number that has bounds on both sides."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not low <= value <= high:
    raise ValueError(
      f"`{name}` must be a number from {low:.2g} to {high:.2g}. "
      f"Received: {name}={value!r}"
    )


def check_finite(name: str, value: Any) -> None:
  """Checks a number that may be of either sign."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not math.isfinite(value):
    raise ValueError(
      f"`{name}` must be a finite number. Received: {name}={value!r}"
    )


def check_share(name: str, value: Any) -> None:
  """Checks a share of what is left out."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not 0 <= value < 1:
    raise ValueError(
      f"`{name}` must be a number from 0 to below 1. Received: {name}={value!r}"
    )


def copy_weights(source: Any, model: keras.Model) -> None:
  """Copies into `model` those of the model that the learner `source` has."""
  source = getattr(source, "model", source)
  if not isinstance(source, keras.Model):
    raise ValueError(
      "`initial_from` must be a learner, such as a tfmeta.MAML. Received: "
      f"initial_from={source!r}"
    )
  shapes = [[w.shape for w in m.weights] for m in (source, model)]
  if shapes[0] != shapes[1]:
    raise ValueError(
      "`initial_from` must be a learner of an equal model. Received: weights "
      f"of the shapes {shapes[0]}, and {shapes[1]} in `model`"
    )
  model.set_weights(source.get_weights())


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
  """Checks that `value` is one of `choices`."""
  if value not in choices:
    expected = ", ".join(repr(choice) for choice in choices)
    raise ValueError(
      f"`{name}` must be one of {expected}. Received: {name}={value!r}"
    )


def check_reduction(reduction: Any) -> None:
  """Checks an inner-loss reduction."""
  check_choice("inner_loss_reduction", reduction, functional.REDUCTIONS)


def check_task_map(method: Any) -> None:
  """Checks a way of mapping over tasks."""
  check_choice("task_map", method, task_map.TASK_MAPS)


def resolve_normalization(
  value: str | None, model: keras.Model, choices: tuple[str, ...]
) -> str:
  """The normalisation of query examples, by default from the model."""
  if value is None:
    has_batch = layers.has_batch_normalization(model)
    return choices[0] if has_batch else "none"
  check_choice("normalization", value, choices)
  return value


def check_batch_normalization(normalization: str, model: keras.Model) -> None:
  """Checks that `model` has what a per-step normalisation has slots for."""
  if not layers.has_batch_normalization(model):
    raise ValueError(
      f"normalization={normalization!r} needs a model with trainable batch "
      f"normalisation. Received: model={model.name!r}, which has none"
    )


def check_eval_steps(eval_inner_steps: int | None, inner_steps: int) -> None:
  """Checks that no step is to be taken for which nothing was learned."""
  if (eval_inner_steps or 0) > inner_steps:
    raise ValueError(
      "`eval_inner_steps` must be at most `inner_steps`, because rates or "
      "normalisation are learned for each of these. Received: "
      f"eval_inner_steps={eval_inner_steps}, inner_steps={inner_steps}"
    )


def linear_head(
  model: keras.Model,
) -> tuple[Callable[[tf.Tensor], tf.Tensor], keras.layers.Dense]:
  """What comes before the last layer of `model`, and that, all that is learned.

  The first is a function, which Keras does not track as it would a model: its
  layers are those of `model`. It returns the type of the weights.
  """
  head = model.layers[-1]
  linear = keras.activations.linear
  right = isinstance(head, keras.layers.Dense) and head.activation is linear
  if not right or head.use_bias or len(model.trainable_variables) != 1:
    raise ValueError(
      "`model` must end in a Dense layer without bias or activation, and have "
      "no other trainable weights, as tfmeta.models.embedding_head(...). "
      f"Received: model={model.name!r}, which ends in {head!r}"
    )
  body = keras.Model(model.inputs[0], head.input)
  dtype = head.variable_dtype
  return lambda x: tf.cast(body(x, training=False), dtype), head
