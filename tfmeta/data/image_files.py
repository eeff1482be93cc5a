"""Images from files of people's own, at one size."""

from collections.abc import Sequence
import os
import pathlib

import numpy as np
import tensorflow as tf

_ENDINGS = (".jpeg", ".jpg", ".png")


def is_image(file: pathlib.Path) -> bool:
  """Whether it is a JPEG or PNG file by its name, and not hidden."""
  return has_image_name(file) and file.is_file()


def has_image_name(file: pathlib.PurePath) -> bool:
  """As `is_image`, of a file that lies in an archive."""
  return file.suffix.lower() in _ENDINGS and not file.name.startswith(".")


def decode(
  content: bytes, shape: Sequence[int], name: str | os.PathLike[str]
) -> np.ndarray:
  """Returns the image in a JPEG or PNG file.

  Args:
    content: Of the file.
    shape: Height, width and channels to make of it.
    name: Of the file, for the message if it is none.

  Returns:
    uint8 of that shape.
  """
  try:
    image = tf.io.decode_image(
      content, channels=shape[2], expand_animations=False
    )
  except tf.errors.InvalidArgumentError as error:
    raise ValueError(
      f"{os.fspath(name)} is no JPEG or PNG image that can be read; mend it or "
      "take it away."
    ) from error
  return scale(image.numpy(), shape[:2])


def scale(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Scales uint8 `[h, w, c]`, smoothed as it shrinks, whatever its shape."""
  if image.shape[:2] == tuple(size):
    return image
  scaled = tf.image.resize(image, list(size), antialias=True)
  return tf.cast(tf.round(scaled), tf.uint8).numpy()
