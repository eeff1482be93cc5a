"""Trains MAML++: MAML with losses, rates and normalization of each inner step.

  python -m trainers.maml_plus_plus
  python -m trainers.maml_plus_plus --dataset=omniglot --ways=20
  python -m trainers.maml_plus_plus --preset=mini_imagenet_5way_1shot
      --manual_dir=~/mini_imagenet
  python -m trainers.evaluate --workdir=runs/maml_plus_plus --ensemble=5

The last command averages the logits of the five best epochs, as the released
code does. Each ingredient of MAML++ has its own flag. trainers/README.md lists
the published results of the presets.
"""

from trainers.run import command_line
from trainers.run import configuration
from trainers.run import flags
from trainers.run import option
from trainers.run import unused_flags

SOURCE = "github.com/AntreasAntoniou/HowToTrainYourMAMLPytorch, 8696470"

# The inner rates of the released code belong to a mean over the support set.
_SHARED = {
  "pooling": "max",
  "inner_steps": 5,
  "inner_learning_rate": 0.1,
  "normalization": "per_step_transductive",
  "learning_rate": 0.001,
  "steps_per_epoch": 500,
  "validation_tasks": 600,
}

_OMNIGLOT = {
  **_SHARED,
  "dataset": "omniglot",
  "filters": 64,
  "rotations": "per_task",
  "query_shots": 1,
  "train_query_shots": 1,
  "meta_batch_size": 8,
  "multi_step_epochs": 10,
  "epochs": 100,
  "learning_rate_decay": "cosine",
  "final_learning_rate": 1e-5,
}

_MINI_IMAGENET = {
  **_SHARED,
  "dataset": "mini_imagenet",
  "filters": 48,
  "ways": 5,
  "query_shots": 15,
  "train_query_shots": 15,
  "meta_batch_size": 2,
  "multi_step_epochs": 15,
  "epochs": 100,
  "learning_rate_decay": "none",
  "clipvalue": 10.0,
}

PRESETS = {
  **{
    f"omniglot_{ways}way_{shots}shot": {
      **_OMNIGLOT,
      "ways": ways,
      "shots": shots,
    }
    for ways in (5, 20)
    for shots in (1, 5)
  },
  **{
    f"mini_imagenet_5way_{shots}shot": {**_MINI_IMAGENET, "shots": shots}
    for shots in (1, 5)
  },
}


def _unless_several_steps(config) -> str | None:
  if config.inner_steps == 1:
    return "with --inner_steps=1 there is only one query loss"
  return None


TRAINER = flags.Trainer(
  "maml_plus_plus",
  "MAMLPlusPlus",
  options=(
    option.Option(
      "multi_step_epochs",
      int,
      2,
      "Number of first epochs in which the query losses after all inner steps "
      "count, with weights that move to the last step; 0 for none.",
      why_unused=_unless_several_steps,
    ),
    option.Option(
      "learn_rates",
      bool,
      True,
      "Whether each tensor has a learned rate for each inner step.",
    ),
    option.Option(
      "first_order_epochs",
      int,
      0,
      "Number of first epochs without second derivatives.",
    ),
    option.Option(
      "adapt_normalization",
      bool,
      False,
      "Whether inner steps also adapt the scales and shifts of normalization "
      "layers.",
      why_unused=unused_flags.without_normalization,
    ),
  ),
  # The learner needs it to turn epochs into updates.
  shared=("steps_per_epoch",),
  defaults={"inner_steps": 3, "inner_learning_rate": 0.1},
  choices={
    "normalization": (
      *configuration.PER_STEP_NORMALIZATIONS,
      *configuration.NORMALIZATIONS,
    )
  },
  presets=PRESETS,
  source=SOURCE,
)

if __name__ == "__main__":
  command_line.train(TRAINER)
