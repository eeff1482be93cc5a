"""Paths that users give on the command line."""

import os
import re

_SCHEME = re.compile(r"[A-Za-z][\w+.-]*://")


def local(name: str, path: str) -> str:
  """Returns a path on this machine, with `~` expanded.

  Args:
    name: Name of the flag, for the message.
    path: What the user gave.

  Raises:
    ValueError: If the path is an address, such as that of a bucket, or begins
      with the home of an unknown user.
  """
  if _SCHEME.match(path):
    raise ValueError(
      f"`{name}` must be a path on this machine: mount or copy what is stored "
      f"elsewhere. Received: {name}={path!r}"
    )
  expanded = os.path.expanduser(path)
  if expanded.startswith("~"):
    raise ValueError(
      f"`{name}` must not begin with the home of a user who does not exist "
      f"here. Received: {name}={path!r}"
    )
  return expanded
