"""Writes files that are whole or not there, whenever a process or disk dies."""

from collections.abc import Iterator
import contextlib
import os
import pathlib

# Names of files that are being written begin with this.
UNFINISHED = "unfinished_"


@contextlib.contextmanager
def replacing(
  path: str | os.PathLike[str], *, shared: bool = False
) -> Iterator[pathlib.Path]:
  """Yields a path to write to; that file then replaces the one at `path`.

  The content and the new name reach the disk before the context ends. If it
  ends with an error, the file at `path` stays as it was.

  Args:
    path: Where the file shall be. Its folder must exist.
    shared: Whether several processes may write this file at the same time, so
      that each needs a temporary file of its own. Defaults to `False`: what a
      killed process left is then written over.

  Raises:
    OSError: If the disk is full, for example.
  """
  path = pathlib.Path(path)
  owner = f"{os.getpid()}_" if shared else ""
  temporary = path.with_name(f"{UNFINISHED}{owner}{path.name}")
  try:
    yield temporary
    flush(temporary)
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise
  with contextlib.suppress(OSError):
    # Some systems cannot open a folder. They decide when to write the name.
    flush(path.parent)


def flush(path: str | os.PathLike[str]) -> None:
  """Makes the content of a file, or the names in a folder, reach the disk.

  Raises:
    OSError: If the disk is full, or if the system cannot open a folder.
  """
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
