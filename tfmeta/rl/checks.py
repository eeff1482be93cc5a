"""Errors for wrong arguments and inputs of learners that act."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import checked_values
from tfmeta.core import credit as surrogates
from tfmeta.core import keras_internals
from tfmeta.environments.base import Environment
from tfmeta.rl import actions
from tfmeta.rl import trust_region
from tfmeta.rl.episodes import Episodes

_NO_ARGUMENTS = {
  "inner_loss": "the loss is the surrogate that `credit` names",
  "inner_loss_reduction": "the loss is a mean over the steps",
  "normalization": "policies have no batch normalization",
}

_PARTS = ("observations", "actions", "rewards", "mask", "parameters")


def check_keywords(kwargs: dict[str, Any]) -> None:
  """Refuses arguments of supervised learners that have no meaning here."""
  check_not_given(kwargs, _NO_ARGUMENTS)


def check_not_given(kwargs: dict[str, Any], reasons: dict[str, str]) -> None:
  """Refuses arguments that have no meaning, and says why.

  Args:
    kwargs: What the user has given.
    reasons: Clauses by name of the arguments.
  """
  for name, reason in reasons.items():
    if name in kwargs:
      raise ValueError(
        f"`{name}` is not an argument of a learner that acts: {reason}. "
        f"Received: {name}={kwargs[name]!r}"
      )


def check_settings(
  episodes: Any, credit: Any, credit_decay: Any, discount: Any, gae_decay: Any
) -> None:
  """Checks plain arguments of a `PolicyLearner`."""
  # The advantages of a single episode say little, and two are needed to fit
  # the baseline to more than one return.
  arguments.check_integer("episodes", episodes, least=2)
  arguments.check_choice("credit", credit, surrogates.SURROGATES)
  for name, value in (
    ("credit_decay", credit_decay),
    ("discount", discount),
    ("gae_decay", gae_decay),
  ):
    arguments.check_number(name, value, least=0, most=1)


def check_environment(environment: Any) -> None:
  """Checks that `environment` is an `Environment`."""
  if not isinstance(environment, Environment):
    raise TypeError(
      "`environment` must be a tfmeta.environments.Environment; "
      "tfmeta.environments.from_gymnasium makes one of a Gymnasium "
      f"environment. Received: {environment!r}"
    )
  for name in ("observation_shape", "actions", "horizon"):
    if not hasattr(environment, name):
      raise ValueError(
        f"`environment` must set its attribute `{name}`. Received: a "
        f"{type(environment).__name__} without it"
      )
  arguments.check_integer("environment.actions", environment.actions, least=1)
  arguments.check_integer("environment.horizon", environment.horizon, least=1)


def resolve_distribution(distribution: Any, environment: Environment) -> Any:
  """Returns the distribution; the default fits the environment."""
  fitting = "categorical" if environment.discrete else "gaussian"
  if distribution is None or callable(distribution):
    return distribution or fitting
  arguments.check_choice("distribution", distribution, actions.DISTRIBUTIONS)
  if distribution != fitting:
    kind = "choices" if environment.discrete else "numbers"
    raise ValueError(
      f"The actions of this environment are {kind}, which need "
      f"distribution={fitting!r}. Received: distribution={distribution!r}"
    )
  return distribution


def check_policy(
  policy: keras.Model,
  environment: Environment,
  distribution: actions.ActionDistribution,
) -> None:
  """Checks that a policy fits its environment and has no state."""
  shape = tuple(policy.input_shape[1:])
  if shape != tuple(environment.observation_shape):
    raise ValueError(
      "`policy` must take the observations of the environment, of shape "
      f"{tuple(environment.observation_shape)}. Received: a policy for inputs "
      f"of shape {shape}"
    )
  _check_outputs(policy, environment, distribution)
  _check_stateless(policy)
  policies = {
    layer.compute_dtype for layer in keras_internals.flatten_layers(policy)
  }
  if policies & {"float16", "bfloat16"}:
    raise ValueError(
      "`policy` must compute in float32, because the ratio of two "
      "probabilities has too few digits otherwise. Received: a policy with "
      f"layers that compute in {', '.join(sorted(policies))}"
    )


def _check_outputs(
  policy: keras.Model,
  environment: Environment,
  distribution: actions.ActionDistribution,
) -> None:
  width, expected = policy.output_shape[-1], distribution.parameters
  if len(policy.output_shape) != 2 or expected not in (None, width):
    raise ValueError(
      "`policy` must return the parameters of a "
      f"{distribution.kind} distribution, [n, {expected}] for an environment "
      f"with {environment.actions} "
      f"{'choices' if environment.discrete else 'numbers in an action'}. "
      f"Received: outputs of shape {tuple(policy.output_shape)}"
    )


def _check_stateless(policy: keras.Model) -> None:
  stateful = [
    layer.name
    for layer in keras_internals.flatten_layers(policy, include_self=False)
    if layer.non_trainable_variables and layer.trainable
  ]
  if stateful:
    raise ValueError(
      "`policy` must have no state, such as dropout or batch normalization "
      "has: the policy that learns would not be the policy that acted. "
      f"Received: a policy with the layers {', '.join(stateful)}"
    )


def checked_tasks(data: Any, environment: Environment) -> Any:
  """Returns a batch of tasks, after checking that it fits the environment.

  Numbers are cast to the types of the environment's own tasks.
  """
  tasks = data[0] if isinstance(data, tuple) and len(data) == 1 else data
  expected = environment.task_spec()
  if not isinstance(tasks, dict) or tasks.keys() != expected.keys():
    keys = list(tasks) if isinstance(tasks, dict) else type(tasks).__name__
    raise ValueError(
      "Data must be batches of the tasks of the environment, as "
      "environment.tasks(split, seed=...).batch(T) yields them: dictionaries "
      f"with the keys {sorted(expected)}. Received: {keys}"
    )
  tensors = {
    name: _task_tensor(name, tasks[name], spec.dtype)
    for name, spec in expected.items()
  }
  for name, tensor in tensors.items():
    if not tensor.shape[1:].is_compatible_with(expected[name].shape) or (
      tensor.shape.rank != expected[name].shape.rank + 1
    ):
      raise ValueError(
        f"{name!r} must be a batch [T, ...] of tensors of shape "
        f"{tuple(expected[name].shape)}: call .batch(T) on the tasks. "
        f"Received: shape {tensor.shape}"
      )
  return {
    name: checked_values.finite(f"{name} of the tasks", tensor)
    for name, tensor in tensors.items()
  }


def _task_tensor(name: str, value: Any, dtype: tf.DType) -> tf.Tensor:
  """Returns a part of a batch of tasks as a tensor of the type it must have."""
  try:
    tensor = tf.convert_to_tensor(value)
  except (TypeError, ValueError):  # An array of objects, or a ragged list.
    tensor = tf.constant("")
  found = tensor.dtype
  to_float = dtype.is_floating and (found.is_floating or found.is_integer)
  if found == dtype or to_float or (dtype.is_integer and found.is_integer):
    return tf.cast(tensor, dtype)
  raise ValueError(
    f"{name!r} must be {dtype.name}, as in the tasks of the environment. "
    f"Received: {value!r}"
  )


def checked_episodes(episodes: Any, learner: Any) -> Episodes:
  """Returns episodes of one task as tensors, after checking them.

  Args:
    episodes: What a user passes to `adapt` for one inner step.
    learner: A `PolicyLearner`.
  """
  if not isinstance(episodes, Episodes):
    raise TypeError(
      "`episodes` must be tfmeta.rl.Episodes, or a list of them. Received: "
      f"{type(episodes).__name__}"
    )
  tensors = Episodes(
    *(
      _as_tensor(learner, name, value)
      for name, value in zip(_PARTS, episodes, strict=True)
    )
  )
  _check_shapes(tensors, learner)
  if tf.executing_eagerly():
    _check_values(tensors)
  return tensors


def _as_tensor(learner: Any, name: str, value: Any) -> tf.Tensor:
  tensor = tf.convert_to_tensor(value)
  # The actions of a distribution of the user may have any type.
  if name == "actions" and not tensor.dtype.is_floating:
    return tensor
  return tf.cast(tensor, learner.policy.inputs[0].dtype)


def _check_shapes(episodes: Episodes, learner: Any) -> None:
  """Checks that all parts of `episodes` have axes [B, H] and fit the policy."""
  environment = learner.environment
  ends = {
    "observations": environment.observation_shape,
    "actions": () if environment.discrete else (environment.actions,),
    "rewards": (),
    "mask": (),
    "parameters": learner.policy.output_shape[1:],
  }
  particles = ["M"] * learner.particle_axes
  rank = 2 + len(particles)
  leading = episodes.observations.shape[:rank]
  for name, end in ends.items():
    shape = getattr(episodes, name).shape
    if shape.rank != rank + len(end) or not (
      shape.is_compatible_with([*leading, *end])
    ):
      axes = ", ".join(map(str, [*particles, "B", "H", *end]))
      raise ValueError(
        f"`episodes` must be those of one task, with {name} [{axes}], and B "
        f"and H the same in all parts. Received: {name} of shape {shape} and "
        f"observations of shape {episodes.observations.shape}"
      )


def _check_values(episodes: Episodes) -> None:
  """Checks numbers that are known, which those of a graph are not."""
  alive = episodes.mask.numpy() > 0
  if not alive[..., 0].all():
    raise ValueError(
      "Each of the `episodes` must have a first step, where its mask is above "
      f"0. Received: mask[..., 0]={episodes.mask[..., 0].numpy().tolist()}"
    )
  for name in ("observations", "rewards", "parameters"):
    found = ~np.isfinite(getattr(episodes, name).numpy()[alive])
    if found.any():
      raise ValueError(
        f"`episodes` must have finite {name} up to the end of each episode. "
        f"Received: {int(found.sum())} numbers that are not"
      )


def checked_observations(observations: Any, learner: Any) -> tf.Tensor:
  """Returns observations `[n, *observation_shape]` as a tensor."""
  dtype = learner.policy.inputs[0].dtype
  tensor = tf.cast(tf.convert_to_tensor(observations), dtype)
  expected = learner.environment.observation_shape
  if tensor.shape.rank != 1 + len(expected) or not (
    tensor.shape[1:].is_compatible_with(expected)
  ):
    raise ValueError(
      "`observations` must have the shape [n, "
      f"{', '.join(map(str, expected))}]. Received: shape {tensor.shape}"
    )
  return tensor


def checked_seed(seed: Any) -> tf.Tensor:
  """Returns a seed of two integers as a tensor."""
  tensor = tf.convert_to_tensor(seed)
  if not tensor.dtype.is_integer or not tensor.shape.is_compatible_with([2]):
    raise ValueError(f"`seed` must be two integers. Received: seed={seed!r}")
  return tensor


def check_compiled(learner: Any) -> None:
  """Checks the arguments of `compile` before the first training step."""
  if keras_internals.compiled_loss(learner) is not None:
    raise ValueError(
      "`compile` takes no loss for a learner that acts: `credit` chooses the "
      f"surrogate. Received: loss={learner.loss!r}"
    )
  if keras_internals.compiled_argument(learner, "loss_weights") is not None:
    raise ValueError(
      "`compile` takes no `loss_weights` for a learner that acts: its loss is "
      "one surrogate of the return. Received: loss_weights"
    )
  if keras_internals.compiled_metrics(learner) is not None:
    raise ValueError(
      "`compile` takes no metrics for a learner that acts: it reports the mean "
      "returns before and after adapting. Received: metrics"
    )
  if isinstance(learner.optimizer, trust_region.TrustRegion):
    _check_trust_region(learner)


def _check_trust_region(learner: Any) -> None:
  if not learner.has_divergence:
    raise ValueError(
      f"{type(learner).__name__} has no divergence that a TrustRegion could "
      "bound: compile it with a Keras optimizer, such as "
      "keras.optimizers.Adam(1e-3). Received: a TrustRegion"
    )
  if learner.losses or learner.clipvalue or learner.clipnorm:
    raise ValueError(
      "A TrustRegion does not use regularizers, `clipvalue` or `clipnorm`: "
      "leave them out, or compile with a Keras optimizer. Received: "
      f"{len(learner.losses)} regularizers, clipvalue={learner.clipvalue}, "
      f"clipnorm={learner.clipnorm}"
    )


def check_export(format: str, kwargs: dict[str, Any]) -> None:
  """Checks the arguments of `export`."""
  if format != "tf_saved_model" or kwargs:
    raise ValueError(
      "A learner that acts is exported as a SavedModel with fixed signatures, "
      "format='tf_saved_model'; learner.to_model(weights).export(...) writes "
      f"an adapted policy in other formats. Received: format={format!r}, "
      f"{kwargs}"
    )
