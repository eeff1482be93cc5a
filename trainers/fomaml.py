"""Trains first-order MAML: MAML without second derivatives.

  python -m trainers.fomaml
  python -m trainers.fomaml --preset=omniglot_5way_1shot --workdir=runs/omniglot

Published figures are in trainers/README.md.
"""

from trainers import command
from trainers import flags


def define(**where) -> None:
  """Defines the flags."""
  flags.define("fomaml", **where)


def main(_) -> None:
  """Runs what the flags say."""
  settings = flags.read("fomaml", "FOMAML")
  from trainers import training  # TensorFlow loads here: --help stays quick.

  training.run(settings)


if __name__ == "__main__":
  define()
  command.run(main)
