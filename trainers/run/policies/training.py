"""A run of a policy, from its first task to the exported learner."""

import dataclasses
import importlib.metadata
import pathlib
import sys
import time
from typing import Any

import keras
import tensorflow as tf

import tfmeta
from tfmeta import whole_files
from trainers.run import packages
from trainers.run import progress
from trainers.run import results
from trainers.run import strategies
from trainers.run import training
from trainers.run import workdir
from trainers.run import workers
from trainers.run.policies import configuration
from trainers.run.policies import plots

# Tasks that are measured at a time.
_BATCH = 40

# Folder of the joint policy in the workdir.
JOINT = "joint"

_WRITTEN = (
  workdir.RESULT,
  plots.LEARNING_CURVE,
  plots.TASKS,
  workdir.LEARNER,
  workdir.SAVED_MODEL,
)


def run(config: configuration.PolicyConfiguration) -> dict[str, Any]:
  """Trains, evaluates, plots and exports; resumes a run that was stopped.

  Args:
    config: A `PolicyConfiguration`.

  Returns:
    What is written to `result.json`; empty in workers other than the first.

  Raises:
    ValueError: If a value is wrong, or the workdir belongs to another run.
    ImportError: If matplotlib, tensorboard or a simulator is missing.
    OSError: If a worker is lost, or disk or memory are full.
    ArithmeticError: If the loss became NaN or infinite.
  """
  packages.check_installed("matplotlib", "tensorboard")
  strategy = strategies.make(config)
  with training.errors_of_users(config):
    if not workers.is_chief(config):
      train(config, pathlib.Path(config.workdir), strategy, writes=False)
      return {}
    with workdir.claim(config) as folder:
      return _report(config, folder, train(config, folder, strategy))


def train(
  config: configuration.PolicyConfiguration,
  folder: pathlib.Path,
  strategy: tf.distribute.Strategy | None = None,
  *,
  writes: bool = True,
) -> dict[str, tuple[Any, tfmeta.callbacks.Checkpoint]]:
  """Trains the learner and the joint policy, from their last checkpoints.

  Args:
    config: A `PolicyConfiguration`.
    folder: The workdir.
    strategy: Strategy of the run. Defaults to none.
    writes: Whether this process writes checkpoints and logs.

  Returns:
    `"learner"` and, with `--baselines`, `"joint"`: the learner with the weights
    of the last epoch, and its `Checkpoint`.
  """
  trained = {"learner": _train(config, folder, strategy, writes=writes)}
  if config.baselines and config.inner_steps:
    joint = dataclasses.replace(config, inner_steps=0)
    if writes:
      training.say("Training the joint policy, one for all tasks ...")
    trained["joint"] = _train(joint, folder / JOINT, strategy, writes=writes)
  return trained


def _train(
  config: configuration.PolicyConfiguration,
  folder: pathlib.Path,
  strategy: tf.distribute.Strategy | None,
  *,
  writes: bool,
) -> tuple[Any, tfmeta.callbacks.Checkpoint]:
  """Trains to the last epoch, from the last checkpoint in `folder`."""
  learner = build(config, strategy)
  checkpoint = tfmeta.callbacks.Checkpoint(
    folder / workdir.CHECKPOINTS,
    monitor="val_loss",
    mode="min",
    keep=config.keep_best,
  )
  done = checkpoint.restore(learner)
  if config.strategy == "multi_worker":
    strategies.check_agreement(strategy, done)
  if done and writes:
    training.say(f"Resuming after {done} of {config.epochs} epochs.")
  if done < config.epochs:
    callbacks: list[Any] = [
      tfmeta.callbacks.TerminateOnDivergence(),
      tfmeta.callbacks.WarnOfStuckPolicy(),
    ]
    if writes:
      callbacks += [
        keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
        checkpoint,
        progress.Progress(),
      ]
    _fit(config, learner, done, callbacks)
  return learner, checkpoint


def _fit(
  config: configuration.PolicyConfiguration,
  learner: Any,
  done: int,
  callbacks: list[Any],
) -> None:
  environment, began = learner.environment, time.monotonic()
  first = done * config.steps_per_epoch * config.meta_batch_size
  tasks = environment.tasks("train", seed=config.seed, start=first)
  learner.fit(
    tasks.batch(config.meta_batch_size, drop_remainder=True),
    steps_per_epoch=config.steps_per_epoch,
    epochs=config.epochs,
    initial_epoch=done,
    validation_data=evaluation_tasks(
      config, learner, "validation", config.validation_tasks
    ),
    callbacks=callbacks,
    shuffle=False,
    verbose=0,
  )
  if not environment.in_graph:
    share = environment.seconds / (time.monotonic() - began)
    training.say(f"The simulator took {share:.0%} of the time of training.")


def evaluation_tasks(
  config: configuration.PolicyConfiguration,
  learner: Any,
  split: str,
  count: int,
) -> tf.data.Dataset:
  """Returns the first `count` tasks of a split, in batches."""
  tasks = learner.environment.tasks(split, seed=config.seed)
  return tasks.take(count).batch(_BATCH)


def build(
  config: configuration.PolicyConfiguration,
  strategy: tf.distribute.Strategy | None = None,
) -> Any:
  """Returns the compiled learner of a run."""
  environment = _environment(config)
  keras.utils.set_random_seed(config.seed)
  with (strategy or tf.distribute.get_strategy()).scope():
    learner = getattr(tfmeta.rl, config.algorithm)(
      _policy(config, environment),
      environment,
      episodes=config.episodes,
      inner_steps=config.inner_steps,
      inner_learning_rate=config.inner_learning_rate,
      later_step_factor=config.later_step_factor,
      credit=config.credit,
      credit_decay=config.credit_decay,
      discount=config.discount,
      gae_decay=config.gae_decay,
      seed=config.seed,
      **config.own,
    )
    learner.compile(optimizer=_optimizer(config))
  return learner


