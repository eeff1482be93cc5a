"""Files that are there whole, with a SHA-256 beside them, or not at all."""

import contextlib
import hashlib
import os

MARK = ".sha256"  # Its content is what the command `sha256sum` writes.


def write(path, data) -> None:
  """Writes the bytes `data` to `path`; they count once the mark is there.

  Raises:
    OSError: If the disk is full, or the like; nothing partial is left.
  """
  _replace(path, data)
  digest = hashlib.sha256(data).hexdigest()
  _replace(path + MARK, f"{digest}  {os.path.basename(path)}\n".encode())


def read(path) -> bytes | None:
  """The bytes of `path`, or None if they are not those that were written."""
  try:
    with open(path, "rb") as file, open(path + MARK, "rb") as mark:
      data, expected = file.read(), mark.read().split()
  except OSError:
    return None
  digest = hashlib.sha256(data).hexdigest().encode()
  return data if expected and expected[0] == digest else None


def remove(path) -> None:
  """Removes `path`, its mark first, so that half of it never counts."""
  for name in (path + MARK, path):
    with contextlib.suppress(FileNotFoundError):
      os.remove(name)


def _replace(path, data):
  temporary = f"{path}.tmp"
  try:
    with open(temporary, "wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError:
    with contextlib.suppress(OSError):
      os.remove(temporary)
    raise
  _flush_folder(os.path.dirname(path) or ".")


def _flush_folder(folder):
  """Makes a rename outlive a power cut, where the system can."""
  with contextlib.suppress(OSError):
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
