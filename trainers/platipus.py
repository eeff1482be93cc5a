"""Trains PLATIPUS: MAML from initial weights that are sampled for each task.

  python -m trainers.platipus
  python -m trainers.platipus --dataset=sinusoid_or_line
  python -m trainers.platipus --initial_from=runs/maml/best.keras

The last command starts from the weights of a trained MAML.
"""

from trainers.run import command_line
from trainers.run import flags
from trainers.run import option

SOURCE = "the authors' flags, as re-implementations quote them"

# The authors have published no code, but re-implementations quote the flags of
# their run. Their network also has 20 learned inputs, which are adapted like
# biases; the network here has none.
PRESETS = {
  "sinusoid_or_line_5shot": {
    "dataset": "sinusoid_or_line",
    "shots": 5,
    "query_shots": 50,
    "train_query_shots": 50,
    "hidden": [100, 100, 100],
    "inner_steps": 5,
    "inner_learning_rate": 0.001,
    "meta_batch_size": 25,
    "kl_weight": 0.1,
    "steps_per_epoch": 1000,
    "epochs": 70,
  },
}

TRAINER = flags.Trainer(
  "platipus",
  "PLATIPUS",
  options=(
    flags.FIRST_ORDER,
    option.Option(
      "num_samples",
      int,
      10,
      "Number of samples of the weights whose predictions are averaged.",
    ),
    option.Option(
      "kl_weight",
      float,
      1e-3,
      "Weight of the divergence of the posterior from the prior.",
    ),
    option.Option(
      "initial_scale",
      float,
      0.02,
      "Initial standard deviation of the weights.",
    ),
    option.Option(
      "initial_shift_rate",
      float,
      0.01,
      "Initial rate of the gradient steps that shift the mean.",
    ),
    option.Option(
      "initial_from",
      str,
      None,
      "A saved learner whose weights are the initial ones, such as best.keras "
      "of another run.",
    ),
  ),
  presets=PRESETS,
  source=SOURCE,
)

if __name__ == "__main__":
  command_line.train(TRAINER)
