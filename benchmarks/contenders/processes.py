"""Runs contenders as processes of their own."""

from collections.abc import Sequence
import json
import os
import pathlib
import subprocess
import sys

# Libraries that other contenders need, and tfmeta does not.
PEERS = ("torch", "jax")

# TensorFlow leaves oneDNN's kernels out on some processors, where they are the
# faster ones for convolutions (and the slower ones for products of small
# matrices). PyTorch has them everywhere.
WITHOUT_ONEDNN = ("sinusoid",)

# tfmeta's tasks have a core each, as in the trainers. An eager loop has one
# task at a time, and the others share out cores themselves.
A_CORE_EACH = {
  "TF_NUM_INTRAOP_THREADS": "1",
  "TF_NUM_INTEROP_THREADS": str(os.cpu_count() or 1),
}

ROOT = pathlib.Path(__file__).resolve().parents[2]


class TooSlow(Exception):
  """A contender was not through in time."""


class Runner:
  """Starts contenders and reads the JSON line that they end with.

  Args:
    contenders: Names of modules of `benchmarks.contenders`. Those that begin
      with the name of a library of `PEERS` are left out where it is missing.
    peers_python: Interpreter for those.
  """

  def __init__(self, contenders: Sequence[str], *, peers_python: str):
    self._peers_python = peers_python
    self._found = {name: self._version(name) for name in PEERS}
    for name, version in self._found.items():
      if version is None:
        print(
          f"No {name}: pip install -e .[benchmarks], or give --peers_python."
        )
    self.contenders = [name for name in contenders if self._can_run(name)]

  def run(
    self, contender: str, *, limit: float | None = None, **options: object
  ) -> dict:
    """What the contender found; it is given up after `limit` seconds.

    Raises:
      RuntimeError: If it failed; with the end of what it said.
      TooSlow: If it was not through in time.
    """
    arguments = [
      f"--{name}" if value is True else f"--{name}={value}"
      for name, value in options.items()
    ]
    module = f"benchmarks.contenders.{contender}"
    command = [self._python(contender), "-m", module, *arguments]
    environment = _kernels_for(options.get("case"))
    if contender == "tfmeta_fit":
      environment |= A_CORE_EACH
    try:
      done = _run(command, limit, environment)
    except subprocess.TimeoutExpired as error:
      given_up = f"{contender} not through in {limit} s: {options}"
      raise TooSlow(given_up) from error
    if done.returncode:
      raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])

  def versions(self) -> dict[str, str | None]:
    """Versions of what is compared."""
    own = {name: self._version(name) for name in ("tensorflow", "keras")}
    return {**own, **self._found}

  def _can_run(self, contender: str) -> bool:
    peer = _peer_of(contender)
    return peer is None or self._found[peer] is not None

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
) -> subprocess.CompletedProcess:
  quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
  return subprocess.run(
    command,
    cwd=ROOT,
    env={**os.environ, **quiet, **(environment or {})},
    capture_output=True,
    text=True,
    timeout=limit,
  )
