"""Trains EMAML: an ensemble of MAMLs, each with initial weights of its own.

python -m trainers.emaml
python -m trainers.emaml --dataset=sinusoid --num_particles=10
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings

_OWN = ("num_particles", "particle_weights", "first_order")


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define("emaml", flag_values=flag_values)
  flags.define_particles(flag_values)


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read("emaml", "EMAML", own=_OWN, flag_values=flag_values)


if __name__ == "__main__":
  define()
  command.train(read)
