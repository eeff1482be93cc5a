"""Trains Meta-SGD: MAML that also learns the inner rate of every weight.

  python -m trainers.meta_sgd
  python -m trainers.meta_sgd --dataset=omniglot --workdir=runs/omniglot

Published figures are in trainers/README.md.
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define("meta_sgd", flag_values=flag_values)
  flags.define_first_order(flag_values)


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read(
    "meta_sgd", "MetaSGD", own=["first_order"], flag_values=flag_values
  )


if __name__ == "__main__":
  define()
  command.train(read)
