"""Images by class, for an ordinary classifier and for its embeddings."""

import keras
import numpy as np

import tfmeta

SPLITS = ("train", "validation", "test")

_GLYPHS = {"train": 400, "validation": 100, "test": 100}
_DRAWINGS = 20


def of_split(dataset, split, data_dir=None) -> np.ndarray:
  """Images uint8 `[classes, drawings, h, w, c]` of a split.

  Raises:
    ValueError: If the data set is unknown.
  """
  if dataset == "omniglot":
    return tfmeta.data.omniglot_drawings(split, data_dir=data_dir)
  if dataset == "glyphs":
    images = tfmeta.data.glyph_drawings(_GLYPHS[split], _DRAWINGS, split=split)
    return np.asarray(np.round(255 * np.asarray(images)), np.uint8)
  raise ValueError(
    f"`dataset` must be glyphs or omniglot. Received: dataset={dataset!r}"
  )


def divided(images, share) -> tuple:
  """`(x, y)` to train on, and the last `share` of each class to validate on."""
  kept = round((1 - share) * images.shape[1])
  return _examples(images[:, :kept]), _examples(images[:, kept:])


def classifier(shape, *, filters) -> keras.Model:
  """Conv-4 for all classes of images of the shape `[classes, n, h, w, c]`."""
  return tfmeta.models.conv4(shape[2:], ways=shape[0], filters=filters)


def backbone_of(model) -> keras.Model:
  """What comes before the last layer."""
  return keras.Model(model.input, model.layers[-1].input, name="backbone")


def write_embeddings(backbone, folder, dataset, data_dir) -> None:
  """Writes those of all splits."""
  for split in SPLITS:
    x, y = _examples(of_split(dataset, split, data_dir))
    values = backbone.predict(x, batch_size=500, verbose=0)
    tfmeta.data.write_embeddings(split, folder, values, y)


def _examples(images):
  classes, drawings = images.shape[:2]
  x = images.reshape(-1, *images.shape[2:]).astype("float32") / 255
  return x, np.repeat(np.arange(classes), drawings)
