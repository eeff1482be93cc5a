"""Policies: networks that return the parameters of distributions of actions."""

from collections.abc import Sequence

import keras

from tfmeta import layers
from tfmeta.models.mlp import mlp


def gaussian_policy(
  observation_shape: Sequence[int],
  *,
  actions: int,
  hidden: Sequence[int] = (64, 64),
  activation: str = "tanh",
  initial_stddev: float = 1.0,
  dtype: str | None = None,
  name: str = "gaussian_policy",
) -> keras.Model:
  """Builds a policy for actions that are numbers.

  A multilayer perceptron returns the means. The standard deviations are learned
  and do not depend on the observation, as in the released code of MAML.

  Args:
    observation_shape: Shape of one observation.
    actions: Integer >= 1. Number of entries of an action.
    hidden: Units of the hidden layers, first to last. Defaults to `(64, 64)`.
    activation: Activation of the hidden layers. Defaults to `"tanh"`.
    initial_stddev: Float > 0. Standard deviations before training. Defaults to
      1.0.
    dtype: Dtype of all layers. Defaults to Keras's global policy.
    name: Name of the model.

  Returns:
    A built model, `[n, *observation_shape] -> [n, 2 * actions]`: the means, and
    the logarithms of the standard deviations.

  Raises:
    ValueError: If a size is not an integer of at least 1, or if
      `initial_stddev` is not above 0.
  """
  means = mlp(
    observation_shape,
    outputs=actions,
    hidden=hidden,
    activation=activation,
    dtype=dtype,
  )
  appended = layers.LogDeviation(
    initial_stddev=initial_stddev, dtype=dtype, name="log_stddev"
  )
  return keras.Model(means.input, appended(means.output), name=name)


def categorical_policy(
  observation_shape: Sequence[int],
  *,
  choices: int,
  hidden: Sequence[int] = (64, 64),
  activation: str = "tanh",
  dtype: str | None = None,
  name: str = "categorical_policy",
) -> keras.Model:
  """Builds a policy for actions that are one of several choices.

  Args:
    observation_shape: Shape of one observation.
    choices: Integer >= 1. Number of choices.
    hidden: Units of the hidden layers, first to last. With `()`, the logits are
      linear in the observation. Defaults to `(64, 64)`.
    activation: Activation of the hidden layers. Defaults to `"tanh"`.
    dtype: Dtype of all layers. Defaults to Keras's global policy.
    name: Name of the model.

  Returns:
    A built model, `[n, *observation_shape] -> [n, choices]` logits.

  Raises:
    ValueError: If a size is not an integer of at least 1.
  """
  return mlp(
    observation_shape,
    outputs=choices,
    hidden=hidden,
    activation=activation,
    dtype=dtype,
    name=name,
  )
