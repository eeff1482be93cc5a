"""Trains MAML: initial weights from which a few gradient steps learn a task.

  python -m trainers.maml
  python -m trainers.maml --preset=omniglot_5way_1shot --workdir=runs/omniglot
  python -m trainers.maml --dataset=sinusoid --workdir=runs/sinusoid

The first is the demonstration. Published figures are in trainers/README.md,
measured ones in README.md.
"""

from trainers import command
from trainers import flags


def define(**where) -> None:
  """Defines the flags."""
  flags.define("maml", **where)


def main(_) -> None:
  """Runs what the flags say."""
  settings = flags.read("maml", "MAML")
  from trainers import training  # TensorFlow loads here: --help stays quick.

  training.run(settings)


if __name__ == "__main__":
  define()
  command.run(main)
