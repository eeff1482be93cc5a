"""Compares learners of policies on the navigation toward hidden goals.

  python -m benchmarks.navigation               # 3 seeds of 8 learners
  python -m benchmarks.navigation --rows=maml   # the rows with these letters

Each learner trains with a trust region for 100 updates of 20 goals, with 20
episodes of 100 steps before and after one inner step. ProMP takes five clipped
steps of Adam per update instead. All learners of a seed see the same goals, and
are tested on the same 100 unseen goals.

The command writes `benchmarks/results/navigation.json` and `.png` after every
run, and skips the runs that the file already has.
"""

import json
import pathlib
import sys
import time
from typing import Any

from absl import app
from absl import flags
import keras
from matplotlib import figure
import numpy as np

from benchmarks.shared import reports
import tfmeta

_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds of each learner.")
_ROWS = flags.DEFINE_string("rows", "", "Runs only rows with these letters.")
_OUTPUT = flags.DEFINE_string(
  "output",
  "benchmarks/results/navigation",
  "File to write, without the endings .json and .png.",
)
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Epochs of 10 updates.")

GOALS, TEST_GOALS, STEPS = 20, 100, 3

# The learner, its arguments, and whether a trust region bounds its steps.
ROWS: dict[str, tuple[str, dict[str, Any], bool]] = {
  "maml, lvc": ("MAML", {"credit": "lvc"}, True),
  "maml, log-likelihood": ("MAML", {"credit": "log_likelihood"}, True),
  "maml, dice": ("MAML", {"credit": "dice"}, True),
  "first-order maml": ("FOMAML", {}, True),
  "joint policy": ("MAML", {"inner_steps": 0}, True),
  "meta-sgd": ("MetaSGD", {}, True),
  "promp": ("ProMP", {}, False),
  "bmaml, 5 particles": (
    "BMAML",
    {"num_particles": 5, "episodes": 10},
    True,
  ),
}


def train(row: str, seed: int) -> dict[str, Any]:
  """Trains and tests one learner, and returns its numbers."""
  name, arguments, bounded = ROWS[row]
  keras.utils.set_random_seed(seed)
  env = tfmeta.environments.Navigation(horizon=100)
  learner = getattr(tfmeta.rl, name)(
    tfmeta.models.gaussian_policy(env.observation_shape, actions=2),
    env,
    later_step_factor=0.5,
    seed=seed,
    **{"episodes": 20, "inner_learning_rate": 0.1, **arguments},
  )
  trust_region = tfmeta.rl.TrustRegion(0.01, curvature_episodes=5)
  learner.compile(trust_region if bounded else keras.optimizers.Adam(1e-3))
  start = time.perf_counter()
  history = learner.fit(
    env.tasks("train", seed=seed).batch(GOALS, drop_remainder=True),
    steps_per_epoch=10,
    epochs=_EPOCHS.value,
    shuffle=False,
    verbose=0,
  ).history
  seconds = time.perf_counter() - start
  tasks = env.tasks("test", seed=0).take(TEST_GOALS).batch(50)
  tested = tfmeta.rl.evaluate(learner, tasks, steps=STEPS)
  return {
    "row": row,
    "seed": seed,
    **tested.to_dict(),
    "training_returns": history["return"],
    "seconds": round(seconds, 1),
  }


def plot(runs: list[dict[str, Any]], path: pathlib.Path) -> None:
  """Plots the returns of each learner by inner step, a line for each seed."""
  axes = (drawn := figure.Figure((7, 4.2), layout="constrained")).subplots()
  rows = [row for row in ROWS if any(run["row"] == row for run in runs)]
  for number, row in enumerate(rows):
    color = f"C{number}"
    lines = [run["returns"] for run in runs if run["row"] == row]
    for line in lines:
      axes.plot(line, color=color, alpha=0.25)
    axes.plot(np.mean(lines, axis=0), color=color, marker="o", label=row)
  axes.set_xticks(range(STEPS + 1))
  axes.set_xlabel("inner steps")
  axes.set_ylabel("mean return of unseen goals")
  axes.grid(alpha=0.3)
  axes.legend(loc="lower right", fontsize=8)
  drawn.savefig(path, dpi=120)


def summary(runs: list[dict[str, Any]]) -> str:
  """Returns a table: the mean over seeds, and the range of the seeds."""
  lines = []
  for row in ROWS:
    found = np.array([run["returns"] for run in runs if run["row"] == row])
    if len(found):
      cells = [
        f"{column.mean():8.2f} [{column.min():.1f}, {column.max():.1f}]"
        for column in found.T
      ]
      lines.append(f"{row:<21} " + "  ".join(f"{c:<24}" for c in cells))
  return "\n".join(lines)


def main(argv: list[str]) -> None:
  """Runs what is missing in the file of results."""
  del argv
  json_path = pathlib.Path(f"{_OUTPUT.value}.json")
  runs = json.loads(json_path.read_text())["runs"] if json_path.exists() else []
  done = {(run["row"], run["seed"]) for run in runs}
  for seed in range(_SEEDS.value):
    for row in (row for row in ROWS if _ROWS.value in row):
      if (row, seed) in done:
        continue
      runs.append(train(row, seed))
      keras.backend.clear_session()
      command = reports.command("navigation")
      reports.write(json_path, {"command": command, "runs": runs})
      plot(runs, json_path.with_suffix(".png"))
      print(summary(runs), file=sys.stderr, flush=True)


if __name__ == "__main__":
  app.run(main)
