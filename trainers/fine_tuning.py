"""Fits a new head on a pre-trained body for each task: Baseline, Baseline++.

  python -m trainers.pretrain
  python -m trainers.fine_tuning
  python -m trainers.fine_tuning --head=cosine --workdir=runs/baseline_plus_plus
  python -m trainers.fine_tuning --dataset=runs/pretrain/embeddings
  python -m trainers.fine_tuning --epochs=10 --learning_rate=1e-4

The body is the file backbone.keras of `trainers.pretrain`, which must have been
trained on the same data set, or any other Keras model that maps images to
features. Nothing is trained on tasks, as in the paper; with --epochs, the body
is trained further. The presets do not choose the body: --body_from names it.
"""

from trainers.run import command_line
from trainers.run import flags
from trainers.run import option
from trainers.run import unused_flags

SOURCE = "github.com/wyharveychen/CloserLookFewShot, baselinefinetune.py"

# The code passes 100 times through the support set in mini-batches of 4, so 5
# examples make 2 steps in each pass, and 25 examples 7 steps.
PRESETS = {
  f"{name}_mini_imagenet_5way_{shots}shot": {
    "dataset": "mini_imagenet",
    "ways": 5,
    "shots": shots,
    "head": head,
    "inner_steps": 100 * batches,
    "inner_learning_rate": 0.01,
    "inner_momentum": 0.9,
    "inner_weight_decay": 0.001,
    "support_batch_size": 4,
  }
  for name, head in (("baseline", "linear"), ("baseline_plus_plus", "cosine"))
  for shots, batches in ((1, 2), (5, 7))
}


def _network_is_given(config) -> str | None:
  if config.is_images:
    return "the network is the one of --body_from"
  return unused_flags.without_images(config)


def _not_trained(config) -> str | None:
  return None if config.epochs else "--epochs=0 trains nothing"


def _already_trained(config) -> str | None:
  if config.is_embeddings:
    return "embeddings have no body that could be trained"
  return None


def _not_trained_or(other):
  return lambda config: _not_trained(config) or other(config)


def _body_is_given(config) -> str | None:
  if config.is_embeddings:
    return "embeddings are the outputs of a body"
  return None


_OF_NETWORK = (
  "filters",
  "pooling",
  "network_normalization",
  "scale",
  "momentum",
  "head_input",
)
_OF_TRAINING = (
  "meta_batch_size",
  "steps_per_epoch",
  "optimizer",
  "learning_rate",
  "learning_rate_decay",
  "clipvalue",
  "clipnorm",
  "validation_tasks",
  "keep_best",
  "train_shots",
  "train_query_shots",
)

TRAINER = flags.Trainer(
  "fine_tuning",
  "FineTuning",
  options=(
    option.Option(
      "body_from",
      str,
      "runs/pretrain/backbone.keras",
      "A saved Keras model from images to features, such as the one that "
      "trainers.pretrain writes.",
      why_unused=_body_is_given,
    ),
    option.Option(
      "head",
      str,
      "linear",
      "The last layer: linear (Baseline), or cosine similarities to a vector "
      "for each class (Baseline++).",
      choices=("linear", "cosine"),
    ),
    option.Option(
      "inner_momentum",
      float,
      0.9,
      "Weight of the past gradients in an inner step.",
    ),
    option.Option(
      "inner_weight_decay",
      float,
      0.001,
      "Factor of the weights of the head that is added to their gradient.",
    ),
    flags.SUPPORT_BATCH_SIZE,
  ),
  defaults={"inner_steps": 100, "inner_learning_rate": 0.01, "epochs": 0},
  why_unused={
    **dict.fromkeys(_OF_NETWORK, _network_is_given),
    **dict.fromkeys(_OF_TRAINING, _not_trained),
    "epochs": _already_trained,
    "final_learning_rate": _not_trained_or(unused_flags.without_decay),
    "steps_per_execution": _not_trained_or(unused_flags.with_several_workers),
  },
  presets=PRESETS,
  source=SOURCE,
)

if __name__ == "__main__":
  command_line.train(TRAINER)
