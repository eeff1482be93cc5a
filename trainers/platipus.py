"""Trains PLATIPUS: MAML from initial weights that are drawn for each task.

  python -m trainers.platipus
  python -m trainers.platipus --dataset=sinusoid_or_line
  python -m trainers.platipus --initial_from=runs/maml/best.keras

The last begins with the weights of a trained MAML.
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings

_OWN = (
  "num_samples",
  "kl_weight",
  "initial_scale",
  "initial_shift_rate",
  "initial_from",
  "first_order",
)


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define("platipus", flag_values=flag_values)
  flags.define_first_order(flag_values)
  absl_flags.DEFINE_integer(
    "num_samples",
    10,
    "Draws of the weights that a prediction is the mean of.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_float(
    "kl_weight",
    1e-3,
    "Of the divergence of the posterior from the prior.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_float(
    "initial_scale",
    0.02,
    "What standard deviations of the weights begin with.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_float(
    "initial_shift_rate",
    0.01,
    "What the rates of the steps that shift the mean begin with.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_string(
    "initial_from",
    None,
    "A learner, as best.keras of another run, whose weights it begins with.",
    flag_values=flag_values,
  )


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read("platipus", "PLATIPUS", own=_OWN, flag_values=flag_values)


if __name__ == "__main__":
  define()
  command.train(read)
