"""Means, paired differences and the table of `benchmarks.few_points`."""

from typing import Any

import numpy as np

import tfmeta


def compared(ours: list[float], theirs: list[float]) -> list[float]:
  """Mean of the paired difference over tasks, and its interval."""
  differences = np.subtract(ours, theirs)
  return [float(n) for n in tfmeta.metrics.mean_and_interval(differences)]


def summary(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Means over tasks, and differences of PLATIPUS from each of the others."""
  found = {}
  for name, of_shots in runs.items():
    found[name] = {"families": of_shots["families"]}
    for shots in _shots(of_shots):
      figures = dict(of_shots[shots])
      for kind in ("mse", "nll"):
        other = figures[kind]
        figures[kind] = float(np.mean(other))
        figures[f"median_{kind}"] = float(np.median(other))
        if name != "PLATIPUS":
          ours = runs["PLATIPUS"][shots][kind]
          figures[f"{kind}_of_platipus_less_this"] = compared(ours, other)
          better = float(np.mean(np.less(ours, other)))
          figures[f"share_of_tasks_where_platipus_has_less_{kind}"] = better
      found[name][shots] = figures
  return found


def table(found: dict[str, Any]) -> str:
  """A line for each learner and number of points."""
  lines = [f"{'':26} points    mse     nll (medians)   near    far  everywhere"]
  for name, of_shots in found.items():
    for shots in _shots(of_shots):
      row = of_shots[shots]
      far = "    -" if row["far"] is None else f"{row['far']:.3f}"
      lines.append(
        f"{name:26} {shots:>6} {row['mse']:6.3g} {row['nll']:7.3g} "
        f"({row['median_mse']:.3f} {row['median_nll']:6.3f})  "
        f"{row['near']:.3f}  {far}  {row['everywhere']:.3f}"
      )
    lines.append(f"{name:26} for two that fit both: {of_shots['families']}")
  return "\n".join(lines)


def _shots(of_shots: dict[str, Any]) -> list[str]:
  return [key for key in of_shots if key.isdigit()]
