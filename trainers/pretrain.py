"""Trains a backbone to tell all training classes apart; writes its embeddings.

  python -m trainers.pretrain --workdir=runs/pretrain
  python -m trainers.pretrain --dataset=omniglot --filters=64
  python -m trainers.pretrain --dataset=mini_imagenet
      --manual_dir=~/mini_imagenet --backbone=conv4_stride --size=42
  python -m trainers.leo --dataset=runs/pretrain/embeddings

The backbone is an ordinary Keras classifier. It is validated on images of the
same classes that it was not trained on. The embedding of an image is the input
of its last layer. The embeddings of all three splits go to the folder
`embeddings`, in files like those of LEO's authors.

Photographs are mirrored at random in training. If there are no test classes,
--held_out_classes leaves training classes out for validation, and the
embeddings of the validation classes are written as those of the test classes.
"""

from collections.abc import Sequence

from absl import flags

from trainers.run import command_line
from trainers.run import labeled_images

_FLAGS = flags.FLAGS


def define() -> None:
  """Defines the flags."""
  _define_images()
  _define_training()


def _define_images() -> None:
  flags.DEFINE_enum(
    "dataset",
    "glyphs",
    labeled_images.SOURCES,
    "Data set whose classes are told apart.",
  )
  flags.DEFINE_string(
    "data_dir",
    None,
    "Folder in which TFDS keeps data sets, for omniglot and mini_imagenet. "
    "Defaults to that of TFDS.",
  )
  flags.DEFINE_string(
    "manual_dir",
    None,
    "Folder with the files of mini_imagenet, which are read once. Defaults to "
    "downloads/manual in --data_dir.",
  )
  flags.DEFINE_integer(
    "size",
    None,
    "Height and width in pixels to which images of omniglot and mini_imagenet "
    "are scaled. Defaults to 28 and 84.",
    lower_bound=16,
  )
  flags.DEFINE_integer(
    "held_out_classes",
    0,
    "Number of training classes of mini_imagenet that are left out and written "
    "as the validation classes, so that the validation classes serve as test "
    "classes.",
    lower_bound=0,
  )


def _define_training() -> None:
  flags.DEFINE_string(
    "workdir", "runs/pretrain", "Folder to which everything is written."
  )
  flags.DEFINE_enum(
    "backbone",
    "conv4",
    ("conv4", "conv4_stride", "resnet12"),
    "Network; conv4_stride has strides in place of max pooling.",
  )
  flags.DEFINE_integer(
    "filters",
    64,
    "Filters of each convolution. Those of resnet12 have as many in the first "
    "stage, and 2.5, 5 and 10 times as many in the next ones.",
    lower_bound=1,
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
  names = ("data_dir", "manual_dir", "size", "held_out_classes")
  given = {name: _FLAGS[name].value for name in names if _FLAGS[name].present}
  labeled_images.check_used(_FLAGS.dataset, given)
  # This module loads TensorFlow. Imported here, it does not delay --help.
  from trainers.run import pretraining

  pretraining.run(
    _FLAGS.dataset,
    _FLAGS.workdir,
    data_dir=_FLAGS.data_dir,
    manual_dir=_FLAGS.manual_dir,
    size=_FLAGS.size,
    held_out_classes=_FLAGS.held_out_classes,
    backbone=_FLAGS.backbone,
    filters=_FLAGS.filters,
    epochs=_FLAGS.epochs,
    batch_size=_FLAGS.batch_size,
    learning_rate=_FLAGS.learning_rate,
    seed=_FLAGS.seed,
  )


if __name__ == "__main__":
  define()
  command_line.run(main)
