"""Trains an ordinary classifier, and writes the embeddings of its backbone."""

from collections.abc import Sequence
import dataclasses
import math
import os
from typing import Any
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta import whole_files
from trainers.run import labeled_images
from trainers.run import option
from trainers.run import packages
from trainers.run import paths
from trainers.run import progress
from trainers.run import training
from trainers.run import workdir as folders

# Share of the images of each class that validation uses.
_HELD_OUT = 0.2

# Images in one batch when embeddings are computed.
_BATCH = 500


@dataclasses.dataclass(frozen=True)
class Pretraining:
  """The configuration of a pre-training.

  Attributes:
    dataset: A key of `labeled_images.SOURCES`.
    workdir: Folder to write to.
    data_dir: Folder of TFDS data sets. `None` leaves the choice to TFDS.
    filters: Filters of each convolution; for "resnet12", of the first stage.
    epochs: Number of passes through all training images.
    batch_size: Number of images in each update.
    learning_rate: Initial learning rate of Adam, which falls by a cosine.
    seed: Seed of the weights, and of the order of the images and which of them
      are mirrored.
    backbone: "conv4", "conv4_stride" or "resnet12".
    size: Height and width of the images. `None` leaves them as they are.
    held_out_classes: Number of training classes that are written as the
      validation classes instead.
    manual_dir: Folder with the files of miniImageNet. `None` leaves the choice
      to TFDS.

  Raises:
    ValueError: If a value is wrong.
  """

  dataset: str
  workdir: str
  data_dir: str | None
  filters: int
  epochs: int
  batch_size: int
  learning_rate: float
  seed: int
  # Folders of earlier versions have none of these, so they need a default.
  backbone: str = "conv4"
  size: int | None = None
  held_out_classes: int = 0
  manual_dir: str | None = None

  strategy: ClassVar[str] = "none"

  def __post_init__(self) -> None:
    option.check_finite(self)
    if not self.learning_rate > 0:
      raise ValueError(
        "`learning_rate` must be above 0. "
        f"Received: learning_rate={self.learning_rate}"
      )
    # The class is frozen for others.
    object.__setattr__(self, "workdir", paths.local("workdir", self.workdir))

  @property
  def settings(self) -> dict[str, Any]:
    """The values on which the weights depend."""
    values = dataclasses.asdict(self)
    folders_of_user = ("workdir", "data_dir", "manual_dir")
    return {k: v for k, v in values.items() if k not in folders_of_user}


def run(
  dataset: str, workdir: str | os.PathLike[str], **values: Any
) -> dict[str, Any]:
  """Trains, and writes `backbone.keras`, `pretrain.json` and the embeddings.

  A run that was stopped goes on after its last finished epoch, to the same
  weights.

  Args:
    dataset: A key of `labeled_images.SOURCES`.
    workdir: Folder to write to.
    **values: The other attributes of `Pretraining`.

  Returns:
    The content of `pretrain.json`.

  Raises:
    ValueError: If a value is wrong, if `workdir` holds embeddings that were
      made in another way, or if another process is using it.
    ImportError: If tensorboard is missing.
    OSError: If the disk is full, for example.
    ArithmeticError: If the loss became NaN or infinite.
  """
  packages.check_installed("tensorboard")
  config = Pretraining(dataset, os.fspath(workdir), **values)
  with training.errors_of_users(config), folders.claim(config) as folder:
    return _pretrain(folder, config)


def _pretrain(folder, config) -> dict[str, Any]:
  splits = labeled_images.read(config)
  images = splits["train"]
  classifier, history = _train(images, folder, config)
  backbone = _backbone_of(classifier)
  with whole_files.replacing(folder / "backbone.keras") as path:
    backbone.save(path)
  for split, of_split in splits.items():
    values = _embeddings_of(of_split.values, backbone)
    tfmeta.data.write_embeddings(
      split, folder / "embeddings", values, of_split.classes
    )
  # Earlier versions used this key, and their folders can still be used.
  result = {
    "settings": config.settings,
    "classes": len(np.unique(images.classes)),
    "history": history,
  }
  folders.write_json(folder / folders.PRETRAINED, result)
  print(f"Written to {os.fspath(folder)}: backbone.keras, embeddings.")
  return result


