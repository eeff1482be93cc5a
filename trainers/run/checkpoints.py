"""The checkpoints of a run, and the learners of its best epochs."""

import pathlib

import tfmeta
from trainers.run import learner
from trainers.run import workdir


def of_run(config, folder: pathlib.Path) -> tfmeta.callbacks.Checkpoint:
  """Returns the callback that saves and restores a run."""
  regression = config.is_regression
  return tfmeta.callbacks.Checkpoint(
    folder / workdir.CHECKPOINTS,
    monitor="val_loss" if regression else "val_accuracy",
    mode="min" if regression else "max",
    keep=config.keep_best,
  )


def best_learners(
  config, folder: pathlib.Path, count: int
) -> list[tfmeta.MetaLearner]:
  """Returns learners with the weights of the best epochs of a finished run.

  Args:
    config: The `Configuration` of the run.
    folder: Its workdir.
    count: Number of learners, from the best epoch on.

  Raises:
    ValueError: If the run has not finished, or has kept fewer epochs.
  """
  if not (folder / workdir.LEARNER).exists():
    raise ValueError(
      "This run has not finished: resume it with its own command. "
      f"Received: workdir={str(folder)!r}"
    )
  learners = [learner.load(folder / workdir.LEARNER) for _ in range(count)]
  if count == 1:
    return learners
  checkpoint = of_run(config, folder)
  # Reads which epochs were the best.
  checkpoint.restore(learners[0])
  for rank, member in enumerate(learners):
    if not checkpoint.load_best(member, rank):
      raise ValueError(
        f"This run has not kept the weights of {count} epochs; --keep_best of "
        f"the trainer sets how many are kept. Received: ensemble={count}"
      )
  return learners
