"""Trains an ordinary classifier, and writes the embeddings of its backbone."""

import json
import math
import os
import pathlib
from typing import Any

import keras
import numpy as np

import tfmeta
from tfmeta import whole_files
from trainers.run import data_sets
from trainers.run import packages
from trainers.run import paths
from trainers.run import workdir as folders

_RESULT = "pretrain.json"

# Share of the images of each class that validation uses.
_HELD_OUT = 0.2

# Images in one batch when embeddings are computed.
_BATCH = 500


def run(
  dataset: str,
  workdir: str | os.PathLike[str],
  *,
  data_dir: str | None,
  filters: int,
  epochs: int,
  batch_size: int,
  learning_rate: float,
  seed: int,
) -> dict[str, Any]:
  """Trains, and writes `backbone.keras`, `pretrain.json` and the embeddings.

  Args:
    dataset: "glyphs" or "omniglot".
    workdir: Folder to write to.
    data_dir: Folder of TFDS data sets. `None` leaves the choice to TFDS.
    filters: Filters of each convolution.
    epochs: Number of passes through all training images.
    batch_size: Number of images in each update.
    learning_rate: Initial learning rate of Adam, which falls by a cosine.
    seed: Seed of the weights and of the order of the images.

  Returns:
    The content of `pretrain.json`.

  Raises:
    ValueError: If a value is wrong, or if `workdir` holds embeddings that were
      made in another way.
    ImportError: If tensorboard is missing.
    ArithmeticError: If the loss became NaN or infinite.
  """
  packages.check_installed("tensorboard")
  values = {
    "dataset": dataset,
    "filters": filters,
    "epochs": epochs,
    "batch_size": batch_size,
    "learning_rate": learning_rate,
    "seed": seed,
  }
  _check(values)
  folder = pathlib.Path(paths.local("workdir", str(workdir)))
  folder.mkdir(parents=True, exist_ok=True)
  with folders.locked(folder):
    return _pretrain(folder, values, data_dir)


def _pretrain(folder, values, data_dir) -> dict[str, Any]:
  dataset = values["dataset"]
  _check_same(folder / _RESULT, values)
  images = data_sets.images_by_class(dataset, "train", data_dir)
  classifier, history = _train(images, folder, values)
  if not math.isfinite(history["loss"][-1]):
    raise ArithmeticError(
      "The loss became NaN or infinite, and nothing was written; try a smaller "
      f"learning rate. Received: learning_rate={values['learning_rate']}"
    )
  backbone = _backbone_of(classifier)
  with whole_files.replacing(folder / "backbone.keras") as path:
    backbone.save(path)
  _write_embeddings(backbone, folder / "embeddings", dataset, data_dir)
  # Earlier versions used this key, and their folders can still be used.
  result = {"settings": values, "classes": len(images), "history": history}
  folders.write_json(folder / _RESULT, result)
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


def _train(images, folder, values) -> tuple[keras.Model, dict[str, Any]]:
  keras.utils.set_random_seed(values["seed"])
  classes = images.shape[0]
  classifier = tfmeta.models.conv4(
    images.shape[2:], ways=classes, filters=values["filters"]
  )
  training, validation = held_out(images, _HELD_OUT)
  updates = values["epochs"] * math.ceil(
    len(training[0]) / values["batch_size"]
  )
  rate = keras.optimizers.schedules.CosineDecay(
    values["learning_rate"], updates
  )
  classifier.compile(
    keras.optimizers.Adam(rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  history = classifier.fit(
    *training,
    validation_data=validation,
    epochs=values["epochs"],
    batch_size=values["batch_size"],
    verbose=2,
    callbacks=[keras.callbacks.TensorBoard(folder / "logs", write_graph=False)],
  ).history
  return classifier, history


def _backbone_of(model) -> keras.Model:
  """Returns the model without its last layer."""
  return keras.Model(model.input, model.layers[-1].input, name="backbone")


def _write_embeddings(backbone, folder, dataset, data_dir) -> None:
  """Writes the embeddings of all three splits."""
  for split in data_sets.SPLITS:
    x, y = _examples(data_sets.images_by_class(dataset, split, data_dir))
    values = backbone.predict(x, batch_size=_BATCH, verbose=0)
    tfmeta.data.write_embeddings(split, folder, values, y)


def _examples(images) -> tuple[np.ndarray, np.ndarray]:
  classes, count = images.shape[:2]
  x = images.reshape(-1, *images.shape[2:]).astype("float32") / 255
  return x, np.repeat(np.arange(classes), count)


def _check(values) -> None:
  if not values["learning_rate"] > 0:
    raise ValueError(
      "`learning_rate` must be above 0. "
      f"Received: learning_rate={values['learning_rate']}"
    )


def _check_same(path, values) -> None:
  """Refuses to overwrite embeddings that were made in another way."""
  if not path.exists():
    return
  there = json.loads(path.read_text()).get("settings")
  if there != values:
    raise ValueError(
      "This workdir belongs to another run; choose another --workdir, or "
      f"remove this one. Received: workdir={os.fspath(path.parent)!r}, made "
      f"with {there}"
    )
