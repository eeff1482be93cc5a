"""Speed and memory of tfmeta, beside PyTorch, JAX and an eager loop.

  python -m benchmarks.speed                 # needs two quiet cores
  python -m benchmarks.speed --quick         # a look
  python -m benchmarks.speed --parts=floor   # one part of it

Each contender runs as a process of its own, all of them once per round, so
that what else the machine does hits them alike. Parts that are not asked for
keep the figures of the last run. benchmarks/README.md tells what is measured.
"""

import json
import os
import pathlib
import platform
import sys

from absl import app
from absl import flags

from benchmarks import speed_parts
from benchmarks import speed_picture
from benchmarks import speed_report
from benchmarks.contenders import processes

_QUICK = flags.DEFINE_bool("quick", False, "One round of short runs.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Runs of each contender.")
_SECONDS = flags.DEFINE_float("seconds", 12.0, "About how long a run trains.")
_LIMIT = flags.DEFINE_float(
  "limit", 240.0, "Seconds after which a contender is given up."
)
_PARTS = flags.DEFINE_list(
  "parts", list(speed_parts.PARTS), "Which of these to measure."
)
flags.register_validator(
  "parts",
  lambda parts: set(parts) <= set(speed_parts.PARTS),
  f"The parts are {', '.join(speed_parts.PARTS)}.",
)
_PEERS_PYTHON = flags.DEFINE_string(
  "peers_python", sys.executable, "Interpreter that can import torch and jax."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where TFDS has prepared Omniglot; None: glyphs alone."
)
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/speed.json", "Where the figures go."
)


def _options() -> list[str]:
  """The flags of this run, but for those that say where things are."""
  places = ("--peers_python", "--data_dir", "--output")
  return [flag for flag in sys.argv[1:] if not flag.startswith(places)]


def measure(report: dict) -> None:
  """Puts the figures of all parts that are asked for into the report."""
  runner = processes.Runner(
    speed_parts.CONTENDERS, peers_python=_PEERS_PYTHON.value
  )
  options = {
    "rounds": 1 if _QUICK.value else _ROUNDS.value,
    "seconds": 2.0 if _QUICK.value else _SECONDS.value,
    "limit": _LIMIT.value,
    "data_dir": _DATA_DIR.value,
  }
  for part in _PARTS.value:
    report["parts"][part] = {
      "command": " ".join(["python -m benchmarks.speed", *_options()]),
      "machine": {"cpus": os.cpu_count(), "processor": platform.processor()},
      "load_before": os.getloadavg()[0],
      "versions": runner.versions(),
      **speed_parts.PARTS[part](runner, **options),
    }


def main(_) -> None:
  """Runs the parts, prints a report, writes it as JSON and as a picture."""
  output = pathlib.Path(_OUTPUT.value)
  report = {"parts": {}}
  if output.exists():
    before = json.loads(output.read_text(encoding="utf-8"))
    report["parts"] = before.get("parts", {})  # Older reports had none.
  measure(report)
  report["summary"] = speed_report.summarize(report["parts"])
  print(speed_report.as_text(report))
  output.parent.mkdir(parents=True, exist_ok=True)
  output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
  speed_picture.draw(report, output.with_suffix(".png"))
  print(f"written to {output} and {output.with_suffix('.png')}")
  if report["summary"].get("disagreements"):
    sys.exit("the contenders do not compute the same: see 'losses'")


if __name__ == "__main__":
  app.run(main)
