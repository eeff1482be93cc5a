"""Builders of TensorFlow Datasets (TFDS), which download and prepare data."""

from collections.abc import Iterable
import os
import socket
import threading
from typing import Any
from urllib import parse
from urllib import request

from tfmeta import arguments
from tfmeta import packages

# How long a host may take to answer.
_SECONDS = 8


def prepared_builder(
  name: str,
  data_dir: str | os.PathLike[str] | None,
  *,
  download: bool = True,
) -> Any:
  """Returns the TFDS builder of a data set, and prepares the data if needed.

  Args:
    name: Name and version of the data set, such as `"omniglot:3.*.*"`.
    data_dir: Folder of TFDS data sets. `None` leaves the choice to TFDS.
    download: Whether TFDS may download and prepare missing data.

  Raises:
    FileNotFoundError: If the data is missing and cannot be downloaded.
    ImportError: If TFDS is not installed.
  """
  builder = open_builder(name, data_dir)
  if builder.is_prepared():
    return builder
  if not download:
    raise FileNotFoundError(_missing(builder, "`download` is False"))
  try:
    _check_reachable(_hosts(builder))
    return prepare(builder, name, data_dir)
  except Exception as error:
    reason = f"TFDS failed to download it ({type(error).__name__}: {error})"
    raise FileNotFoundError(_missing(builder, reason)) from error


def open_builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
  """Returns the TFDS builder of a data set, prepared or not.

  Args:
    name: Name of the data set, with or without its version.
    data_dir: Folder of TFDS data sets. `None` leaves the choice to TFDS.

  Raises:
    ImportError: If TFDS is not installed.
  """
  return packages.datasets().builder(name, data_dir=expand_folder(data_dir))


def prepare(
  builder: Any,
  name: str,
  data_dir: str | os.PathLike[str] | None,
  **options: Any,
) -> Any:
  """Prepares a data set, unless another process does so at the same time.

  Args:
    builder: The builder that `open_builder(name, data_dir)` returned.
    name: Name of the data set, with or without its version.
    data_dir: Folder of TFDS data sets. `None` leaves the choice to TFDS.
    **options: Arguments of the builder's `download_and_prepare`.

  Returns:
    A builder of the prepared data set.
  """
  try:
    builder.download_and_prepare(**options)
    return builder
  except OSError:
    # When several workers start at once, one moves the prepared data into place
    # and the others fail. A new builder finds the data.
    other = open_builder(name, data_dir)
    if not other.is_prepared():
      raise
    return other


def expand_folder(data_dir: str | os.PathLike[str] | None) -> str | None:
  """Returns `data_dir` as a string, with `~` replaced by the home folder."""
  if data_dir is None:
    return None
  return os.fspath(arguments.path("data_dir", data_dir))


def _hosts(builder: Any) -> set[str]:
  """Returns the hosts from which TFDS downloads a data set."""
  urls = getattr(builder, "url_infos", {})
  hosts = {parse.urlsplit(url).hostname for url in urls}
  return {host for host in hosts if host}


def _check_reachable(hosts: Iterable[str]) -> None:
  """Raises an error at once if a host cannot be reached.

  TFDS would try again and again, for minutes. Behind a proxy, only TFDS can
  tell.
  """
  if request.getproxies():
    return
  for host in hosts:
    # Looking up a name has no time limit of its own, so a thread does it.
    found: list[str] = []
    thread = threading.Thread(target=_reach, args=(host, found), daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if found != [""]:
      reason = found[0] if found else f"no answer within {_SECONDS} seconds"
      raise ConnectionError(f"{host} cannot be reached: {reason}")


def _reach(host: str, found: list[str]) -> None:
  """Appends why a host cannot be reached, or an empty text if it can."""
  try:
    socket.create_connection((host, 443), timeout=_SECONDS).close()
    found.append("")
  except OSError as error:
    found.append(str(error))


def _missing(builder: Any, reason: str) -> str:
  return (
    f"The data set {builder.name} is not in {os.fspath(builder.data_path)}, "
    f"and {reason}. Run `tfds build {builder.name}` on a machine with a "
    "network, and pass the folder that it wrote to as `data_dir` or in the "
    "environment variable TFDS_DATA_DIR."
  )
