"""Trains LEO: classifiers generated from latent codes, which adapt.

  python -m trainers.pretrain --workdir=runs/pretrain
  python -m trainers.leo --dataset=runs/pretrain/embeddings
  python -m trainers.leo --preset=mini_imagenet_5way_1shot
      --dataset=~/embeddings/miniImageNet/center

Published figures are in trainers/README.md.
"""

from absl import flags as absl_flags

from trainers.run import command
from trainers.run import flags
from trainers.run import settings

_NUMBERS = {
  "num_latents": (64, "Size of a code."),
  "finetuning_steps": (5, "Steps on the weights, after those on the codes."),
  "finetuning_learning_rate": (1e-3, "What the rates of weights begin with."),
  "kl_weight": (1e-3, "Of the divergence of codes from a standard Gaussian."),
  "encoder_penalty": (1e-9, "Draws codes towards what the steps make of them."),
  "orthogonality": (1e-3, "Draws rows of the decoder apart."),
  "l2": (1e-8, "Of the weights of all three networks."),
  "dropout_rate": (0.5, "Of embeddings, in training."),
  "num_samples": (1, "Draws that a prediction averages; 1 takes means."),
}
_OWN = (*_NUMBERS, "variant", "spread")


def define(flag_values=absl_flags.FLAGS) -> None:
  """Defines the flags."""
  flags.define(
    "leo",
    flag_values=flag_values,
    dataset="runs/pretrain/embeddings",
    inner_steps=5,
    inner_learning_rate=1.0,
    inner_loss_reduction="sum",
    meta_batch_size=12,
    learning_rate=1e-3,
    train_query_shots=15,
  )
  for name, (default, text) in _NUMBERS.items():
    whole = isinstance(default, int)
    kind = absl_flags.DEFINE_integer if whole else absl_flags.DEFINE_float
    kind(name, default, text, flag_values=flag_values)
  absl_flags.DEFINE_enum(
    "variant",
    "release",
    ["release", "paper"],
    "Codes and penalties as in the paper or in the released code.",
    flag_values=flag_values,
  )
  absl_flags.DEFINE_enum(
    "spread",
    "softplus",
    ["softplus", "release"],
    "How standard deviations are made.",
    flag_values=flag_values,
  )


def read(flag_values=absl_flags.FLAGS) -> settings.Settings:
  """The settings that the flags say."""
  return flags.read("leo", "LEO", own=_OWN, flag_values=flag_values)


if __name__ == "__main__":
  define()
  command.train(read)
