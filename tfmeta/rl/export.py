"""SavedModels that act and adapt without this library.

A SavedModel has these signatures, whose arguments are passed by name:

    initial() -> {name: weight}
    act(observations [n, ...], **weights) -> {"parameters": [n, k]}
    adapt(observations [B, H, ...], actions [B, H, ...], rewards [B, H],
          mask [B, H], parameters [B, H, k], **weights) -> {name: weight}

H is the horizon of the environment; shorter episodes are padded, with a mask
that is 0. `act` returns the parameters of the distribution of actions: mean and
logarithm of the standard deviation, or logits. `adapt` makes one inner step
from the weights that acted the episodes; call it again with new episodes for
the next step. With M particles, all tensors have a leading axis `[M, ...]`.

    served = tf.saved_model.load(path)
    weights = served.signatures["initial"]()
    parameters = served.signatures["act"](observations=o, **weights)
    weights = served.signatures["adapt"](**episodes, **weights)
"""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import exact_gradients
from tfmeta.rl.episodes import Episodes


def export_saved_model(learner: Any, filepath: Any) -> None:
  """Writes a SavedModel of `learner` with its signatures.

  Args:
    learner: A `PolicyLearner`.
    filepath: Folder to write; it is created if necessary.
  """
  arguments.check_export_path(filepath)
  names = [
    v.path.replace("/", "__") for v in learner.policy.trainable_variables
  ]
  specs = {
    name: tf.TensorSpec(weight.shape, weight.dtype, name)
    for name, weight in zip(names, learner.initial_weights(), strict=True)
  }

  def initial() -> dict[str, tf.Tensor]:
    # A signature must not return a variable itself.
    weights = [tf.identity(w) for w in learner.initial_weights()]
    return dict(zip(names, weights, strict=True))

  def act(
    observations: tf.Tensor, weights: dict[str, tf.Tensor]
  ) -> dict[str, tf.Tensor]:
    ordered = [weights[name] for name in names]
    with exact_gradients.off():
      return {"parameters": learner.query_parameters(ordered, observations)}

  def adapt(
    observations: tf.Tensor,
    actions: tf.Tensor,
    rewards: tf.Tensor,
    mask: tf.Tensor,
    parameters: tf.Tensor,
    weights: dict[str, tf.Tensor],
  ) -> dict[str, tf.Tensor]:
    example = learner.example(
      Episodes(observations, actions, rewards, mask, parameters)
    )
    ordered = [weights[name] for name in names]
    with exact_gradients.off():
      moved = learner.inner_step(ordered, example)
    return dict(zip(names, moved, strict=True))

  archive = keras.export.ExportArchive()
  archive.track(learner)
  archive.add_endpoint("initial", initial, [])
  archive.add_endpoint("act", act, [_observations(learner, [None]), specs])
  archive.add_endpoint("adapt", adapt, [*_episode_specs(learner), specs])
  archive.write_out(filepath, verbose=False)


def _observations(learner: Any, leading: list[int | None]) -> tf.TensorSpec:
  shape = learner.environment.observation_shape
  return _spec(learner, "observations", [*leading, *shape])


def _spec(learner: Any, name: str, shape: Any, dtype: Any = None) -> Any:
  particles = [learner.num_particles] if learner.particle_axes else []
  dtype = learner.policy.inputs[0].dtype if dtype is None else dtype
  return tf.TensorSpec([*particles, *shape], dtype, name)


def _episode_specs(learner: Any) -> list[tf.TensorSpec]:
  environment, horizon = learner.environment, learner.environment.horizon
  discrete = environment.discrete
  action = [] if discrete else [environment.actions]
  dtype = tf.int32 if discrete else None
  return [
    _observations(learner, [None, horizon]),
    _spec(learner, "actions", [None, horizon, *action], dtype),
    _spec(learner, "rewards", [None, horizon]),
    _spec(learner, "mask", [None, horizon]),
    _spec(
      learner, "parameters", [None, horizon, learner.policy.output_shape[-1]]
    ),
  ]
