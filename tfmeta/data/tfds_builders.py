"""Data sets that TFDS has prepared, in a folder of its own."""

import os
from typing import Any


def builder_of(
  name: str,
  data_dir: str | os.PathLike[str] | None,
  *,
  download: bool = True,
) -> Any:
  """Returns the TFDS builder of a data set that lies prepared.

  Args:
    name: With its version, such as `"omniglot:3.*.*"`.
    data_dir: Folder of TFDS data sets; `None` is TFDS's own choice.
    download: Whether TFDS may download and prepare what is not there.

  Raises:
    FileNotFoundError: If the data are not there and cannot be had.
  """
  builder = opened(name, data_dir)
  if builder.is_prepared():
    return builder
  if not download:
    raise FileNotFoundError(_missing(builder, "`download` is False"))
  try:
    return prepare(builder, name, data_dir)
  except Exception as error:
    reason = f"TFDS failed to download it ({type(error).__name__}: {error})"
    raise FileNotFoundError(_missing(builder, reason)) from error


def opened(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
  """Returns the TFDS builder of a data set, which may not be prepared."""
  # Slow to import, and of no use to those who bring their own data.
  import tensorflow_datasets as tfds

  return tfds.builder(name, data_dir=folder_of(data_dir))


def prepare(
  builder: Any,
  name: str,
  data_dir: str | os.PathLike[str] | None,
  **options: Any,
) -> Any:
  """Prepares a data set; returns its builder, or that of who was first.

  Args:
    builder: What `opened` gave for `name` and `data_dir`.
    name: As in `builder_of`.
    data_dir: As there.
    **options: Those of `download_and_prepare`.
  """
  try:
    builder.download_and_prepare(**options)
    return builder
  except OSError:
    # Another process, as of several workers, may have been first.
    other = opened(name, data_dir)
    if not other.is_prepared():
      raise
    return other


def folder_of(data_dir: str | os.PathLike[str] | None) -> str | None:
  """`data_dir` as TFDS takes it."""
  return None if data_dir is None else os.path.expanduser(os.fspath(data_dir))


def _missing(builder: Any, reason: str) -> str:
  return (
    f"The data set {builder.name} is not in {os.fspath(builder.data_path)}, "
    f"and {reason}; run `tfds build {builder.name}` where there is a network, "
    "and give the folder it wrote to as `data_dir` or in the environment "
    "variable TFDS_DATA_DIR."
  )
