"""Trains MAML: initial weights from which a few gradient steps learn a task.

  python -m trainers.maml
  python -m trainers.maml --preset=omniglot_5way_1shot --workdir=runs/omniglot
  python -m trainers.maml --dataset=sinusoid --workdir=runs/sinusoid

The first is the demonstration. Published figures are in trainers/README.md,
measured ones in README.md.
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define("maml", flag_values=flag_values)


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read("maml", "MAML", flag_values=flag_values)


if __name__ == "__main__":
  define()
  command.train(read)
