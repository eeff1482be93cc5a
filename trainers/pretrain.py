"""Trains a backbone to tell all training classes apart; writes its embeddings.

  python -m trainers.pretrain --workdir=runs/pretrain
  python -m trainers.pretrain --dataset=omniglot --filters=64
  python -m trainers.leo --dataset=runs/pretrain/embeddings

The backbone is an ordinary Keras classifier. It is validated on images of the
same classes that it was not trained on. The embedding of an image is the input
of its last layer. The embeddings of all three splits go to the folder
`embeddings`, in files like those of LEO's authors.
"""

from collections.abc import Sequence

from absl import flags

from trainers.run import command_line
from trainers.run import data_sets

_FLAGS = flags.FLAGS


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_enum(
    "dataset",
    "glyphs",
    data_sets.WITH_CLASSES,
    "Data set whose classes are told apart.",
  )
  flags.DEFINE_string(
    "data_dir",
    None,
    "Folder in which TFDS keeps data sets, for omniglot. Defaults to that of "
    "TFDS.",
  )
  flags.DEFINE_string(
    "workdir", "runs/pretrain", "Folder to which everything is written."
  )
  flags.DEFINE_integer(
    "filters", 64, "Filters of each convolution.", lower_bound=1
  )
  flags.DEFINE_integer(
    "epochs", 10, "Number of passes through all images.", lower_bound=1
  )
  flags.DEFINE_integer(
    "batch_size", 128, "Number of images in each update.", lower_bound=1
  )
  flags.DEFINE_float(
    "learning_rate",
    1e-3,
    "Initial learning rate of Adam, above 0. It falls by a cosine.",
  )
  flags.DEFINE_integer("seed", 0, "Seed of the weights and of the order.")


def main(_: Sequence[str]) -> None:
  """Runs what the flags say."""
  reads_data_dir = "data_dir" in data_sets.find(_FLAGS.dataset).flags
  if _FLAGS["data_dir"].present and not reads_data_dir:
    raise ValueError(
      f"`data_dir` would have no effect here: the data set {_FLAGS.dataset!r} "
      "does not use it. Leave it out. "
      f"Received: --data_dir={_FLAGS.data_dir}"
    )
  # This module loads TensorFlow. Imported here, it does not delay --help.
  from trainers.run import pretraining

  pretraining.run(
    _FLAGS.dataset,
    _FLAGS.workdir,
    data_dir=_FLAGS.data_dir,
    filters=_FLAGS.filters,
    epochs=_FLAGS.epochs,
    batch_size=_FLAGS.batch_size,
    learning_rate=_FLAGS.learning_rate,
    seed=_FLAGS.seed,
  )


if __name__ == "__main__":
  define()
  command_line.run(main)
