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
import zlib

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
    members = sorted(_members(path, archive), key=lambda member: member.name)
    for member in members:
      name = pathlib.PurePosixPath(member.name)
      if not member.isdir() and image_files.has_image_name(name):
        yield (
          name.parent.name,
          f"{path}:{name}",
          _content(path, archive, member),
        )


def _open_tar(path: pathlib.Path) -> tarfile.TarFile:
  try:
    # Members are read in the order of their names, which would decompress a
    # compressed archive once for each image.
    return tarfile.open(path, "r:")
  except tarfile.ReadError as error:
    raise ValueError(
      f"{path} must be an uncompressed tar archive. Received: {error}"
    ) from error


def _members(
  path: pathlib.Path, archive: tarfile.TarFile
) -> list[tarfile.TarInfo]:
  """Returns all members of an archive.

  Raises:
    ValueError: If the archive is cut off or damaged. `tarfile` takes a header
      that it cannot read for the end, and so a block of zeros, which a disk
      may hold where nothing was written. After the end, only zeros may follow.
  """
  try:
    members = archive.getmembers()
  except tarfile.TarError as error:
    raise ValueError(f"{path} is cut off or damaged: {error}") from error
  with open(path, "rb") as file:
    file.seek(archive.offset)
    is_end = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    if not is_end or any(map(any, iter(lambda: file.read(2**20), b""))):
      last = members[-1].name if members else "none"
      raise ValueError(
        f"{path} is cut off or damaged after its member "
        f"{last!r} at byte {archive.offset}"
      )
  return members


def _content(
  path: pathlib.Path, archive: tarfile.TarFile, member: tarfile.TarInfo
) -> bytes:
  """Returns the content of a file, or of the file in the archive it links to.

  Raises:
    ValueError: If there is no such file, or if it is larger than the archive.
      A member with gaps can have any size.
  """
  most = path.stat().st_size
  try:
    file = archive.extractfile(member)
    content = file.read(most + 1) if file else b""
  except (tarfile.TarError, KeyError, RecursionError) as error:
    raise ValueError(
      f"{path} holds no file for its member {member.name!r}: "
      f"{type(error).__name__}"
    ) from error
  if not 0 < len(content) <= most:
    raise ValueError(
      f"{path} must hold a file of 1 to {most} bytes for each image. "
      f"Received: {member.name!r} of {member.size} bytes"
    )
  return content


def _read_csv(path: pathlib.Path) -> Examples:
  """Reads a csv file with one line `filename,label` per file in `images`."""
  folder = path.parent / "images"
  for line in _csv_lines(path):
    file = folder / line["filename"]
    # A name such as "../../secret" would read any file of this computer.
    if not _lies_in(folder, file):
      raise ValueError(
        f"{path} must name files in {folder}. Received: {line['filename']!r}"
      )
    if not file.is_file():
      raise FileNotFoundError(f"{path} names {file}, which does not exist")
    yield line["label"], str(file), file.read_bytes()


def _lies_in(folder: pathlib.Path, file: pathlib.Path) -> bool:
  try:
    return file.resolve().is_relative_to(folder.resolve())
  except (OSError, RuntimeError, ValueError):  # Loops of links, null bytes.
    return False


def _csv_lines(path: pathlib.Path) -> list[dict[str, str]]:
  try:
    with open(path, newline="", encoding="utf-8-sig") as file:
      lines = list(csv.DictReader(file, strict=True))
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f"{path} is not a csv file: {error}") from error
  if not lines or not {"filename", "label"} <= {*lines[0]}:
    raise ValueError(
      f"{path} must have the columns filename and label. "
      f"Received: {list(lines[0]) if lines else 'no lines'}"
    )
  for number, line in enumerate(lines, start=2):
    if not line["filename"] or not line["label"]:
      raise ValueError(
        f"{path} must have a filename and a label in each line. "
        f"Received: {dict(line)} in line {number}"
      )
  return lines


def _read_class_dict(path: pathlib.Path) -> Examples:
  """Reads a pickle of `image_data [n, h, w, 3]` and indices per class."""
  content = pickles.load_dict(path, "image_data", "class_dict")
  images, classes = content["image_data"], content["class_dict"]
  _check_images(path, images)
  if not isinstance(classes, dict):
    raise ValueError(
      f"{path} must hold a dict of indices as `class_dict`. "
      f"Received: {type(classes).__name__}"
    )
  named = {str(name): indices for name, indices in classes.items()}
  for name, indices in sorted(named.items()):
    for index in _integers(path, f"the class {name!r}", indices):
      if not 0 <= index < len(images):
        raise ValueError(
          f"{path} must name indices of its {len(images)} images. "
          f"Received: index {index} in class {name!r}"
        )
      yield name, f"{path}[{index}]", images[index]


