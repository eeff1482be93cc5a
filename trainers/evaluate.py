"""Evaluates the learner of a finished run on more tasks, or on another split.

  python -m trainers.evaluate --workdir=runs/maml --tasks=1000
  python -m trainers.evaluate --workdir=runs/maml --ensemble=5

The first command prints the results and writes them to
runs/maml/evaluation_test_1000.json. The second averages the logits of the five
best epochs, as the released code of MAML++ does (the paper averages three).
"""

from collections.abc import Sequence
import dataclasses
import difflib
import os
import pathlib
from typing import Any

from absl import flags

from trainers.run import command_line
from trainers.run import kernels
from trainers.run import paths

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

  flags.DEFINE_integer(
    "query_shots",
    None,
    "Query examples for each class; for regression, for each task. Default: "
    "those of the run. The transductive results of Reptile's paper are for 1.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "queries_at_once",
    None,
    "Number of queries that are predicted in one pass. Default: all queries of "
    "a task.",
    lower_bound=1,
  )
  flags.DEFINE_enum(
    "normalization",
    None,
    ["support_stats"],
    "Statistics that normalize queries, in place of those of the training.",
  )


def run(
  workdir: str | os.PathLike[str],
  *,
  tasks: int,
  split: str = "test",
  ensemble: int = 1,
  query_shots: int | None = None,
  queries_at_once: int | None = None,
  normalization: str | None = None,
) -> dict[str, Any]:
  """Evaluates the best weights of a run, and writes the results to its workdir.

  Args:
    workdir: Folder of a finished run.
    tasks: Number of tasks. They are the same for all runs on the same data.
    split: "train", "validation" or "test".
    ensemble: Number of best epochs whose outputs are averaged.
    query_shots: Query examples for each class. Defaults to `None`: those of the
      run.
    queries_at_once: Number of queries in one pass. Defaults to `None`: all
      queries of a task.
    normalization: `"support_stats"`, or `None`: that of the training.

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

  folder = pathlib.Path(paths.local("workdir", str(workdir)))
  values = folders.read_configuration(folder)
  _check_kind(folder, values, dataclasses.fields(configuration.Configuration))
  config = configuration.Configuration(**values)
  if query_shots:
    config = dataclasses.replace(config, query_shots=query_shots)
  learners = checkpoints.best_learners(config, folder, ensemble)
  how = {"queries_at_once": queries_at_once, "normalization": normalization}
  measured, written = results.measure(config, learners, split, tasks, **how)
  members = "" if ensemble == 1 else f"_ensemble_{ensemble}"
  shots = f"_query_shots_{query_shots}" if query_shots else ""
  passes = f"_by_{queries_at_once}" if queries_at_once else ""
  kind = f"_{normalization}" if normalization else ""
  how_measured = f"{members}{shots}{passes}{kind}"
  path = folder / f"evaluation_{split}_{tasks}{how_measured}.json"
  results.write(path, written)
  print(f"{measured}\nWritten to {path}.")
  return written


def _check_folder(folder: pathlib.Path) -> None:
  """Refuses a folder that does not exist, before TensorFlow loads."""
  if folder.exists():
    return
  parent = folder.parent
  names = [path.name for path in parent.iterdir()] if parent.is_dir() else []
  near = difflib.get_close_matches(folder.name, names, n=1)
  advice = f" Did you mean {parent / near[0]}?" if near else ""
  raise ValueError(
    "`workdir` must be the folder of a finished run. Received: "
    f"workdir={os.fspath(folder)!r}, which does not exist.{advice}"
  )


def _check_kind(folder, values, fields) -> None:
  """Refuses the folder of a policy, a pre-training or a newer version."""
  unknown = sorted(values.keys() - {field.name for field in fields})
  if unknown or "algorithm" not in values:
    raise ValueError(
      "`workdir` must be the folder of a trainer of meta-learners, such as "
      f"trainers.maml. Received: workdir={os.fspath(folder)!r}, a run of "
      f"another kind, with the values {', '.join(unknown or values)}"
    )


def main(_: Sequence[str]) -> None:
  """Runs what the flags say."""
  _check_folder(pathlib.Path(paths.local("workdir", _FLAGS.workdir)))
  kernels.prepare(_FLAGS.tasks)
  run(
    _FLAGS.workdir,
    tasks=_FLAGS.tasks,
    split=_FLAGS.split,
    ensemble=_FLAGS.ensemble,
    query_shots=_FLAGS.query_shots,
    queries_at_once=_FLAGS.queries_at_once,
    normalization=_FLAGS.normalization,
  )


if __name__ == "__main__":
  define()
  command_line.run(main)
