"""Errors for wrong arguments and inputs of learners that act."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
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


def check_keywords(kwargs: dict[str, Any]) -> None:
  """Refuses arguments of supervised learners that have no meaning here."""
  for name, reason in _NO_ARGUMENTS.items():
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
  """Returns a batch of tasks, after checking that it fits the environment."""
  tasks = data[0] if isinstance(data, tuple) and len(data) == 1 else data
  expected = environment.task_spec()
  if not isinstance(tasks, dict) or tasks.keys() != expected.keys():
    keys = list(tasks) if isinstance(tasks, dict) else type(tasks).__name__
    raise ValueError(
      "Data must be batches of the tasks of the environment, as "
      "environment.tasks(split, seed=...).batch(T) yields them: dictionaries "
      f"with the keys {sorted(expected)}. Received: {keys}"
    )
  tensors = {name: tf.convert_to_tensor(t) for name, t in tasks.items()}
  for name, tensor in tensors.items():
    if not tensor.shape[1:].is_compatible_with(expected[name].shape) or (
      tensor.shape.rank != expected[name].shape.rank + 1
    ):
      raise ValueError(
        f"{name!r} must be a batch [T, ...] of tensors of shape "
        f"{tuple(expected[name].shape)}: call .batch(T) on the tasks. "
        f"Received: shape {tuple(tensor.shape)}"
      )
  return tensors


def check_episodes(steps: Sequence[Any], learner: Any) -> None:
  """Checks episodes of one task that a user passes to `adapt`."""
  rank = len(learner.environment.observation_shape) + 2
  for episodes in steps:
    if not isinstance(episodes, Episodes):
      raise TypeError(
        "`episodes` must be tfmeta.rl.Episodes, or a list of them. Received: "
        f"{type(episodes).__name__}"
      )
    observations = tf.convert_to_tensor(episodes.observations)
    if observations.shape.rank != rank + learner.particle_axes:
      raise ValueError(
        "`episodes` must be those of one task, with observations [B, H, "
        f"{', '.join(map(str, learner.environment.observation_shape))}]. "
        f"Received: observations of shape {tuple(observations.shape)}"
      )


def check_compiled(learner: Any) -> None:
  """Checks the arguments of `compile` before the first training step."""
  if keras_internals.compiled_loss(learner) is not None:
    raise ValueError(
      "`compile` takes no loss for a learner that acts: `credit` chooses the "
      f"surrogate. Received: loss={learner.loss!r}"
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
