"""Reads image files and scales the images to one size."""

from collections.abc import Sequence
import os
import pathlib
import struct

import numpy as np
import tensorflow as tf

# Pixels of the largest image that is read: 8192x8192. A file of a few hundred
# kilobytes can hold an image of some gigabytes.
LARGEST_IMAGE = 2**26

# Images that are scaled together.
_AT_ONCE = 256

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def is_image(file: pathlib.Path) -> bool:
  """Returns whether `file` exists and has the name of an image."""
  return has_image_name(file) and file.is_file()


def has_image_name(file: pathlib.PurePath) -> bool:
  """Returns whether `file` is named like an image and not hidden."""
  return file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")


def decode(
  content: bytes, shape: Sequence[int], name: str | os.PathLike[str]
) -> np.ndarray:
  """Decodes the content of an image file and scales the image.

  Args:
    content: Bytes of a JPEG, PNG, BMP, WebP or GIF file, of which the first
      image counts.
    shape: Height, width and channels of the result. There are 1 or 3 channels.
    name: Path of the file, for the message.

  Returns:
    uint8 array of the given shape.

  Raises:
    ValueError: If the file is not an image that can be read, or has more than
      `LARGEST_IMAGE` pixels.
  """
  try:
    width, height = _size(content)
    if width * height > LARGEST_IMAGE:
      raise ValueError(
        f"{os.fspath(name)} must have at most {LARGEST_IMAGE} pixels. "
        f"Received: {width}x{height}"
      )
    image = _decoded(content, shape[2])
  except (tf.errors.InvalidArgumentError, struct.error) as error:
    raise ValueError(
      f"{os.fspath(name)} is not a readable JPEG, PNG, BMP or WebP image; "
      "repair it or remove it."
    ) from error
  return scale(image.numpy(), shape[:2])


def _decoded(content: bytes, channels: int) -> tf.Tensor:
  # TensorFlow has no gray levels of BMP, WebP and GIF files.
  colored = channels == 1 and not content.startswith((_JPEG, _PNG))
  image = tf.io.decode_image(
    content, channels=3 if colored else channels, expand_animations=False
  )
  return tf.image.rgb_to_grayscale(image) if colored else image


_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def _size(content: bytes) -> tuple[int, int]:
  """Returns the width and height that an image file states.

  Raises:
    struct.error: If the file is too short.
    tf.errors.InvalidArgumentError: If the file has another format.
  """
  if content.startswith(_PNG):
    return struct.unpack_from(">II", content, 16)
  if content.startswith(b"BM"):
    width, height = struct.unpack_from("<ii", content, 18)
    return abs(width), abs(height)
  if content.startswith(b"GIF8"):
    return struct.unpack_from("<HH", content, 6)
  if content.startswith(b"RIFF"):
    return _webp_size(content)
  height, width, _ = tf.io.extract_jpeg_shape(content).numpy()
  return int(width), int(height)


def _webp_size(content: bytes) -> tuple[int, int]:
  # https://developers.google.com/speed/webp/docs/riff_container
  if content[12:16] == b"VP8X":
    bits = int.from_bytes(content[24:30], "little")
    return 1 + bits % 2**24, 1 + bits // 2**24
  if content[12:16] == b"VP8L":
    (bits,) = struct.unpack_from("<I", content, 21)
    return 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
  width, height = struct.unpack_from("<HH", content, 26)
  return width % 2**14, height % 2**14


def scale_all(images: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Scales images as `scale` does, some at a time.

  Args:
    images: uint8 `[n, height, width, channels]`, which may be mapped from disk.
    size: New height and width.

  Returns:
    uint8 `[n, *size, channels]`: `images` themselves if they have this size.
  """
  if images.shape[1:3] == tuple(size):
    return images
  scaled = np.empty([len(images), *size, images.shape[3]], np.uint8)
  # In float32, all images at once may be larger than the memory.
  for start in range(0, len(images), _AT_ONCE):
    part = slice(start, start + _AT_ONCE)
    scaled[part] = scale(images[part], size)
  return scaled


def scale(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Scales an image with antialiasing, without keeping its aspect ratio.

  Args:
    image: uint8 `[height, width, channels]`, or several, `[n, height, width,
      channels]`.
    size: New height and width.

  Returns:
    uint8 `[*size, channels]` or `[n, *size, channels]`.
  """
  if image.shape[-3:-1] == tuple(size):
    return image
  scaled = tf.image.resize(image, list(size), antialias=True)
  return tf.cast(tf.round(scaled), tf.uint8).numpy()
