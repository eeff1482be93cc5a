"""Measures updates of MAML on navigation, beside PyTorch task by task.

  python -m benchmarks.policy_speed   # needs idle cores

An update acts 20 episodes of 100 steps of 20 goals before and after one inner
step, and moves the initial weights within a trust region. Each contender runs
in its own process, and a round runs each once, so that other work on the
machine affects all alike. The command writes
`benchmarks/results/policy_speed.json`.
"""

import pathlib
import statistics
import sys
from typing import Any

from absl import app
from absl import flags

from benchmarks.contenders import processes
from benchmarks.shared import reports

_ROUNDS = flags.DEFINE_integer("rounds", 3, "Number of rounds.")
_PEERS_PYTHON = flags.DEFINE_string(
  "peers_python", sys.executable, "Python interpreter that has PyTorch."
)
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/policy_speed.json", "File to write."
)

# The name, the contender, and its options.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
  "tfmeta, Adam": ("tfmeta_policy", {"optimizer": "adam", "updates": 25}),
  "tfmeta, trust region": ("tfmeta_policy", {"updates": 12}),
  "tfmeta, trust region, 5 episodes": (
    "tfmeta_policy",
    {"updates": 25, "curvature_episodes": 5},
  ),
  "PyTorch, trust region": ("torch_policy", {"updates": 3}),
}


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
  """Returns medians over the updates after the first one, and ratios."""
  seconds = {
    row: statistics.median(s for run in runs for s in run["seconds"][1:])
    for row, runs in found.items()
  }
  first = {
    row: statistics.median(run["seconds"][0] for run in runs)
    for row, runs in found.items()
  }
  adam = seconds["tfmeta, Adam"]
  ratios = {
    f"trust region over the rest, {row}": (seconds[row] - adam) / adam
    for row in seconds
    if row.startswith("tfmeta, trust region")
  }
  if "PyTorch, trust region" in seconds:
    torch = seconds["PyTorch, trust region"]
    for row in seconds:
      ratios[f"PyTorch over {row}"] = torch / seconds[row]
  return {
    "seconds per update": seconds,
    "seconds of the first update": first,
    "ratios": ratios,
  }


def main(argv: list[str]) -> None:
  """Runs all rounds."""
  del argv
  runner = processes.Runner(
    ["tfmeta_policy", "torch_policy"], peers_python=_PEERS_PYTHON.value
  )
  found: dict[str, list[dict[str, Any]]] = {}
  for _ in range(_ROUNDS.value):
    for row, (contender, options) in ROWS.items():
      if contender in runner.contenders:
        found.setdefault(row, []).append(runner.run(contender, **options))
  report = {
    "command": reports.command("policy_speed", hide=["--peers_python"]),
    **summary(found),
    "runs": found,
  }
  reports.write(pathlib.Path(_OUTPUT.value), report)
  for name in ("seconds per update", "seconds of the first update", "ratios"):
    print(name)
    for row, value in report[name].items():
      print(f"  {row:<55} {value:8.3f}")


if __name__ == "__main__":
  app.run(main)
