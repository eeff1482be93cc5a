"""Trains Reptile: moves the initial weights towards the adapted ones.

  python -m trainers.reptile
  python -m trainers.reptile --preset=omniglot_5way_1shot --workdir=runs/mine

Training tasks have more shots than test tasks (--train_shots), and the outer
rate, epsilon in the paper, falls to zero. Published figures are in
trainers/README.md.
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define(
    "reptile",
    flag_values=flag_values,
    train_shots=10,
    train_query_shots=1,
    inner_steps=5,
    inner_learning_rate=0.001,
    eval_inner_steps=50,
    meta_batch_size=5,
    optimizer="sgd",
    learning_rate=1.0,
    learning_rate_decay="linear",
  )
  absl_flags.DEFINE_enum(
    "inner_optimizer",
    "adam",
    ["adam", "sgd"],
    "Optimizer of the inner loop; Adam's moments persist over tasks.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_integer(
    "support_batch_size",
    10,
    "Support examples in each inner step.",
    flag_values=flag_values,
  )


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read(
    "reptile",
    "Reptile",
    own=["inner_optimizer", "support_batch_size"],
    flag_values=flag_values,
  )


if __name__ == "__main__":
  define()
  command.train(read)
