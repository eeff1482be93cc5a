"""Trains a prototypical network: features in which class means classify.

python -m trainers.proto_net
python -m trainers.proto_net --dataset=omniglot --workdir=runs/omniglot

The network is that of the other trainers. Its last layer only says how many
ways it has.
"""

from trainers.run import command_line
from trainers.run import flags


def _no_steps(_) -> str:
  return "prototypical networks take no inner steps"


TRAINER = flags.Trainer(
  "proto_net",
  "ProtoNet",
  why_unused={
    name: _no_steps
    for name in (
      "inner_steps",
      "inner_learning_rate",
      "eval_inner_steps",
      "inner_loss_reduction",
    )
  },
)

if __name__ == "__main__":
  command_line.train(TRAINER)
