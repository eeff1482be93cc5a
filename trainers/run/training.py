"""A run, from its first task to the exported learner."""

from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
import re
import shutil
import sys
from typing import Any

import keras
import tensorflow as tf

import tfmeta
from tfmeta import whole_files
from trainers.run import checkpoints
from trainers.run import data_sets
from trainers.run import learner as learners
from trainers.run import packages
from trainers.run import plots
from trainers.run import progress
from trainers.run import results
from trainers.run import strategies
from trainers.run import tasks
from trainers.run import tensorboard_logs
from trainers.run import workdir
from trainers.run import workers

# Files that a run may leave in its workdir, as they are listed at its end.
_WRITTEN = (
  workdir.RESULT,
  plots.LEARNING_CURVE,
  plots.TASKS,
  plots.CALIBRATION,
  plots.LEARNED_RATES,
  workdir.LEARNER,
  workdir.SAVED_MODEL,
)

# Errors that TensorFlow raises in a worker when another one is gone.
_WORKER_LOST = (
  tf.errors.AbortedError,
  tf.errors.CancelledError,
  tf.errors.DeadlineExceededError,
  tf.errors.InternalError,
  tf.errors.UnavailableError,
)


def run(config) -> dict[str, Any]:
  """Trains, evaluates, plots and exports; resumes a run that was stopped.

  Args:
    config: A `Configuration`.

  Returns:
    The content of `result.json`; empty in workers other than the first.

  Raises:
    ValueError: If a value is wrong, or the workdir belongs to another run.
    ImportError: If matplotlib or tensorboard is missing.
    OSError: If data are missing, if a worker is lost, or if disk or memory are
      full.
    ArithmeticError: If the loss became NaN or infinite.
  """
  packages.check_installed("matplotlib", "tensorboard")
  strategy = strategies.make(config)
  with errors_of_users(config):
    if not workers.is_chief(config):
      return _assist(config, strategy)
    data_sets.check_exists(config)
    _check_beforehand(config)
    with workdir.claim(config) as folder:
      learner, checkpoint = train(config, folder, strategy)
      if config.strategy != "none":
        learner = _without_strategy(config, learner, checkpoint)
      checkpoint.load_best(learner)
      return report(config, folder, learner, checkpoint)


@contextlib.contextmanager
def errors_of_users(config: Any) -> Iterator[None]:
  """Turns errors of TensorFlow that a user can correct into errors of Python.

  Args:
    config: The configuration of the run.

  Raises:
    OSError: If disk or memory are full.
    ConnectionError: If another worker has ended or cannot be reached.
  """
  try:
    yield
  except tf.errors.ResourceExhaustedError as error:  # Disk or memory is full.
    raise _resource_error(error.message) from error
  except _WORKER_LOST as error:
    if config.strategy != "multi_worker":
      raise
    raise ConnectionError(
      "Another worker has ended or cannot be reached. Start all of them again: "
      "the run resumes after the last finished epoch. "
      f"Received: {type(error).__name__}"
    ) from error


def _resource_error(message: str) -> OSError:
  """Returns the error for a message of TensorFlow, such as TensorBoard's."""
  line = re.sub(r"\{\{.*?\}\} ?", "", message.splitlines()[0])
  reason = os.strerror(errno.ENOSPC)
  path, is_disk, _ = line.partition(f"; {reason}")
  return OSError(errno.ENOSPC, reason, path) if is_disk else OSError(line)


def _check_beforehand(config) -> None:
  """Refuses before training what could not be evaluated after it.

  Directories are left out, because making tasks reads all their images.
  """
  if config.dataset in data_sets.DATA_SETS:
    tasks.evaluation_tasks(config, config.eval_split, 1)


def _assist(config, strategy) -> dict[str, Any]:
  """Trains as one of several workers; the first one writes all results."""
  train(config, pathlib.Path(config.workdir), strategy, writes=False)
  return {}


def _without_strategy(config, learner, checkpoint) -> tfmeta.MetaLearner:
  """Returns the learner as it was last saved, outside of any strategy."""
  elements = _validation_tasks(config).element_spec
  alone = learners.build(config, elements)
  if not checkpoint.restore(alone):
    alone.set_weights(learner.get_weights())
  return alone


