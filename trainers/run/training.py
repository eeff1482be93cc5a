"""A run from its first task to the exported learner."""

import pathlib
import shutil
import sys
from typing import Any

import keras
import tensorflow as tf

import tfmeta
from trainers.run import calibration
from trainers.run import checkpoints
from trainers.run import datasets
from trainers.run import figures
from trainers.run import learned_rates
from trainers.run import learners
from trainers.run import progress
from trainers.run import results
from trainers.run import strategies
from trainers.run import workdir


def run(settings) -> dict[str, Any]:
  """Trains, evaluates, draws and exports; goes on where a killed run stopped.

  Args:
    settings: A `Settings`.

  Returns:
    What is written to `result.json`.

  Raises:
    ValueError: If a setting is wrong, or the folder is another run's.
    OSError: If data are missing, or disk or memory are full.
    ArithmeticError: If the loss is no longer finite.
  """
  strategy = strategies.make(settings)
  try:
    if not strategies.is_chief(settings):
      return _assist(settings, strategy)
    datasets.check_end(settings)
    with workdir.claim(settings) as folder:
      learner, checkpoint = train(settings, folder, strategy)
      if settings.strategy != "none":
        learner = _alone(settings, learner, checkpoint)
      checkpoint.load_best(learner)
      return report(settings, folder, learner, checkpoint)
  except tf.errors.ResourceExhaustedError as error:  # Of disk, or memory.
    raise OSError(error.message.splitlines()[0]) from error
  except _LOST as error:
    if settings.strategy != "multi_worker":
      raise
    raise ConnectionError(
      "Another worker has ended or can not be reached. Start all of them "
      "again: the run goes on after the last finished epoch. "
      f"Received: {type(error).__name__}"
    ) from error


def _assist(settings, strategy) -> dict[str, Any]:
  """A worker's part in training; the first worker writes all there is."""
  train(settings, pathlib.Path(settings.workdir), strategy, writes=False)
  return {}


def _alone(settings, learner, checkpoint) -> tfmeta.MetaLearner:
  """The learner as it was last saved, without a strategy."""
  single = learners.build(settings, _validation_tasks(settings).element_spec)
  if not checkpoint.restore(single):
    single.set_weights(learner.get_weights())
  return single


def _validation_tasks(settings) -> tf.data.Dataset:
  return datasets.evaluation_tasks(
    settings, "validation", settings.validation_tasks
  )


def train(
  settings, folder, strategy=None, *, writes=True
) -> tuple[Any, tfmeta.callbacks.Checkpoint]:
  """Trains to the last epoch, from where the checkpoints in `folder` are.

  Returns:
    The learner with the weights of the last epoch, and its `Checkpoint`.
  """
  validation = _validation_tasks(settings)
  learner = learners.build(settings, validation.element_spec, strategy)
  checkpoint = checkpoints.of_run(settings, folder)
  done = checkpoint.restore(learner)
  if settings.strategy == "multi_worker":
    strategies.check_agreement(strategy, done)
  if done and writes:
    _say(f"Going on after {done} of {settings.epochs} epochs.")
  if done < settings.epochs:
    try:
      _fit(settings, folder, learner, checkpoint, validation, writes)
    except tfmeta.callbacks.DivergenceError as error:
      if not writes:
        raise
      with workdir.replacing(folder / workdir.LAST_GOOD) as path:
        learner.save(path)
      raise tfmeta.callbacks.DivergenceError(
        f"{error} They are in {folder / workdir.LAST_GOOD}."
      ) from error
  return learner, checkpoint


def _fit(settings, folder, learner, checkpoint, validation, writes):
  done = checkpoint.epoch
  writers = [
    keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
    learned_rates.LogLearnedRates(folder / "logs" / "learned_rates"),
    checkpoint,
    progress.Progress(),
  ]
  learner.fit(
    datasets.training_tasks(settings, start=done * settings.steps_per_epoch),
    steps_per_epoch=settings.steps_per_epoch,
    epochs=settings.epochs,
    initial_epoch=done,
    validation_data=validation,
    callbacks=[
      tfmeta.callbacks.TerminateOnDivergence(),
      *(writers if writes else []),
    ],
    shuffle=False,
    verbose=0,
  )


def report(settings, folder, learner, checkpoint) -> dict[str, Any]:
  """Saves, evaluates, draws and exports a trained learner."""
  with workdir.replacing(folder / workdir.LEARNER) as path:
    learner.save(path)
  _say(f"Evaluating on {settings.eval_tasks} {settings.eval_split} tasks ...")
  measured, result = results.evaluate(settings, learner, checkpoint)
  workdir.write_json(folder / workdir.RESULT, result)
  figures.draw_learning_curve(folder, checkpoint.history)
  figures.draw_tasks(folder, settings, learner)
  calibration.draw(folder, measured)
  learned_rates.draw(folder, learner)
  _export(folder, learner)
  print(measured)
  written = [name for name in _WRITTEN if (folder / name).exists()]
  print(f"Written to {folder}: {', '.join(written)}.")
  return result


# What workers are told of by TensorFlow when another one is gone.
_LOST = (
  tf.errors.AbortedError,
  tf.errors.CancelledError,
  tf.errors.DeadlineExceededError,
  tf.errors.InternalError,
  tf.errors.UnavailableError,
)

_WRITTEN = (
  workdir.RESULT,
  figures.LEARNING_CURVE,
  figures.TASKS,
  calibration.PICTURE,
  learned_rates.PICTURE,
  workdir.LEARNER,
  workdir.SAVED_MODEL,
)


def _export(folder, learner):
  temporary = folder / f"unfinished_{workdir.SAVED_MODEL}"
  try:
    learner.export(temporary)
    shutil.rmtree(folder / workdir.SAVED_MODEL, ignore_errors=True)
    temporary.rename(folder / workdir.SAVED_MODEL)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _say(line):
  print(line, file=sys.stderr, flush=True)
