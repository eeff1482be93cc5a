"""Trains iMAML: MAML whose outer gradient needs the adapted weights alone.

python -m trainers.imaml
python -m trainers.imaml --dataset=omniglot --inner_steps=16
"""

from trainers.run import command_line
from trainers.run import flags
from trainers.run import option

TRAINER = flags.Trainer(
  "imaml",
  "IMAML",
  options=(
    option.Option(
      "regularization",
      float,
      2.0,
      "Weight of the squared distance to the initial weights in inner steps.",
    ),
    option.Option(
      "cg_iterations",
      int,
      5,
      "Largest number of conjugate gradient iterations.",
    ),
    option.Option(
      "damping", float, 0.0, "Added to the diagonal of the linear system."
    ),
  ),
)

if __name__ == "__main__":
  command_line.train(TRAINER)
