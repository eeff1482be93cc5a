"""Trains LEO: classifiers that are generated from latent codes, which adapt.

  python -m trainers.pretrain --workdir=runs/pretrain
  python -m trainers.leo --dataset=runs/pretrain/embeddings
  python -m trainers.leo --preset=mini_imagenet_5way_1shot
      --dataset=~/embeddings/miniImageNet/center

The presets do not choose the data set: --dataset names a folder of embeddings.
trainers/README.md lists the published results.
"""

from trainers.run import command_line
from trainers.run import flags
from trainers.run import option

SOURCE = "github.com/google-deepmind/leo (README, config.py), f4084ad"

# The authors tuned these values for each data set.
_TUNED = {
  "mini_imagenet_5way_1shot": {
    "shots": 1,
    "learning_rate": 2.739071e-4,
    "l2": 3.623413e-10,
    "orthogonality": 0.188103,
    "dropout_rate": 0.307651,
    "kl_weight": 0.756143,
    "encoder_penalty": 5.756821e-6,
  },
  "mini_imagenet_5way_5shot": {
    "shots": 5,
    "learning_rate": 4.102361e-4,
    "l2": 8.540338e-9,
    "orthogonality": 1.523998e-3,
    "dropout_rate": 0.300299,
    "kl_weight": 0.466387,
    "encoder_penalty": 2.661608e-7,
  },
  "tiered_imagenet_5way_1shot": {
    "shots": 1,
    "learning_rate": 8.659053e-4,
    "l2": 4.148858e-10,
    "orthogonality": 5.451078e-3,
    "dropout_rate": 0.475126,
    "kl_weight": 2.034189e-3,
    "encoder_penalty": 8.302962e-5,
  },
  "tiered_imagenet_5way_5shot": {
    "shots": 5,
    "learning_rate": 6.110314e-4,
    "l2": 1.690399e-10,
    "orthogonality": 2.481216e-2,
    "dropout_rate": 0.415158,
    "kl_weight": 1.622811,
    "encoder_penalty": 2.672450e-5,
  },
}

PRESETS = {
  name: {
    "ways": 5,
    "train_query_shots": 15,
    "meta_batch_size": 12,
    "inner_steps": 5,
    "inner_learning_rate": 1.0,
    "inner_loss_reduction": "sum",
    "finetuning_steps": 5,
    "finetuning_learning_rate": 0.001,
    "num_latents": 64,
    "variant": "release",
    "spread": "release",
    "clipvalue": 0.1,
    "clipnorm": 0.1,
    "learning_rate_decay": "none",
    "validation_tasks": 2000,
    "steps_per_epoch": 1000,
    "epochs": 100,
    **tuned,
  }
  for name, tuned in _TUNED.items()
}


def _unless_finetuning(config) -> str | None:
  if config.own["finetuning_steps"] == 0:
    return "--finetuning_steps=0 leaves no steps on the weights"
  return None


_OPTIONS = (
  option.Option("num_latents", int, 64, "Number of elements of a latent code."),
  option.Option(
    "finetuning_steps",
    int,
    5,
    "Number of steps on the weights, after the inner steps on the codes.",
  ),
  option.Option(
    "finetuning_learning_rate",
    float,
    1e-3,
    "Initial learning rate of the weights, which is learned.",
    why_unused=_unless_finetuning,
  ),
  option.Option(
    "kl_weight",
    float,
    1e-3,
    "Weight of the divergence of the codes from a standard Gaussian.",
  ),
  option.Option(
    "encoder_penalty",
    float,
    1e-9,
    "Weight of the distance between the initial codes and the adapted ones.",
  ),
  option.Option(
    "orthogonality",
    float,
    1e-3,
    "Weight of the penalty on correlated rows of the decoder.",
  ),
  option.Option(
    "l2",
    float,
    1e-8,
    "Weight of the L2 penalty on the encoder, relation network and decoder.",
  ),
  option.Option(
    "dropout_rate", float, 0.5, "Dropout rate of embeddings in training."
  ),
  option.Option(
    "num_samples",
    int,
    1,
    "Number of samples whose predictions are averaged; 1 uses the means.",
  ),
  option.Option(
    "variant",
    str,
    "release",
    "Whether codes and penalties follow the released code or the paper.",
    choices=("release", "paper"),
  ),
  option.Option(
    "spread",
    str,
    "softplus",
    "How standard deviations are computed: by a softplus, or as in the "
    "released code.",
    choices=("softplus", "release"),
  ),
)

TRAINER = flags.Trainer(
  "leo",
  "LEO",
  options=_OPTIONS,
  defaults={
    "dataset": "runs/pretrain/embeddings",
    "inner_steps": 5,
    "inner_learning_rate": 1.0,
    "inner_loss_reduction": "sum",
    "meta_batch_size": 12,
    "learning_rate": 1e-3,
    "train_query_shots": 15,
  },
  presets=PRESETS,
  source=SOURCE,
)

if __name__ == "__main__":
  command_line.train(TRAINER)