def held_out(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
  """Divides the images of each class into training and validation.

  Args:
    labels: Integers `[n]`, the classes of the images, from 0 on.
    share: Share of the images of each class, the last ones, for validation.

  Returns:
    The indices of the images for training, and of those for validation.
  """
  counts = np.bincount(labels)
  order = np.argsort(labels, kind="stable")
  # The place of each image among those of its class.
  places = np.empty_like(order)
  places[order] = np.arange(len(labels)) - np.repeat(
    np.cumsum(counts) - counts, counts
  )
  kept = places < np.round((1 - share) * counts)[labels]
  return np.flatnonzero(kept), np.flatnonzero(~kept)


def _train(images, folder, config) -> tuple[keras.Model, dict[str, Any]]:
  """Trains to the last epoch, from the last checkpoint in `folder`."""
  keras.utils.set_random_seed(config.seed)
  names, labels = np.unique(images.classes, return_inverse=True)
  chosen, others = held_out(labels, _HELD_OUT)
  steps = math.ceil(len(chosen) / config.batch_size)
  classifier = classifier_of(images.values.shape[1:], len(names), config, steps)
  checkpoint = tfmeta.callbacks.Checkpoint(folder / folders.CHECKPOINTS)
  done = checkpoint.restore(classifier)
  if done == config.epochs:
    training.say(f"All {done} epochs are finished; only embeddings are made.")
  elif done:
    training.say(f"Resuming after {done} of {config.epochs} epochs.")
  if done < config.epochs:
    # As bytes, the images take a quarter of the memory.
    examples = tf.constant(images.values), tf.constant(labels)
    classifier.fit(
      batches(examples, chosen, config, start=done),
      validation_data=_in_order(examples, others, config.batch_size),
      steps_per_epoch=steps,
      initial_epoch=done,
      epochs=config.epochs,
      verbose=0,
      # Keras warns that it will not shuffle a dataset, unless told not to.
      shuffle=False,
      callbacks=[
        tfmeta.callbacks.TerminateOnDivergence(),
        keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
        checkpoint,
        progress.Progress(),
      ],
    )
  return classifier, checkpoint.history


def classifier_of(
  shape: Sequence[int], classes: int, config: Pretraining, steps: int
) -> keras.Model:
  """Returns the compiled classifier.

  Args:
    shape: Height, width and channels of the images.
    classes: Number of classes.
    config: The configuration of the run.
    steps: Number of updates in an epoch.
  """
  classifier = _BACKBONES[config.backbone](shape, classes, config.filters)
  rate = keras.optimizers.schedules.CosineDecay(
    config.learning_rate, config.epochs * steps
  )
  classifier.compile(
    keras.optimizers.Adam(rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return classifier


def _conv4(shape, classes, filters) -> keras.Model:
  return tfmeta.models.conv4(shape, ways=classes, filters=filters)


def _conv4_stride(shape, classes, filters) -> keras.Model:
  return tfmeta.models.conv4(
    shape, ways=classes, filters=filters, pooling="stride"
  )


def _resnet12(shape, classes, filters) -> keras.Model:
  # The authors have 64, 160, 320 and 640 filters.
  widths = [filters * halves // 2 for halves in (2, 5, 10, 20)]
  return tfmeta.models.resnet12(shape, ways=classes, filters=widths)


_BACKBONES = {
  "conv4": _conv4,
  "conv4_stride": _conv4_stride,
  "resnet12": _resnet12,
}


def batches(examples, chosen, config, *, start: int) -> tf.data.Dataset:
  """Returns the batches of all epochs from `start` on.

  The order in an epoch, and which images are mirrored, depend on the seed and
  the epoch alone, so that a resumed run reads what it would have read without
  the interruption.

  Args:
    examples: Images, uint8 `[n, h, w, c]`, and their labels, `[n]`.
    chosen: Indices of the examples to use.
    config: The configuration of the run.
    start: Number of epochs to leave out.

  Returns:
    A dataset of pairs: images, float32 in [0, 1], and labels.
  """
  images, labels = examples
  share = 0.5 if labeled_images.SOURCES[config.dataset].mirrored else 0.0

  def batches_of(epoch):
    order = tf.random.experimental.stateless_shuffle(
      tf.constant(chosen), [config.seed, epoch], alg="philox"
    )
    # A seed of its own makes the choice independent of the order.
    seed = tf.random.fold_in([config.seed, epoch], 1, alg="philox")
    chance = tf.random.stateless_uniform([len(chosen)], seed, alg="philox")
    return tf.data.Dataset.from_tensor_slices((order, chance < share)).batch(
      config.batch_size
    )

  def read(indices, is_mirrored):
    x = _scaled(tf.gather(images, indices))
    x = tf.where(is_mirrored[:, None, None, None], x[:, :, ::-1], x)
    return x, tf.gather(labels, indices)

  return (
    tf.data.Dataset.range(start, config.epochs)
    .flat_map(batches_of)
    .map(read)
    .prefetch(2)
  )


def _in_order(examples, indices, batch_size) -> tf.data.Dataset:
  """Returns one pass through the examples with the given indices."""
  images, labels = examples
  return (
    tf.data.Dataset.from_tensor_slices(indices)
    .batch(batch_size)
    .map(lambda i: (_scaled(tf.gather(images, i)), tf.gather(labels, i)))
    .prefetch(2)
  )


def _scaled(images) -> tf.Tensor:
  return tf.cast(images, tf.float32) / 255


def _backbone_of(model) -> keras.Model:
  """Returns the model without its last layer."""
  return keras.Model(model.input, model.layers[-1].input, name="backbone")


def _embeddings_of(images, backbone) -> np.ndarray:
  batches = tf.data.Dataset.from_tensor_slices(tf.constant(images))
  return backbone.predict(
    batches.batch(_BATCH).map(_scaled).prefetch(2), verbose=0
  )
