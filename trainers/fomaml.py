"""Trains first-order MAML: MAML without second derivatives.

  python -m trainers.fomaml
  python -m trainers.fomaml --preset=omniglot_5way_1shot --workdir=runs/omniglot

Published figures are in trainers/README.md.
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define("fomaml", flag_values=flag_values)


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read("fomaml", "FOMAML", flag_values=flag_values)


if __name__ == "__main__":
  define()
  command.train(read)
