"""The checkpoints of a run, and the learners that its best ones make."""

import keras

import tfmeta
from trainers.run import workdir


def of_run(settings, folder) -> tfmeta.callbacks.Checkpoint:
  """The callback that saves a run and restores it."""
  regression = settings.is_regression
  return tfmeta.callbacks.Checkpoint(
    folder / workdir.CHECKPOINTS,
    monitor="val_loss" if regression else "val_accuracy",
    mode="min" if regression else "max",
    keep=settings.keep_best,
  )


def best_learners(settings, folder, count) -> list[tfmeta.MetaLearner]:
  """Learners with the weights of the best epochs of a finished run.

  Raises:
    ValueError: If the run has not finished, or kept fewer.
  """
  if not (folder / workdir.LEARNER).exists():
    raise ValueError(
      "This run has not come to its end: start it again with its own command. "
      f"Received: workdir={str(folder)!r}"
    )
  learners = [
    keras.models.load_model(folder / workdir.LEARNER) for _ in range(count)
  ]
  if count == 1:
    return learners
  checkpoint = of_run(settings, folder)
  checkpoint.restore(learners[0])
  for rank, learner in enumerate(learners):
    if not checkpoint.load_best(learner, rank):
      raise ValueError(
        f"This run has not kept the weights of {count} epochs; --keep_best "
        f"says how many it keeps. Received: ensemble={count}"
      )
  return learners
