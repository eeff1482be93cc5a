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
# their run. The flags do not say whether the loss of an inner step is a mean or
# a sum; in the paper, it is a sum. Their rate of 0.001 is taken as that of a
# mean over 5 points, because with a sum it diverges.
PRESETS = {
  "sinusoid_or_line_5shot": {
    "dataset": "sinusoid_or_line",
    "shots": 5,
    "query_shots": 50,
    "train_query_shots": 50,
    "hidden": [100, 100, 100],
    "context": 20,
    "inner_steps": 5,
    "inner_learning_rate": 0.001 / 5,
    "inner_loss_reduction": "sum",
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
      "Weight of the divergence of the posterior from the prior, beside a mean "
      "over the queries.",
    ),
    option.Option(
      "initial_scale",
      float,
      0.02,
      "Initial standard deviation of the weights.",
    ),
    option.Option(
      "initial_prior_rate",
      float,
      0.002,
      "Initial rate of the gradient step on the support set that shifts the "
      "mean. Large values end in NaN.",
    ),
    option.Option(
      "initial_posterior_rate",
      float,
      0.0002,
      "The same for the gradient step on the query set, in training.",
    ),
    option.Option(
      "initial_from",
      str,
      None,
      "A saved learner whose weights are the initial ones, such as best.keras "
      "of another run.",
    ),
  ),
  # The shared rate of 0.4 is for the mean over 5 examples.
  defaults={"inner_loss_reduction": "sum", "inner_learning_rate": 0.08},
  presets=PRESETS,
  source=SOURCE,
)

if __name__ == "__main__":
  command_line.train(TRAINER)
