"""Runs each contender in its own process."""

from collections.abc import Sequence
import json
import os
import pathlib
import subprocess
import sys

# The contender that trains with tfmeta.
OURS = "tfmeta_fit"

# Libraries that only contenders need.
PEERS = ("torch", "jax")

# On some processors, TensorFlow does not use oneDNN's kernels by default, but
# PyTorch does. The kernels make convolutions faster and products of small
# matrices slower. They are therefore turned on for all cases but these.
WITHOUT_ONEDNN = ("sinusoid",)

ROOT = pathlib.Path(__file__).resolve().parents[2]


class TooSlow(Exception):
  """Error raised when a contender does not finish in time."""


class Runner:
  """A runner of contenders, which reads the line of JSON that each prints last.

  Args:
    contenders: Names of modules of `benchmarks.contenders`. A name that begins
      with a library in `PEERS` needs that library, and is left out if the
      library is not installed.
    peers_python: Python interpreter that can import these libraries.
    root: Checkout whose contenders and whose tfmeta run.

  Attributes:
    contenders: The names that can run.
  """

  def __init__(
    self,
    contenders: Sequence[str],
    *,
    peers_python: str = sys.executable,
    root: pathlib.Path = ROOT,
  ):
    self._peers_python = peers_python
    self._root = root
    self._peer_versions = {name: self._version(name) for name in PEERS}
    needed = {_peer_of(contender) for contender in contenders}
    for name, version in self._peer_versions.items():
      if version is None and name in needed:
        print(
          f"{name} is not installed and is left out. To include it, run "
          "`pip install -e .[benchmarks]` or set --peers_python."
        )
    self.contenders = [name for name in contenders if self._can_run(name)]

  def run(
    self, contender: str, *, limit: float | None = None, **options: object
  ) -> dict:
    """Returns the measurements of a contender.

    Args:
      contender: Name of a module of `benchmarks.contenders`.
      limit: Seconds after which the process is stopped; `None` for no limit.
      **options: Its command-line flags. `True` stands for a flag without value.

    Raises:
      RuntimeError: If the process failed. The message has the end of its
        standard error.
      TooSlow: If the process did not finish in time.
    """
    arguments = [
      f"--{name}" if value is True else f"--{name}={value}"
      for name, value in options.items()
    ]
    module = f"benchmarks.contenders.{contender}"
    command = [self._python(contender), "-m", module, *arguments]
    environment = _kernels_for(options.get("case"))
    try:
      done = _run(command, limit, environment, self._root)
    except subprocess.TimeoutExpired as error:
      message = f"{contender} did not finish in {limit} s: {options}"
      raise TooSlow(message) from error
    if done.returncode:
      raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])

  def versions(self) -> dict[str, str | None]:
    """Returns the versions of all libraries that are compared."""
    own = {name: self._version(name) for name in ("tensorflow", "keras")}
    return {**own, **self._peer_versions}

  def _can_run(self, contender: str) -> bool:
    peer = _peer_of(contender)
    return peer is None or self._peer_versions[peer] is not None

  def _python(self, name: str) -> str:
    return self._peers_python if _peer_of(name) else sys.executable

  def _version(self, package: str) -> str | None:
    code = f"import {package}; print({package}.__version__)"
    done = _run([self._python(package), "-c", code])
    return None if done.returncode else done.stdout.strip()


def _peer_of(name: str) -> str | None:
  return next((peer for peer in PEERS if name.startswith(peer)), None)


def _kernels_for(case: object) -> dict[str, str]:
  return {"TF_ENABLE_ONEDNN_OPTS": "0" if case in WITHOUT_ONEDNN else "1"}


def _run(
  command: list[str],
  limit: float | None = None,
  environment: dict[str, str] | None = None,
  root: pathlib.Path = ROOT,
) -> subprocess.CompletedProcess:
  # An editable installation must not decide whose tfmeta runs.
  ours = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(root)}
  return subprocess.run(
    command,
    cwd=root,
    env={**os.environ, **ours, **(environment or {})},
    capture_output=True,
    text=True,
    timeout=limit,
  )
