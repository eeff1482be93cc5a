"""Evaluates the learner of a finished run on more tasks, or on another split.

  python -m trainers.evaluate --workdir=runs/maml --tasks=1000
  python -m trainers.evaluate --workdir=runs/maml --ensemble=5

The first prints the figures and writes them to
runs/maml/evaluation_test_1000.json; the second averages the logits of the five
best epochs, as the released code of MAML++ does (its paper: of three).
"""

import pathlib

from absl import flags

from trainers.run import command
from trainers.run import cores

_FLAGS = flags.FLAGS


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("workdir", "runs/maml", "The workdir of the run.")
  flags.DEFINE_integer("tasks", 1000, "How many tasks.", lower_bound=1)
  flags.DEFINE_enum(
    "split", "test", ["train", "validation", "test"], "Of which classes."
  )
  flags.DEFINE_integer(
    "ensemble",
    1,
    "Of how many of the best epochs, by their validation tasks, logits are "
    "averaged.",
    lower_bound=1,
  )


def run(workdir, *, tasks, split="test", ensemble=1) -> dict:
  """Evaluates the best weights of a workdir; returns what it writes.

  Args:
    workdir: Folder of a run that came to its end.
    tasks: Number of tasks; the same ones for all runs on the same data.
    split: "train", "validation" or "test".
    ensemble: Of how many epochs the outputs are averaged.
  """
  from trainers.run import checkpoints
  from trainers.run import results
  from trainers.run import settings
  from trainers.run import workdir as folders

  folder = pathlib.Path(workdir)
  values = settings.Settings(**folders.read_settings(folder))
  learners = checkpoints.best_learners(values, folder, ensemble)
  measured, figures = results.measure(values, learners, split, tasks)
  members = "" if ensemble == 1 else f"_ensemble_{ensemble}"
  path = folder / f"evaluation_{split}_{tasks}{members}.json"
  folders.write_json(path, figures)
  print(f"{measured}\nWritten to {path}.")
  return figures


def main(_) -> None:
  """Runs what the flags say."""
  cores.share_out(_FLAGS.tasks)
  run(
    _FLAGS.workdir,
    tasks=_FLAGS.tasks,
    split=_FLAGS.split,
    ensemble=_FLAGS.ensemble,
  )


if __name__ == "__main__":
  define()
  command.run(main)
