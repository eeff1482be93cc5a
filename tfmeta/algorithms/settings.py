"""Checks of constructor arguments, and the defaults that depend on a model."""

from typing import Any

import keras

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
  if isinstance(model.outputs, list) and (
    len(model.inputs) != 1 or len(model.outputs) != 1
  ):
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


def check_rate(name: str, rate: Any) -> None:
  """Checks a learning rate."""
  number = isinstance(rate, int | float) and not isinstance(rate, bool)
  if not number or not 0 < rate < float("inf"):
    raise ValueError(
      f"`{name}` must be a number above 0. Received: {name}={rate!r}"
    )


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


def resolve_loss(loss: Any) -> Any:
  """The inner loss, cross entropy of integer labels by default."""
  if loss is None:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  resolved = keras.losses.get(loss)
  if not isinstance(loss, str) or isinstance(resolved, keras.losses.Loss):
    return resolved
  # For some names Keras has functions, which do not tell what they expect.
  name = "".join(part.capitalize() for part in resolved.__name__.split("_"))
  return getattr(keras.losses, name, lambda: resolved)()


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
