"""Trains ANIL: MAML that adapts only the head of the net.

  python -m trainers.anil
  python -m trainers.anil --adapted=block_4,head --workdir=runs/two_layers

Published figures are in trainers/README.md.
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define("anil", flag_values=flag_values)
  absl_flags.DEFINE_list(
    "adapted",
    None,
    "Names of the layers that the inner loop adapts; the head if not given.",
    flag_values=flag_values,
  )
  flags.define_first_order(flag_values)


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read(
    "anil", "ANIL", own=["adapted", "first_order"], flag_values=flag_values
  )


if __name__ == "__main__":
  define()
  command.train(read)
