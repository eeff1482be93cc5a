"""Reads JPEG and PNG files and scales the images to one size."""

from collections.abc import Sequence
import os
import pathlib

import numpy as np
import tensorflow as tf

_SUFFIXES = (".jpeg", ".jpg", ".png")


def is_image(file: pathlib.Path) -> bool:
  """Returns whether `file` exists and has the name of an image."""
  return has_image_name(file) and file.is_file()


def has_image_name(file: pathlib.PurePath) -> bool:
  """Returns whether `file` is named like a JPEG or PNG image and not hidden."""
  return file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")


def decode(
  content: bytes, shape: Sequence[int], name: str | os.PathLike[str]
) -> np.ndarray:
  """Decodes a JPEG or PNG file and scales the image.

  Args:
    content: The bytes of the file.
    shape: Height, width and channels of the result.
    name: Path of the file, for the message.

  Returns:
    uint8 array of the given shape.

  Raises:
    ValueError: If the file is not an image that can be read.
  """
  try:
    image = tf.io.decode_image(
      content, channels=shape[2], expand_animations=False
    )
  except tf.errors.InvalidArgumentError as error:
    raise ValueError(
      f"{os.fspath(name)} is not a readable JPEG or PNG image; repair it or "
      "remove it."
    ) from error
  return scale(image.numpy(), shape[:2])


def scale(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Scales an image with antialiasing, without keeping its aspect ratio.

  Args:
    image: uint8 `[height, width, channels]`.
    size: New height and width.

  Returns:
    uint8 `[*size, channels]`.
  """
  if image.shape[:2] == tuple(size):
    return image
  scaled = tf.image.resize(image, list(size), antialias=True)
  return tf.cast(tf.round(scaled), tf.uint8).numpy()
