"""Evaluates the learner of a finished run on more tasks, or on another split.

  python -m trainers.evaluate --workdir=runs/maml --tasks=1000
  python -m trainers.evaluate --workdir=runs/maml --ensemble=5

The first command prints the results and writes them to
runs/maml/evaluation_test_1000.json. The second averages the logits of the five
best epochs, as the released code of MAML++ does (the paper averages three).
"""

from collections.abc import Sequence
import os
import pathlib
from typing import Any

from absl import flags

from trainers.run import command_line
from trainers.run import cores

_FLAGS = flags.FLAGS


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("workdir", "runs/maml", "Workdir of a finished run.")
  flags.DEFINE_integer("tasks", 1000, "Number of tasks.", lower_bound=1)
  flags.DEFINE_enum(
    "split",
    "test",
    ["train", "validation", "test"],
    "Split whose classes the tasks have.",
  )
  flags.DEFINE_integer(
    "ensemble",
    1,
    "Number of best epochs whose outputs are averaged; validation tasks tell "
    "which epochs are the best.",
    lower_bound=1,
  )


def run(
  workdir: str | os.PathLike[str],
  *,
  tasks: int,
  split: str = "test",
  ensemble: int = 1,
) -> dict[str, Any]:
  """Evaluates the best weights of a run, and writes the results to its workdir.

  Args:
    workdir: Folder of a finished run.
    tasks: Number of tasks. They are the same for all runs on the same data.
    split: "train", "validation" or "test".
    ensemble: Number of best epochs whose outputs are averaged.

  Returns:
    The content of the file that it writes.

  Raises:
    ValueError: If there is no finished run, or if it has kept fewer epochs.
  """
  # These modules load TensorFlow. Imported here, they do not delay --help.
  from trainers.run import checkpoints
  from trainers.run import configuration
  from trainers.run import results
  from trainers.run import workdir as folders

  folder = pathlib.Path(workdir)
  config = configuration.Configuration(**folders.read_configuration(folder))
  learners = checkpoints.best_learners(config, folder, ensemble)
  measured, written = results.measure(config, learners, split, tasks)
  members = "" if ensemble == 1 else f"_ensemble_{ensemble}"
  path = folder / f"evaluation_{split}_{tasks}{members}.json"
  results.write(path, written)
  print(f"{measured}\nWritten to {path}.")
  return written


def main(_: Sequence[str]) -> None:
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
  command_line.run(main)
