"""The JSON files that benchmarks write."""

from collections.abc import Sequence
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

_CPU_INFO = pathlib.Path("/proc/cpuinfo")
# What decides which kernels of convolutions and products run.
_VECTORS = ("avx2", "avx512f", "amx_tile")


def command(name: str, *, hide: Sequence[str] = ()) -> str:
  """Returns the command line of this run, to be stored with its results.

  Args:
    name: Name of the benchmark.
    hide: Flags to leave out, such as `--data_dir`, whose values are paths that
      exist on one machine only.
  """
  given = [flag for flag in sys.argv[1:] if not flag.startswith(tuple(hide))]
  return " ".join([f"python -m benchmarks.{name}", *given])


def machine() -> dict[str, Any]:
  """Describes the processors, and the load of other programs before the run."""
  return {
    "cpus": os.cpu_count(),
    "processor": _processor(),
    "load": round(os.getloadavg()[0], 2),
  }


def _processor() -> str:
  # On Linux, platform.processor() is often empty.
  if not _CPU_INFO.exists():
    return platform.processor() or platform.machine()
  lines = (line.partition(":") for line in _CPU_INFO.read_text().splitlines())
  found = {name.strip(): value.strip() for name, _, value in lines}
  flags = found.get("flags", "").split()
  name = found.get("model name", platform.machine())
  return " ".join([name, *(each for each in _VECTORS if each in flags)])


def commit(root: pathlib.Path) -> str | None:
  """Returns the short name of a folder's commit, or `None` outside of Git.

  It ends in `-dirty` if files were changed.
  """
  done = subprocess.run(
    ["git", "-C", str(root), "describe", "--always", "--dirty"],
    capture_output=True,
    text=True,
    check=False,
  )
  return done.stdout.strip() or None


def write(path: pathlib.Path, report: Any) -> None:
  """Writes `report` to `path` as JSON and creates the folder if needed."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
