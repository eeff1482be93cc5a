"""Codes of drawings: what a classifier of other characters makes of them."""

import keras
import numpy as np

import tfmeta

CODE = 32


def coder(drawings: np.ndarray, *, epochs: int, seed: int = 0) -> keras.Model:
  """Trains a classifier of characters, and returns it up to its codes.

  Args:
    drawings: uint8 `[characters, drawings, height, width, 1]`.
    epochs: Over all drawings.
    seed: Of the initial weights and of the order of drawings.

  Returns:
    A model from images `[n, height, width, 1]` in [0, 1] to codes `[n, CODE]`
    in [0, 1].
  """
  keras.utils.set_random_seed(seed)
  characters, count, *shape = drawings.shape
  images = drawings.reshape(-1, *shape) / np.float32(255)
  labels = np.repeat(np.arange(characters), count)
  network = tfmeta.models.conv4(
    shape, ways=CODE, filters=32, pooling="stride", momentum=0.9
  )
  codes = keras.activations.sigmoid(network.output)
  logits = keras.layers.Dense(characters)(codes)
  classifier = keras.Model(network.input, logits)
  steps = epochs * len(images) // 128
  classifier.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, steps)),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  classifier.fit(images, labels, batch_size=128, epochs=epochs, verbose=0)
  return keras.Model(network.input, codes)


def codes_of(model: keras.Model, drawings: np.ndarray) -> np.ndarray:
  """Codes as images one pixel high: uint8 `[characters, drawings, 1, CODE, 1]`.

  So they are drawn to tasks, side by side, as the drawings themselves are.
  """
  images = drawings.reshape(-1, *drawings.shape[2:]) / np.float32(255)
  codes = model.predict(images, batch_size=500, verbose=0)
  codes = np.round(255 * codes).astype(np.uint8)
  return codes.reshape(*drawings.shape[:2], 1, CODE, 1)
