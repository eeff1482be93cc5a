"""Evaluates the learner of a finished run on more tasks, or on another split.

  python -m trainers.evaluate --workdir=runs/maml --tasks=1000

prints the figures and writes them to runs/maml/evaluation_test_1000.json.
"""

import pathlib

from absl import flags

from trainers import command

_FLAGS = flags.FLAGS


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("workdir", "runs/maml", "The workdir of the run.")
  flags.DEFINE_integer("tasks", 1000, "How many tasks.", lower_bound=1)
  flags.DEFINE_enum(
    "split", "test", ["train", "validation", "test"], "Of which classes."
  )


def run(workdir, *, tasks, split="test") -> dict:
  """Evaluates `best.keras` of a workdir; returns what it writes.

  Args:
    workdir: Folder of a run that came to its end.
    tasks: Number of tasks; the same ones for all runs on the same data.
    split: "train", "validation" or "test".
  """
  import keras

  from trainers import results
  from trainers import settings
  from trainers import workdir as folders

  folder = pathlib.Path(workdir)
  values = settings.Settings(**folders.read_settings(folder))
  if not (folder / folders.LEARNER).exists():
    raise ValueError(
      "This run has not come to its end: start it again with its own command. "
      f"Received: workdir={workdir!r}"
    )
  learner = keras.models.load_model(folder / folders.LEARNER)
  measured, figures = results.measure(values, learner, split, tasks)
  path = folder / f"evaluation_{split}_{tasks}.json"
  folders.write_json(path, figures)
  print(f"{measured}\nWritten to {path}.")
  return figures


def main(_) -> None:
  """Runs what the flags say."""
  run(_FLAGS.workdir, tasks=_FLAGS.tasks, split=_FLAGS.split)


if __name__ == "__main__":
  define()
  command.run(main)
