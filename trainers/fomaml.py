"""Trains first-order MAML: MAML without second derivatives.

  python -m trainers.fomaml
  python -m trainers.fomaml --preset=omniglot_5way_1shot --workdir=runs/omniglot

trainers/README.md lists the published results of the presets, which are those
of MAML.
"""

from trainers import maml
from trainers.run import command_line
from trainers.run import flags

TRAINER = flags.Trainer(
  "fomaml",
  "FOMAML",
  options=flags.INNER_OPTIONS,
  presets=maml.PRESETS,
  source=maml.SOURCE,
)

if __name__ == "__main__":
  command_line.train(TRAINER)
