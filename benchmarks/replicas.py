"""Weights of every learner after 20 updates, on one replica and on several.

  python -m benchmarks.replicas

The same tasks and seed: on one device, on two and four logical CPUs
(MirroredStrategy), and in two processes (MultiWorkerMirroredStrategy), which
`trainers.launch` starts. Prints the largest difference of any weight to those
of one device, and writes `benchmarks/results/replicas.json`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from absl import app
from absl import flags

_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/replicas.json", "Written."
)

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKER = [sys.executable, "-m", "benchmarks.replicas_worker"]
LAUNCH = [sys.executable, "-m", "trainers.launch", "--workers=2", "--"]
RUNS = {
  "one device": [*WORKER, "--devices=1"],
  "2 logical CPUs": [*WORKER, "--devices=2"],
  "4 logical CPUs": [*WORKER, "--devices=4"],
  "2 processes": [*LAUNCH, *WORKER, "--devices=0"],
}


def weights_of(command: list[str], folder: pathlib.Path) -> dict:
  """What the command wrote: lists of weights, by learner."""
  path = folder / "weights.json"
  environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  subprocess.run(
    [*command, f"--output={path}"], cwd=ROOT, env=environment, check=True
  )
  return json.loads(path.read_text())


def main(_) -> None:
  """Runs all, and compares."""
  with tempfile.TemporaryDirectory() as folder:
    found = {
      name: weights_of(command, pathlib.Path(folder))
      for name, command in RUNS.items()
    }
  expected = found.pop("one device")
  report = {
    learner: {
      name: max(
        abs(a - b)
        for a, b in zip(weights[learner], expected[learner], strict=True)
      )
      for name, weights in found.items()
    }
    for learner in expected
  }
  for learner, differences in report.items():
    cells = [f"{name}: {value:.1e}" for name, value in differences.items()]
    print(f"{learner:14} " + "   ".join(cells))
  output = pathlib.Path(_OUTPUT.value)
  output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
  app.run(main)
