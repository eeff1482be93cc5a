"""The JSON files that benchmarks write."""

from collections.abc import Sequence
import json
import pathlib
import sys
from typing import Any


def command(name: str, *, hide: Sequence[str] = ()) -> str:
  """Returns the command line of this run, to be stored with its results.

  Args:
    name: Name of the benchmark.
    hide: Flags to leave out, such as `--data_dir`, whose values are paths that
      exist on one machine only.
  """
  given = [flag for flag in sys.argv[1:] if not flag.startswith(tuple(hide))]
  return " ".join([f"python -m benchmarks.{name}", *given])


def write(path: pathlib.Path, report: Any) -> None:
  """Writes `report` to `path` as JSON and creates the folder if needed."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
