"""A process that ends the workers of a launcher that was killed.

It reads the groups of the workers from a pipe. When the launcher ends, in
whatever way, the system closes the pipe, and the process kills the groups that
are still in its list.
"""

import contextlib
import os
import signal
import subprocess
import sys
from typing import IO
from typing import cast

# -S and -I: it must start fast and must not depend on the environment.
_PROGRAM = """\
import os, signal, sys
groups = set()
for line in sys.stdin:
  group = int(line)
  groups.add(group) if group > 0 else groups.discard(-group)
for group in groups:
  try:
    os.killpg(group, signal.SIGKILL)
  except (ProcessLookupError, PermissionError):
    pass
"""


class Guard:
  """A list of process groups that end with this process at the latest."""

  def __init__(self):
    self.process = subprocess.Popen(
      [sys.executable, "-S", "-I", "-c", _PROGRAM],
      stdin=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      # What ends the group of the launcher must not end the guard.
      start_new_session=True,
    )
    self._pipe = cast(IO[bytes], self.process.stdin).fileno()

  def add(self, group: int) -> None:
    """Puts a process group on the list."""
    self._tell(group)

  def end(self, group: int) -> None:
    """Kills a process group and takes it off the list."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(group, signal.SIGKILL)
    self._tell(-group)

  def close(self) -> None:
    """Ends the guard, which kills the groups that are on the list."""
    with contextlib.suppress(BrokenPipeError):
      self.process.communicate()

  def _tell(self, number: int) -> None:
    # If the guard was killed, the workers are ended without it.
    with contextlib.suppress(BrokenPipeError):
      os.write(self._pipe, f"{number}\n".encode())
