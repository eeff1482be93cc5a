"""Trains MAML: initial weights from which a few gradient steps learn a task.

  python -m trainers.maml
  python -m trainers.maml --preset=omniglot_5way_1shot --workdir=runs/omniglot
  python -m trainers.maml --dataset=sinusoid --workdir=runs/sinusoid

The first command is the demonstration. trainers/README.md lists the published
results of the presets, and README.md those that were measured.
"""

from trainers.run import command_line
from trainers.run import flags

SOURCE = "github.com/cbfinn/maml (main.py), a7f45f1"

# The released code divides the sum of the classification losses over the
# support set by the shots. Its inner learning rates belong to this reduction,
# which is `sum_over_ways` here.
_OMNIGLOT = {
  "dataset": "omniglot",
  "filters": 64,
  "rotations": "per_task",
  "pooling": "stride",
  "scale": False,
  "head_input": "mean",
  "inner_loss_reduction": "sum_over_ways",
  "learning_rate": 0.001,
  "learning_rate_decay": "none",
  "steps_per_epoch": 500,
  "epochs": 120,
}

_5_WAYS = {
  **_OMNIGLOT,
  "ways": 5,
  "meta_batch_size": 32,
  "inner_steps": 1,
  "eval_inner_steps": 3,
  "inner_learning_rate": 0.4,
}

_20_WAYS = {
  **_OMNIGLOT,
  "ways": 20,
  "meta_batch_size": 16,
  "inner_steps": 5,
  "eval_inner_steps": 5,
  "inner_learning_rate": 0.1,
}

_MINI_IMAGENET = {
  "dataset": "mini_imagenet",
  "ways": 5,
  "train_query_shots": 15,
  "filters": 32,
  "pooling": "max",
  "scale": False,
  "inner_steps": 5,
  "eval_inner_steps": 10,
  "inner_learning_rate": 0.01,
  "inner_loss_reduction": "sum_over_ways",
  "meta_batch_size": 4,
  "learning_rate": 0.001,
  "learning_rate_decay": "none",
  "clipvalue": 10.0,
  "steps_per_epoch": 500,
  "epochs": 120,
}

PRESETS = {
  "omniglot_5way_1shot": {**_5_WAYS, "shots": 1, "train_query_shots": 1},
  "omniglot_5way_5shot": {**_5_WAYS, "shots": 5, "train_query_shots": 5},
  "omniglot_20way_1shot": {**_20_WAYS, "shots": 1, "train_query_shots": 1},
  "omniglot_20way_5shot": {**_20_WAYS, "shots": 5, "train_query_shots": 5},
  "mini_imagenet_5way_1shot": {**_MINI_IMAGENET, "shots": 1},
  "mini_imagenet_5way_5shot": {**_MINI_IMAGENET, "shots": 5},
  "sinusoid_10shot": {
    "dataset": "sinusoid",
    "shots": 10,
    "query_shots": 10,
    "hidden": [40, 40],
    "inner_steps": 1,
    "inner_learning_rate": 0.01,
    "meta_batch_size": 25,
    "learning_rate": 0.001,
    "epochs": 70,
  },
}

TRAINER = flags.Trainer(
  "maml",
  "MAML",
  options=flags.INNER_OPTIONS,
  presets=PRESETS,
  source=SOURCE,
)

if __name__ == "__main__":
  command_line.train(TRAINER)
