"""Draws what the ablation of MAML++ found."""

import pathlib

from matplotlib import figure
import numpy as np


def draw(runs: dict, path: pathlib.Path) -> None:
  """Validation accuracy over time, and test accuracy with its interval.

  Args:
    runs: What `benchmarks.ablation` writes, by the name of the learner.
    path: Of the PNG.
  """
  picture = figure.Figure(figsize=(13, 5), layout="constrained")
  left, right = picture.subplots(1, 2, width_ratios=[3, 2])
  for number, (name, run) in enumerate(runs.items()):
    minutes = np.cumsum(run["cpu_seconds"]) / 60
    style = "--" if name.startswith("MAML") else "-"
    color = f"C{number}"
    left.plot(
      minutes, run["history"]["val_accuracy"], style, label=name, color=color
    )
    if test := run["test"]:
      right.errorbar(
        test["accuracy"], number, xerr=test["interval"], fmt="o", color=color
      )
    else:
      right.text(
        0.02,
        number,
        "no numbers",
        color=color,
        transform=right.get_yaxis_transform(),
      )
  left.set_xlabel("CPU minutes of training")
  left.set_title("accuracy on validation tasks")
  left.grid(alpha=0.3)
  left.legend(fontsize="small", loc="lower right", bbox_to_anchor=(1, 0.05))
  labels = [f"{name}\n{run['updates']} updates" for name, run in runs.items()]
  right.set_yticks(range(len(runs)), labels)
  right.set_ylim(len(runs) - 0.5, -0.5)
  tested = [run["test"] for run in runs.values() if run["test"]]
  tasks = max((test["tasks"] for test in tested), default=0)
  right.set_title(f"{tasks} test tasks, 95 % interval")
  picture.suptitle("20-way 1-shot Omniglot, about equal CPU time, one seed")
  right.grid(alpha=0.3)
  picture.savefig(path, dpi=120)
