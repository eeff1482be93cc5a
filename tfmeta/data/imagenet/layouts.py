"""The files in which people keep miniImageNet and tieredImageNet.

Every reader yields, image by image, the name of its class, where it comes from,
and the content of a JPEG or PNG file or the image itself, uint8 `[h, w, 3]`.
Pickles are read into memory as a whole, the others piece by piece.
"""

from collections.abc import Callable
from collections.abc import Iterator
import csv
import math
import pathlib
import tarfile
from typing import Any
import zipfile

import numpy as np

from tfmeta.data import image_files
from tfmeta.data import pickles

Examples = Iterator[tuple[str, str, bytes | np.ndarray]]

# What a split may be called in names of files.
_NAMES = {
  "train": ("train",),
  "validation": ("val", "validation"),
  "test": ("test",),
}

LAYOUTS = """\
  train/CLASS/IMAGE.jpg      a folder for each split, with one for each class
  train.tar                  the same as an archive (not compressed)
  train.csv, images/         filename,label for each image, of Ravi & Larochelle
  mini-imagenet-cache-train.pkl
                             a pickle of `image_data` and `class_dict`
  miniImageNet_category_split_train.pickle
                             a pickle of `data` and `labels` (that of training
                             is called train_phase_train)
  train_images.npz or train_images_png.pkl, train_labels.pkl
                             those of the authors of tieredImageNet
and in the same way val (or validation) and test."""


def find(
  folder: pathlib.Path, split: str
) -> tuple[pathlib.Path, Callable[[], Examples]] | None:
  """What a folder holds of a split.

  Args:
    folder: Where files lie as in `LAYOUTS`.
    split: "train", "validation" or "test".

  Returns:
    The file or folder that was found, and what reads it; `None` if there is
    none.
  """
  for name in _NAMES[split]:
    for pattern, reader in _READERS.items():
      path = folder / pattern.format(name)
      if path.exists() and path.is_dir() == (pattern == _FOLDER):
        return path, lambda path=path, reader=reader: reader(path)
  return None


def _read_folders(path: pathlib.Path) -> Examples:
  for folder in sorted(path.iterdir()):
    if folder.is_dir() and not folder.name.startswith("."):
      for file in sorted(folder.iterdir()):
        if image_files.is_image(file):
          yield folder.name, str(file), file.read_bytes()


def _read_tar(path: pathlib.Path) -> Examples:
  """Of members `.../CLASS/IMAGE`."""
  with _open_tar(path) as archive:
    members = sorted(archive.getmembers(), key=lambda member: member.name)
    for member in members:
      name = pathlib.PurePosixPath(member.name)
      file = archive.extractfile(member)
      if file and image_files.has_image_name(name):
        yield name.parent.name, f"{path}:{name}", file.read()


def _open_tar(path: pathlib.Path) -> tarfile.TarFile:
  try:
    return tarfile.open(path, "r:")
  except tarfile.ReadError as error:
    raise ValueError(
      f"{path} must be a tar archive that is not compressed. Received: {error}"
    ) from error


def _read_csv(path: pathlib.Path) -> Examples:
  """Of a row `filename,label` for each image in the folder `images`."""
  with open(path, newline="") as file:
    rows = list(csv.DictReader(file))
  if not rows or not {"filename", "label"} <= {*rows[0]}:
    raise ValueError(
      f"{path} must have the columns filename and label. "
      f"Received: {list(rows[0]) if rows else 'no rows'}"
    )
  for row in rows:
    file = path.parent / "images" / row["filename"]
    if not file.exists():
      raise FileNotFoundError(f"{path} names {file}, which is not there")
    yield row["label"], str(file), file.read_bytes()


