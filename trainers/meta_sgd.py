"""Trains Meta-SGD: MAML that also learns the inner rate of every weight.

python -m trainers.meta_sgd
python -m trainers.meta_sgd --dataset=omniglot --workdir=runs/omniglot
"""

from trainers.run import command_line
from trainers.run import flags

TRAINER = flags.Trainer("meta_sgd", "MetaSGD", options=(flags.FIRST_ORDER,))

if __name__ == "__main__":
  command_line.train(TRAINER)
