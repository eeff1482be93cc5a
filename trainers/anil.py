"""Trains ANIL: MAML that adapts only the head of the network.

  python -m trainers.anil
  python -m trainers.anil --adapted=conv_3,head --workdir=runs/two_layers

The layers of the convolutional network are conv_0, norm_0, ..., conv_3, norm_3
and head.
"""

from trainers.run import command_line
from trainers.run import flags
from trainers.run import option

TRAINER = flags.Trainer(
  "anil",
  "ANIL",
  options=(
    option.Option(
      "adapted",
      list,
      None,
      "Names of the layers that the inner loop adapts, separated by commas. "
      "For images: conv_0, norm_0, conv_1, norm_1, conv_2, norm_2, conv_3, "
      "norm_3, head. Defaults to head.",
    ),
    flags.FIRST_ORDER,
    *flags.INNER_OPTIONS,
  ),
)

if __name__ == "__main__":
  command_line.train(TRAINER)