def _read_data_and_labels(path: pathlib.Path) -> Examples:
  """Reads a pickle of `data [n, h, w, 3]` and `labels [n]`."""
  content = pickles.load_dict(path, "data", "labels")
  images, labels = content["data"], _names(path, content["labels"])
  _check_images(path, images)
  _check_count(path, len(images), len(labels))
  for index, (image, label) in enumerate(zip(images, labels, strict=True)):
    yield label, f"{path}[{index}]", image


_DAMAGED_NPZ = (
  zipfile.BadZipFile,
  zlib.error,
  EOFError,
  KeyError,
  NotImplementedError,  # Compressed by a method that Python does not know.
)


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
        if len(content) < math.prod(shape):
          raise EOFError(f"it ends in image {index}")
        image = np.frombuffer(content, np.uint8).reshape(shape)
        yield label, f"{path}[{index}]", image[..., ::-1]
  except _DAMAGED_NPZ as error:
    raise ValueError(
      f"{path} is not an npz file of `images`: {error}"
    ) from error


def _image_shape(path: pathlib.Path, file: Any, count: int) -> tuple[int, ...]:
  """Reads the header of a .npy file and returns the shape of one image."""
  headers = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  try:
    shape, fortran, dtype = headers[np.lib.format.read_magic(file)](file)
  except ValueError as error:
    raise EOFError(
      f"`images` has no header that can be read: {error}"
    ) from error
  if fortran or dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3:
    order = "Fortran order" if fortran else "C order"
    raise ValueError(
      f"{path} must hold `images` [n, height, width, 3], uint8 in C order. "
      f"Received: shape {shape}, {dtype}, {order}"
    )
  if math.prod(shape[1:3]) > image_files.LARGEST_IMAGE:
    raise ValueError(
      f"{path} must hold images of at most {image_files.LARGEST_IMAGE} pixels. "
      f"Received: shape {shape}"
    )
  _check_count(path, shape[0], count)
  return shape[1:]


def _read_encoded(path: pathlib.Path) -> Examples:
  """Reads a pickle of PNG files, each an array of bytes."""
  images, labels = pickles.load(path), _labels_beside(path)
  if not isinstance(images, list):
    raise ValueError(
      f"{path} must hold a list of PNG files. Received: {type(images).__name__}"
    )
  _check_count(path, len(images), len(labels))
  for index, (image, label) in enumerate(zip(images, labels, strict=True)):
    place = f"{path}[{index}]"
    if not isinstance(image, bytes | np.ndarray):
      raise ValueError(
        f"{place} must be the bytes of a PNG file. "
        f"Received: {type(image).__name__}"
      )
    yield label, place, np.asarray(image).tobytes()


def _labels_beside(path: pathlib.Path) -> list[str]:
  """Reads the labels that belong to a file `..._images...`."""
  file = path.with_name(path.name.split("_images")[0] + "_labels.pkl")
  if not file.exists():
    raise FileNotFoundError(f"{path} needs its labels beside it, in {file}")
  content = pickles.load(file)
  for key in ("label_specific", "labels"):
    if isinstance(content, dict) and key in content:
      return _names(file, content[key])
  raise ValueError(
    f"{file} must hold a dict with 'label_specific' or 'labels'. "
    f"Received: {type(content).__name__}"
  )


def _names(path: pathlib.Path, labels: Any) -> list[str]:
  """Returns class numbers as names; names sort in the order of numbers."""
  return [f"{number:04d}" for number in _integers(path, "the labels", labels)]


def _integers(path: pathlib.Path, what: str, values: Any) -> list[int]:
  try:
    array = np.asarray(values)
    if array.ndim == 1 and (array.dtype.kind in "iu" or not array.size):
      return [int(value) for value in array]
    received = f"shape {array.shape}, {array.dtype}"
  except ValueError:
    received = "lists of different length"
  raise ValueError(
    f"{path} must hold a list of integers for {what}. Received: {received}"
  )


def _check_images(path: pathlib.Path, images: Any) -> None:
  array = images if isinstance(images, np.ndarray) else np.array(None)
  if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
    received = (
      f"shape {array.shape}, {array.dtype}"
      if array is images
      else type(images).__name__
    )
    raise ValueError(
      f"{path} must hold images [n, height, width, 3], uint8. "
      f"Received: {received}"
    )


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