def _read_class_dict(path: pathlib.Path) -> Examples:
  """Of `image_data [n, h, w, 3]` and a list of rows for each class."""
  content = pickles.load_dict(path, "image_data", "class_dict")
  images = content["image_data"]
  for name, rows in sorted(content["class_dict"].items()):
    if max(rows, default=0) >= len(images):
      raise ValueError(
        f"{path} must name rows of its {len(images)} images. "
        f"Received: row {max(rows)} in class {name!r}"
      )
    for row in rows:
      yield str(name), f"{path}[{row}]", images[row]


def _read_data_and_labels(path: pathlib.Path) -> Examples:
  content = pickles.load_dict(path, "data", "labels")
  images, labels = content["data"], content["labels"]
  _check_count(path, len(images), len(labels))
  for row, (image, label) in enumerate(zip(images, labels, strict=True)):
    yield _number(label), f"{path}[{row}]", image


def _read_npz(path: pathlib.Path) -> Examples:
  """One row after the other, as all of them may be more than memory holds.

  The authors of tieredImageNet read the images by OpenCV, whose channels are in
  the order blue, green, red. Those of their PNG files are not.
  """
  labels = _labels_beside(path)
  try:
    with zipfile.ZipFile(path) as archive, archive.open("images.npy") as file:
      shape = _image_shape(path, file, len(labels))
      for row, label in enumerate(labels):
        content = file.read(math.prod(shape))
        image = np.frombuffer(content, np.uint8).reshape(shape)
        yield label, f"{path}[{row}]", image[..., ::-1]
  except (zipfile.BadZipFile, KeyError) as error:
    raise ValueError(f"{path} is no npz file of `images`: {error}") from error


def _image_shape(path: pathlib.Path, file: Any, count: int) -> tuple[int, ...]:
  """Reads the header of an array; returns the shape of one image."""
  headers = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  shape, fortran, dtype = headers[np.lib.format.read_magic(file)](file)
  if fortran or dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3:
    order = "Fortran's order" if fortran else "C's order"
    raise ValueError(
      f"{path} must hold `images` [n, height, width, 3] of uint8 in C's order. "
      f"Received: shape {shape}, {dtype}, {order}"
    )
  _check_count(path, shape[0], count)
  return shape[1:]


def _read_encoded(path: pathlib.Path) -> Examples:
  """Of a list of PNG files, each an array of bytes."""
  images, labels = pickles.load(path), _labels_beside(path)
  _check_count(path, len(images), len(labels))
  for row, (image, label) in enumerate(zip(images, labels, strict=True)):
    yield label, f"{path}[{row}]", np.asarray(image).tobytes()


def _labels_beside(path: pathlib.Path) -> list[str]:
  file = path.with_name(path.name.split("_images")[0] + "_labels.pkl")
  if not file.exists():
    raise FileNotFoundError(f"{path} must have its labels beside it, in {file}")
  content = pickles.load(file)
  for key in ("label_specific", "labels"):
    if isinstance(content, dict) and key in content:
      return [_number(label) for label in content[key]]
  raise ValueError(
    f"{file} must hold a dict with 'label_specific' or 'labels'. "
    f"Received: {type(content).__name__}"
  )


def _number(label: Any) -> str:
  """The name of a class that is a number; sorted names are sorted numbers."""
  return f"{int(label):04d}"


def _check_count(path: pathlib.Path, images: int, labels: int) -> None:
  if images != labels:
    raise ValueError(
      f"{path} must hold an image for each label beside it. "
      f"Received: {images} images, {labels} labels"
    )


_FOLDER = "{0}"

# Folders first: MAML's script moves images out of that of a csv file into them.
_READERS: dict[str, Callable[[pathlib.Path], Examples]] = {
  _FOLDER: _read_folders,
  "{0}.csv": _read_csv,
  "{0}.tar": _read_tar,
  "mini-imagenet-cache-{0}.pkl": _read_class_dict,
  "miniImageNet_category_split_{0}.pickle": _read_data_and_labels,
  "miniImageNet_category_split_{0}_phase_{0}.pickle": _read_data_and_labels,
  "{0}_images.npz": _read_npz,
  "{0}_images_png.pkl": _read_encoded,
}