def _validation_tasks(config) -> tf.data.Dataset:
  return tasks.evaluation_tasks(config, "validation", config.validation_tasks)


def train(
  config,
  folder: pathlib.Path,
  strategy: tf.distribute.Strategy | None = None,
  *,
  writes: bool = True,
) -> tuple[Any, tfmeta.callbacks.Checkpoint]:
  """Trains to the last epoch, from the last checkpoint in `folder`.

  Args:
    config: A `Configuration`.
    folder: The workdir.
    strategy: Strategy of the run. Defaults to none.
    writes: Whether this process writes checkpoints and logs.

  Returns:
    The learner with the weights of the last epoch, and its `Checkpoint`.
  """
  validation = _validation_tasks(config)
  learner = learners.build(config, validation.element_spec, strategy)
  checkpoint = checkpoints.of_run(config, folder)
  done = checkpoint.restore(learner)
  if config.strategy == "multi_worker":
    strategies.check_agreement(strategy, done)
  if config.epochs == 0 and writes:
    say("No epochs: the learner is evaluated as it is.")
  elif done == config.epochs and writes:
    say(f"All {done} epochs are finished; the run is only evaluated again.")
  elif done and writes:
    say(f"Resuming after {done} of {config.epochs} epochs.")
  if done < config.epochs:
    try:
      _fit(config, folder, learner, checkpoint, validation, writes)
    except tfmeta.callbacks.DivergenceError as error:
      if not writes:
        raise
      # The callback has put the weights back to those before the update.
      with whole_files.replacing(folder / workdir.LAST_GOOD) as path:
        learner.save(path)
      raise tfmeta.callbacks.DivergenceError(
        f"{error} They are in {folder / workdir.LAST_GOOD}."
      ) from error
  return learner, checkpoint


def _fit(config, folder, learner, checkpoint, validation, writes) -> None:
  done = checkpoint.epoch
  logs = folder / "logs"
  callbacks = [tfmeta.callbacks.TerminateOnDivergence()]
  if writes:
    callbacks += [
      keras.callbacks.TensorBoard(logs, write_graph=False),
      tensorboard_logs.LearnedRatesLog(logs / "learned_rates"),
      checkpoint,
      progress.Progress(),
    ]
  learner.fit(
    tasks.training_tasks(config, start=done * config.steps_per_epoch),
    steps_per_epoch=config.steps_per_epoch,
    epochs=config.epochs,
    initial_epoch=done,
    validation_data=validation,
    callbacks=callbacks,
    shuffle=False,
    verbose=0,
  )


def report(config, folder, learner, checkpoint) -> dict[str, Any]:
  """Saves, evaluates, plots and exports a trained learner."""
  with whole_files.replacing(folder / workdir.LEARNER) as path:
    learner.save(path)
  say(f"Evaluating on {config.eval_tasks} {config.eval_split} tasks ...")
  measured, written = results.final_results(config, learner, checkpoint)
  exported = results.measure_export(config, learner)
  if exported:
    written["exported"] = results.shortened(exported)
  results.write(folder / workdir.RESULT, written)
  plots.plot_learning_curve(folder, checkpoint.history)
  plots.plot_tasks(folder, config, learner)
  plots.plot_calibration(folder, measured)
  plots.plot_learned_rates(folder, learner)
  export(
    folder, learner, normalization=results.export_normalization(config, learner)
  )
  print(measured)
  if exported:
    print(results.line_of_export(exported))
  files = [name for name in _WRITTEN if (folder / name).exists()]
  print(f"Written to {folder}: {', '.join(files)}.")
  return written


def export(folder: pathlib.Path, learner: Any, **kwargs: Any) -> None:
  """Writes the SavedModel whole, or leaves an earlier one.

  Args:
    folder: The workdir.
    learner: The learner.
    **kwargs: Arguments of its `export`.
  """
  temporary = folder / f"{whole_files.UNFINISHED}{workdir.SAVED_MODEL}"
  try:
    learner.export(temporary, **kwargs)
    shutil.rmtree(folder / workdir.SAVED_MODEL, ignore_errors=True)
    temporary.rename(folder / workdir.SAVED_MODEL)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def say(line: str) -> None:
  """Prints a line of progress."""
  print(line, file=sys.stderr, flush=True)
