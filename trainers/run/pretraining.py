"""Trains an ordinary classifier, and writes the embeddings of its backbone."""

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
from trainers.run import data_sets
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
    dataset: "glyphs" or "omniglot".
    workdir: Folder to write to.
    data_dir: Folder of TFDS data sets. `None` leaves the choice to TFDS.
    filters: Filters of each convolution.
    epochs: Number of passes through all training images.
    batch_size: Number of images in each update.
    learning_rate: Initial learning rate of Adam, which falls by a cosine.
    seed: Seed of the weights and of the order of the images.

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
    return {k: v for k, v in values.items() if k not in ("workdir", "data_dir")}


def run(
  dataset: str, workdir: str | os.PathLike[str], **values: Any
) -> dict[str, Any]:
  """Trains, and writes `backbone.keras`, `pretrain.json` and the embeddings.

  A run that was stopped goes on after its last finished epoch, to the same
  weights.

  Args:
    dataset: "glyphs" or "omniglot".
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
  images = data_sets.images_by_class(config.dataset, "train", config.data_dir)
  classifier, history = _train(images, folder, config)
  backbone = _backbone_of(classifier)
  with whole_files.replacing(folder / "backbone.keras") as path:
    backbone.save(path)
  _write_embeddings(backbone, folder / "embeddings", config)
  # Earlier versions used this key, and their folders can still be used.
  result = {
    "settings": config.settings,
    "classes": len(images),
    "history": history,
  }
  folders.write_json(folder / folders.PRETRAINED, result)
  print(f"Written to {os.fspath(folder)}: backbone.keras, embeddings.")
  return result


def held_out(images: np.ndarray, share: float) -> tuple[Any, Any]:
  """Splits the images of each class into training and validation.

  Args:
    images: Uint8 array `[classes, n, h, w, c]`.
    share: Share of the images of each class, the last ones, for validation.

  Returns:
    Two pairs `(x, y)`: x float32 `[n, h, w, c]` in [0, 1], y the class.
  """
  kept = round((1 - share) * images.shape[1])
  return _examples(images[:, :kept]), _examples(images[:, kept:])


def _train(images, folder, config) -> tuple[keras.Model, dict[str, Any]]:
  """Trains to the last epoch, from the last checkpoint in `folder`."""
  keras.utils.set_random_seed(config.seed)
  examples, validation = held_out(images, _HELD_OUT)
  steps = math.ceil(len(examples[0]) / config.batch_size)
  classifier = _classifier(images.shape, config, steps)
  checkpoint = tfmeta.callbacks.Checkpoint(folder / folders.CHECKPOINTS)
  done = checkpoint.restore(classifier)
  if done == config.epochs:
    training.say(f"All {done} epochs are finished; only embeddings are made.")
  elif done:
    training.say(f"Resuming after {done} of {config.epochs} epochs.")
  if done < config.epochs:
    classifier.fit(
      _batches(examples, config, start=done),
      validation_data=validation,
      validation_batch_size=config.batch_size,
      steps_per_epoch=steps,
      initial_epoch=done,
      epochs=config.epochs,
      verbose=0,
      callbacks=[
        tfmeta.callbacks.TerminateOnDivergence(),
        keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
        checkpoint,
        progress.Progress(),
      ],
    )
  return classifier, checkpoint.history


def _classifier(shape, config, steps) -> keras.Model:
  """Returns the compiled classifier of images `[classes, n, h, w, c]`."""
  classifier = tfmeta.models.conv4(
    shape[2:], ways=shape[0], filters=config.filters
  )
  rate = keras.optimizers.schedules.CosineDecay(
    config.learning_rate, config.epochs * steps
  )
  classifier.compile(
    keras.optimizers.Adam(rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return classifier


def _batches(examples, config, *, start: int) -> tf.data.Dataset:
  """Returns the batches of all epochs from `start` on.

  The order in an epoch depends on the seed and the epoch alone, so that a
  resumed run reads what it would have read without the interruption.
  """
  images, labels = map(tf.constant, examples)

  def batches_of(epoch):
    order = tf.random.experimental.stateless_shuffle(
      tf.range(len(labels)), [config.seed, epoch], alg="philox"
    )
    return tf.data.Dataset.from_tensor_slices(order).batch(config.batch_size)

  return (
    tf.data.Dataset.range(start, config.epochs)
    .flat_map(batches_of)
    .map(lambda i: (tf.gather(images, i), tf.gather(labels, i)))
    .prefetch(2)
  )


def _backbone_of(model) -> keras.Model:
  """Returns the model without its last layer."""
  return keras.Model(model.input, model.layers[-1].input, name="backbone")


def _write_embeddings(backbone, folder, config) -> None:
  """Writes the embeddings of all three splits."""
  for split in data_sets.SPLITS:
    images = data_sets.images_by_class(config.dataset, split, config.data_dir)
    x, y = _examples(images)
    values = backbone.predict(x, batch_size=_BATCH, verbose=0)
    tfmeta.data.write_embeddings(split, folder, values, y)


def _examples(images) -> tuple[np.ndarray, np.ndarray]:
  classes, count = images.shape[:2]
  x = images.reshape(-1, *images.shape[2:]).astype("float32") / 255
  return x, np.repeat(np.arange(classes), count)
