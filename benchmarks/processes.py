"""Runs contenders as processes of their own."""

from collections.abc import Sequence
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Runner:
  """Starts contenders and reads the JSON line that they end with.

  Args:
    contenders: Names of modules of `benchmarks.contenders`. Those that begin
      with "torch" are left out where torch is missing.
    torch_python: Interpreter for those.
  """

  def __init__(self, contenders: Sequence[str], *, torch_python: str):
    self._torch_python = torch_python
    self._has_torch = self._version("torch") is not None
    if not self._has_torch:
      print("No torch: pip install -e .[benchmarks], or give --torch_python.")
    self.contenders = [
      name for name in contenders if self._has_torch or not _is_torch(name)
    ]

  def run(self, contender: str, **options: object) -> dict:
    """What the contender found.

    Raises:
      RuntimeError: If it failed; with the end of what it said.
    """
    arguments = [
      f"--{name}" if value is True else f"--{name}={value}"
      for name, value in options.items()
    ]
    module = f"benchmarks.contenders.{contender}"
    command = [self._python(contender), "-m", module, *arguments]
    done = _run(command)
    if done.returncode:
      raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])

  def versions(self) -> dict[str, str | None]:
    """Versions of what is compared."""
    return {
      name: self._version(name) for name in ("tensorflow", "keras", "torch")
    }

  def _python(self, name: str) -> str:
    return self._torch_python if _is_torch(name) else sys.executable

  def _version(self, package: str) -> str | None:
    code = f"import {package}; print({package}.__version__)"
    done = _run([self._python(package), "-c", code])
    return None if done.returncode else done.stdout.strip()


def _is_torch(name: str) -> bool:
  return name.startswith("torch")


def _run(command: list[str]) -> subprocess.CompletedProcess:
  environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  return subprocess.run(
    command, cwd=ROOT, env=environment, capture_output=True, text=True
  )
