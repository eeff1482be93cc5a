"""Trains MAML++: MAML with losses, rates and normalisation per inner step.

  python -m trainers.maml_plus_plus
  python -m trainers.maml_plus_plus --dataset=omniglot --ways=20
  python -m trainers.maml_plus_plus --preset=mini_imagenet_5way_1shot
      --manual_dir=~/mini_imagenet
  python -m trainers.evaluate --workdir=runs/maml_plus_plus --ensemble=5

The last averages the logits of the five best epochs, as the released code does.
Each ingredient has its switch. Published figures are in trainers/README.md.
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings

_OWN = (
  "multi_step_epochs",
  "learn_rates",
  "first_order_epochs",
  "adapt_normalization",
)


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define(
    "maml_plus_plus",
    flag_values=flag_values,
    inner_steps=3,
    inner_learning_rate=0.1,
  )
  absl_flags.DEFINE_integer(
    "multi_step_epochs",
    2,
    "Epochs in which the query losses after all inner steps count; 0: none.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_bool(
    "learn_rates",
    True,
    "Whether each tensor has a learned rate in each inner step.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_integer(
    "first_order_epochs",
    0,
    "Epochs at the beginning without second derivatives.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_bool(
    "adapt_normalization",
    False,
    "Whether inner steps adapt the scales and shifts of normalisation too.",
    flag_values=flag_values,
  )


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read(
    "maml_plus_plus",
    "MAMLPlusPlus",
    own=_OWN,
    shared=["steps_per_epoch"],
    flag_values=flag_values,
  )


if __name__ == "__main__":
  define()
  command.train(read)
