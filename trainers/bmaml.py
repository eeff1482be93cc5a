"""Trains BMAML: MAML whose inner loop moves particles that repel each other.

python -m trainers.bmaml
python -m trainers.bmaml --dataset=sinusoid --num_particles=10
python -m trainers.bmaml --particle_weights=head --meta_loss=nll
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings

_OWN = (
  "num_particles",
  "particle_weights",
  "first_order",
  "meta_loss",
  "leader_steps",
  "prior",
  "repulsion_scale",
)


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define("bmaml", flag_values=flag_values, inner_loss_reduction="sum")
  flags.define_particles(flag_values)
  absl_flags.DEFINE_enum(
    "meta_loss",
    "chaser",
    ["chaser", "nll"],
    "What is minimised: the way to the leader, or the query set's likelihood.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_integer(
    "leader_steps",
    1,
    "Steps that the leader takes on support and query set together.",
    lower_bound=1,
    flag_values=flag_values,
  )
  absl_flags.DEFINE_enum(
    "prior",
    None,
    ["hierarchical", "flat"],
    "Of the weights; hierarchical for regression, flat for classes if not "
    "given. Hierarchical gradients are large: give classes a smaller "
    "--inner_learning_rate with it, such as 0.01.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_float(
    "repulsion_scale",
    1.0,
    "1 is exact; the released code for sinusoids has 0.5.",
    flag_values=flag_values,
  )


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read("bmaml", "BMAML", own=_OWN, flag_values=flag_values)


if __name__ == "__main__":
  define()
  command.train(read)
