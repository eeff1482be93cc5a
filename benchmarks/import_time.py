"""Measures how long `import tfmeta` takes, compared with `import keras`.

  python -m benchmarks.import_time

Both run in turn, each time in a new process. The first turn fills the caches of
the operating system and does not count. The program prints the median of the
elapsed time and of the processor time, which other work on the machine disturbs
less, and writes `benchmarks/results/import_time.json`.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

from absl import app
from absl import flags

_REPEATS = flags.DEFINE_integer("repeats", 7, "Imports of each package.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/import_time.json", "File to write."
)

PACKAGES = ("keras", "tfmeta")
MOST = 1.2  # Times the import of Keras.

_PROGRAM = """
import time
elapsed, processor = time.perf_counter(), time.process_time()
import {package}
print(time.perf_counter() - elapsed, time.process_time() - processor)
"""


def seconds_to_import(package: str) -> list[float]:
  """Returns the elapsed and the processor time of one import, in seconds."""
  done = subprocess.run(
    [sys.executable, "-c", _PROGRAM.format(package=package)],
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    capture_output=True,
    text=True,
    check=True,
  )
  return [float(word) for word in done.stdout.split()]


def measure(repeats: int) -> dict[str, dict[str, float]]:
  """Returns the median times of each package, in seconds."""
  times = {package: [] for package in PACKAGES}
  for turn in range(repeats + 1):
    for package, found in times.items():
      seconds = seconds_to_import(package)
      if turn:
        found.append(seconds)
  return {
    package: {
      "elapsed": statistics.median(elapsed for elapsed, _ in found),
      "processor": statistics.median(processor for _, processor in found),
    }
    for package, found in times.items()
  }


def main(_) -> None:
  """Prints and writes the times and their ratios."""
  seconds = measure(_REPEATS.value)
  ratios = {
    kind: seconds["tfmeta"][kind] / seconds["keras"][kind]
    for kind in ("elapsed", "processor")
  }
  for package, found in seconds.items():
    print(
      f"import {package:6}  {found['elapsed']:.2f} s elapsed, "
      f"{found['processor']:.2f} s of the processor"
    )
  print(
    f"tfmeta / keras: {ratios['elapsed']:.2f} elapsed, "
    f"{ratios['processor']:.2f} of the processor (target: at most {MOST})"
  )
  report = {
    "command": " ".join(["python -m benchmarks.import_time", *sys.argv[1:]]),
    "seconds": seconds,
    "ratios": ratios,
    "target": MOST,
  }
  text = json.dumps(report, indent=1) + "\n"
  pathlib.Path(_OUTPUT.value).write_text(text, encoding="utf-8")


if __name__ == "__main__":
  app.run(main)