def _environment(config: configuration.PolicyConfiguration) -> Any:
  name = configuration.ENVIRONMENTS[config.environment]
  return getattr(tfmeta.environments, name)(horizon=config.horizon)


def _policy(
  config: configuration.PolicyConfiguration, environment: Any
) -> keras.Model:
  options = {"hidden": config.hidden, "activation": config.activation}
  shape, actions = environment.observation_shape, environment.actions
  return tfmeta.models.gaussian_policy(shape, actions=actions, **options)


def _optimizer(
  config: configuration.PolicyConfiguration,
) -> keras.optimizers.Optimizer:
  name = config.resolved_optimizer
  if name == "trust_region":
    return tfmeta.rl.TrustRegion(
      config.max_divergence,
      curvature_episodes=config.curvature_episodes or None,
    )
  if name == "adam":
    return keras.optimizers.Adam(config.learning_rate or 1e-3)
  return keras.optimizers.SGD(config.learning_rate or 1.0)


def _report(
  config: configuration.PolicyConfiguration,
  folder: pathlib.Path,
  trained: dict[str, tuple[Any, Any]],
) -> dict[str, Any]:
  """Saves, evaluates, plots and exports the trained learner."""
  learner, checkpoint = _best(config, *trained["learner"])
  with whole_files.replacing(folder / workdir.LEARNER) as path:
    learner.save(path)
  training.say(
    f"Evaluating on {config.eval_tasks} {config.eval_split} tasks ..."
  )
  measured = {config.learner: _measure(config, learner)}
  for name, policy in _baselines(config, trained).items():
    measured[name] = _measure(config, policy)
  written = _result(config, measured, checkpoint)
  results.write(folder / workdir.RESULT, written)
  histories = {name: one.history for name, (_, one) in trained.items()}
  plots.plot_learning_curve(folder, config, histories)
  plots.plot_tasks(folder, config, learner)
  training.export(folder, learner)
  print(table(measured))
  files = [name for name in _WRITTEN if (folder / name).exists()]
  print(f"Written to {folder}: {', '.join(files)}.")
  return written


def _best(
  config: configuration.PolicyConfiguration, learner: Any, checkpoint: Any
) -> tuple[Any, Any]:
  """Returns the learner with the weights of its best epoch.

  A learner that was trained under a strategy is built anew outside of it.
  """
  if config.strategy != "none":
    alone = build(config)
    if not checkpoint.restore(alone):
      alone.set_weights(learner.get_weights())
    learner = alone
  checkpoint.load_best(learner)
  return learner, checkpoint


def _baselines(
  config: configuration.PolicyConfiguration,
  trained: dict[str, tuple[Any, Any]],
) -> dict[str, Any]:
  """Returns the joint policy and a new one, which adapt as the learner does."""
  if not config.baselines:
    return {}
  found = {}
  if "joint" in trained:
    joint = dataclasses.replace(config, inner_steps=0)
    found["joint"] = _best(joint, *trained["joint"])[0]
  return {**found, "random": build(config)}


def _measure(
  config: configuration.PolicyConfiguration, learner: Any
) -> tfmeta.rl.ReturnsResult:
  tasks = evaluation_tasks(
    config, learner, config.eval_split, config.eval_tasks
  )
  return tfmeta.rl.evaluate(learner, tasks, steps=config.eval_steps)


def _result(
  config: configuration.PolicyConfiguration,
  measured: dict[str, tfmeta.rl.ReturnsResult],
  checkpoint: Any,
) -> dict[str, Any]:
  own = measured[config.learner].to_dict()
  others = {k: v.to_dict() for k, v in measured.items() if k != config.learner}
  return {
    "trainer": config.algorithm,
    "environment": config.environment,
    "split": config.eval_split,
    **own,
    "baselines": others,
    "horizon": config.horizon,
    "inner_steps": config.inner_steps,
    "credit": config.credit,
    **config.own,
    "seed": config.seed,
    "updates": checkpoint.epoch * config.steps_per_epoch,
    "best_epochs": checkpoint.best_epochs,
    "seconds": round(sum(checkpoint.history["seconds"]), 1),
    "history": checkpoint.history,
    "versions": {**results.versions(), **_simulators()},
    "machine": results.machine(),
    "command": " ".join(["python", *sys.orig_argv[1:]]),
  }


def _simulators() -> dict[str, str]:
  """Returns the versions of the simulators that are installed."""
  found = {}
  for name in ("gymnasium", "mujoco"):
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def table(measured: dict[str, tfmeta.rl.ReturnsResult]) -> str:
  """Returns the returns of several policies after each inner step, as text."""
  first = next(iter(measured.values()))
  steps = range(len(first.means))
  head = "".join(f"{step:>20}" for step in steps)
  rows = [f"{'inner steps':<11}{head}"]
  for name, result in measured.items():
    cells = [
      f"{mean:>11.2f} {tfmeta.metrics.plus_minus():>2} {width:>5.2f}"
      for mean, width in zip(result.means, result.intervals, strict=True)
    ]
    rows.append(f"{name:<11}" + "".join(cells))
  rows.append(
    f"Mean returns and 95% intervals over {first.tasks} tasks, "
    f"{first.episodes} episodes per task and step."
  )
  return "\n".join(rows)
