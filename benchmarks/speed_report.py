"""Medians and ratios of the speed benchmark, as numbers and as text."""

import statistics

OURS = "tfmeta_fit"
LARGEST_DISAGREEMENT = 1e-4


def summarize(report: dict) -> dict:
  """Medians over rounds, ratios to tfmeta, memory growth and disagreements."""
  summary = {"cases": {}, "disagreements": _disagreements(report["losses"])}
  for case, contenders in report["runs"].items():
    medians = {name: _median_run(runs) for name, runs in contenders.items()}
    ours = medians[OURS]["tasks_per_second"]
    for figures in medians.values():
      figures["tfmeta_is_faster_by"] = ours / figures["tasks_per_second"]
    summary["cases"][case] = medians
  first, last = report["memory_mib"].values()
  summary["memory_growth"] = last / first - 1
  if "conv4" in summary["cases"]:
    eats = summary["cases"]["conv4"][OURS]["tasks_per_second"]
    summary["data_over_learner"] = {
      name: speed / eats
      for name, speed in report["data_tasks_per_second"].items()
    }
  return summary


def as_text(report: dict) -> str:
  """A table of `summarize`."""
  summary = report["summary"]
  lines = [
    f"{'case':18} {'contender':11} {'tasks/s':>9} {'tfmeta is':>10} "
    f"{'first call':>11} {'peak memory':>12}"
  ]
  for case, medians in summary["cases"].items():
    for name, figures in medians.items():
      lines.append(
        f"{case:18} {name:11} {figures['tasks_per_second']:9.2f} "
        f"{figures['tfmeta_is_faster_by']:9.2f}x "
        f"{figures['first_call_seconds']:9.1f} s "
        f"{figures['peak_mib']:8.0f} MiB"
      )
  sizes = ", ".join(
    f"{tasks} tasks {mib:.0f} MiB"
    for tasks, mib in report["memory_mib"].items()
  )
  lines.append(f"tfmeta's memory: {sizes} ({summary['memory_growth']:+.1%})")
  for name, ratio in summary.get("data_over_learner", {}).items():
    speed = report["data_tasks_per_second"][name]
    lines.append(
      f"{name}: {speed:.0f} tasks/s, {ratio:.0f} times what conv4 consumes"
    )
  lines += summary["disagreements"] or [
    "all contenders compute the same losses"
  ]
  return "\n".join(lines)


def _median_run(runs: list[dict]) -> dict[str, float]:
  keys = ("tasks_per_second", "first_call_seconds", "peak_mib")
  return {key: statistics.median(run[key] for run in runs) for key in keys}


def _disagreements(losses: dict) -> list[str]:
  found = []
  for case, contenders in losses.items():
    for name, values in contenders.items():
      pairs = zip(contenders[OURS], values, strict=True)
      worst = max(abs(a - b) / abs(a) for a, b in pairs)
      if not worst <= LARGEST_DISAGREEMENT:
        found.append(
          f"{case}: losses of {name} and {OURS} differ by {worst:.1e}"
        )
  return found
