"""The file layouts in which miniImageNet and tieredImageNet circulate.

For each image, a reader yields the name of its class, the place where it was
found (for messages), and either the content of a JPEG or PNG file or the image
itself, uint8 `[height, width, 3]`. Pickle files are read into memory as a
whole. Other files are read piece by piece.
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

LAYOUTS = """\
  train/CLASS/IMAGE.jpg      a folder for each split, with one for each class
  train.tar                  the same as an uncompressed archive
  train.csv, images/         filename,label for each image (Ravi & Larochelle)
  mini-imagenet-cache-train.pkl
                             a pickle of `image_data` and `class_dict`
  miniImageNet_category_split_train.pickle
                             a pickle of `data` and `labels` (the training
                             split is called train_phase_train)
  train_images.npz or train_images_png.pkl, train_labels.pkl
                             the files of the authors of tieredImageNet
and likewise val (or validation) and test."""


def find(
  folder: pathlib.Path, split: str
) -> tuple[pathlib.Path, Callable[[], Examples]] | None:
  """Finds the images of a split in a folder.

  Args:
    folder: Folder that holds files in one of the `LAYOUTS`.
    split: "train", "validation" or "test".

  Returns:
    The file or folder that was found, and a function that reads it; or `None`.
  """
  names = ("val", "validation") if split == "validation" else (split,)
  for name in names:
    for pattern, reader in _READERS.items():
      path = folder / pattern.format(name)
      if path.exists() and path.is_dir() == (pattern == _FOLDER):
        return path, lambda path=path, reader=reader: reader(path)
  return None


def _read_folders(path: pathlib.Path) -> Examples:
  """Reads a folder with one subfolder of images per class."""
  for folder in sorted(path.iterdir()):
    if folder.is_dir() and not folder.name.startswith("."):
      for file in sorted(folder.iterdir()):
        if image_files.is_image(file):
          yield folder.name, str(file), file.read_bytes()


def _read_tar(path: pathlib.Path) -> Examples:
  """Reads an archive with members `.../CLASS/IMAGE`."""
  with _open_tar(path) as archive:
    members = sorted(archive.getmembers(), key=lambda member: member.name)
    for member in members:
      name = pathlib.PurePosixPath(member.name)
      # `None` for folders.
      file = archive.extractfile(member)
      if file and image_files.has_image_name(name):
        yield name.parent.name, f"{path}:{name}", file.read()


def _open_tar(path: pathlib.Path) -> tarfile.TarFile:
  try:
    # Members are read in the order of their names, which would decompress a
    # compressed archive once for each image.
    return tarfile.open(path, "r:")
  except tarfile.ReadError as error:
    raise ValueError(
      f"{path} must be an uncompressed tar archive. Received: {error}"
    ) from error


def _read_csv(path: pathlib.Path) -> Examples:
  """Reads a csv file with one line `filename,label` per file in `images`."""
  with open(path, newline="") as file:
    lines = list(csv.DictReader(file))
  if not lines or not {"filename", "label"} <= {*lines[0]}:
    raise ValueError(
      f"{path} must have the columns filename and label. "
      f"Received: {list(lines[0]) if lines else 'no lines'}"
    )
  for line in lines:
    file = path.parent / "images" / line["filename"]
    if not file.exists():
      raise FileNotFoundError(f"{path} names {file}, which does not exist")
    yield line["label"], str(file), file.read_bytes()


def _read_class_dict(path: pathlib.Path) -> Examples:
  """Reads a pickle of `image_data [n, h, w, 3]` and indices per class."""
  content = pickles.load_dict(path, "image_data", "class_dict")
  images = content["image_data"]
  for name, indices in sorted(content["class_dict"].items()):
    if max(indices, default=0) >= len(images):
      raise ValueError(
        f"{path} must name indices of its {len(images)} images. "
        f"Received: index {max(indices)} in class {name!r}"
      )
    for index in indices:
      yield str(name), f"{path}[{index}]", images[index]


def _read_data_and_labels(path: pathlib.Path) -> Examples:
  """Reads a pickle of `data [n, h, w, 3]` and `labels [n]`."""
  content = pickles.load_dict(path, "data", "labels")
  images, labels = content["data"], content["labels"]
  _check_count(path, len(images), len(labels))
  for index, (image, label) in enumerate(zip(images, labels, strict=True)):
    yield _number(label), f"{path}[{index}]", image


def _read_npz(path: pathlib.Path) -> Examples:
  """Reads an npz file of `images [n, h, w, 3]` and the pickle of its labels.

  The authors of tieredImageNet wrote these arrays with OpenCV, whose channels
  are blue, green, red. Their PNG files have the usual order.
  """
  labels = _labels_beside(path)
  try:
    # The images may need more memory than there is, so they are read one by
    # one, which `np.load` cannot do.
    with zipfile.ZipFile(path) as archive, archive.open("images.npy") as file:
      shape = _image_shape(path, file, len(labels))
      for index, label in enumerate(labels):
        content = file.read(math.prod(shape))
        image = np.frombuffer(content, np.uint8).reshape(shape)
        yield label, f"{path}[{index}]", image[..., ::-1]
  except (zipfile.BadZipFile, KeyError) as error:
    raise ValueError(
      f"{path} is not an npz file of `images`: {error}"
    ) from error


def _image_shape(path: pathlib.Path, file: Any, count: int) -> tuple[int, ...]:
  """Reads the header of a .npy file and returns the shape of one image."""
  headers = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  shape, fortran, dtype = headers[np.lib.format.read_magic(file)](file)
  if fortran or dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3:
    order = "Fortran order" if fortran else "C order"
    raise ValueError(
      f"{path} must hold `images` [n, height, width, 3], uint8 in C order. "
      f"Received: shape {shape}, {dtype}, {order}"
    )
  _check_count(path, shape[0], count)
  return shape[1:]


def _read_encoded(path: pathlib.Path) -> Examples:
  """Reads a pickle of PNG files, each an array of bytes."""
  images, labels = pickles.load(path), _labels_beside(path)
  _check_count(path, len(images), len(labels))
  for index, (image, label) in enumerate(zip(images, labels, strict=True)):
    yield label, f"{path}[{index}]", np.asarray(image).tobytes()


def _labels_beside(path: pathlib.Path) -> list[str]:
  """Reads the labels that belong to a file `..._images...`."""
  file = path.with_name(path.name.split("_images")[0] + "_labels.pkl")
  if not file.exists():
    raise FileNotFoundError(f"{path} needs its labels beside it, in {file}")
  content = pickles.load(file)
  for key in ("label_specific", "labels"):
    if isinstance(content, dict) and key in content:
      return [_number(label) for label in content[key]]
  raise ValueError(
    f"{file} must hold a dict with 'label_specific' or 'labels'. "
    f"Received: {type(content).__name__}"
  )


def _number(label: Any) -> str:
  """Returns a class number as a name; names sort in the order of numbers."""
  return f"{int(label):04d}"


def _check_count(path: pathlib.Path, images: int, labels: int) -> None:
  if images != labels:
    raise ValueError(
      f"{path} must hold one image for each label. "
      f"Received: {images} images, {labels} labels"
    )


_FOLDER = "{0}"

# Folders come first: MAML's script moves the images that a csv file names into
# such folders.
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
