"""Medians and ratios of the speed benchmark, as numbers and as text."""

import statistics

from benchmarks import speed_parts

OURS = speed_parts.OURS
LARGEST_DISAGREEMENT = 1e-4

_FIGURES = (
  "tasks_per_second",
  "cpu_seconds_per_task",
  "first_call_seconds",
  "peak_mib",
)


def summarize(parts: dict) -> dict:
  """Medians over rounds, ratios to tfmeta, shares of the floor, and others."""
  summary: dict = {"disagreements": []}
  if compared := _by_case(parts):
    losses = {case: found["losses"] for case, found in compared.items()}
    summary["disagreements"] = _disagreements(losses)
    summary["cases"] = {
      case: _compared(found["runs"]) for case, found in compared.items()
    }
  if "floor" in parts:
    summary["share_of_floor"] = {
      case: statistics.median(map(_share, rounds))
      for case, rounds in parts["floor"]["runs"].items()
    }
  if "memory" in parts:
    first, last = parts["memory"]["peak_mib"].values()
    summary["memory_growth"] = last / first - 1
  if "data" in parts and "conv4" in summary.get("cases", {}):
    eats = summary["cases"]["conv4"][OURS]["tasks_per_second"]
    delivered = parts["data"]["tasks_per_second"]
    summary["data_over_learner"] = {k: v / eats for k, v in delivered.items()}
  return summary


def as_text(report: dict) -> str:
  """Tables of `summarize` and of the learners."""
  parts, summary = report["parts"], report["summary"]
  lines = [
    f"{'case':18} {'contender':12} {'tasks/s':>9} {'tfmeta is':>10} "
    f"{'CPU ms/task':>12} {'first call':>11} {'peak memory':>12}"
  ]
  for case, medians in summary.get("cases", {}).items():
    for name, found in medians.items():
      lines.append(_line(case, name, found, found["tfmeta_is_faster_by"]))
  for found in _by_case(parts).values():
    lines += found["given_up"]
  for case, runs in parts.get("learners", {}).get("runs", {}).items():
    lines += [_line(case, name, found) for name, found in runs.items()]
  for field, runs in parts.get("growth", {}).get("runs", {}).items():
    lines += [_line(field, value, found) for value, found in runs.items()]
  for case, share in summary.get("share_of_floor", {}).items():
    lines.append(f"{case}: {share:.0%} of the CPU time is the floor's")
  if "memory_growth" in summary:
    lines.append(f"memory, 8 to 64 tasks: {summary['memory_growth']:+.1%}")
  for name, ratio in summary.get("data_over_learner", {}).items():
    lines.append(f"{name}: {ratio:.0f} times what conv4 consumes")
  return "\n".join([*lines, *summary["disagreements"]])


def _by_case(parts):
  """What was found of contenders."""
  return {
    name.removeprefix("contenders/"): found
    for name, found in parts.items()
    if name.startswith("contenders/")
  }


def _line(case, name, found, ratio=None):
  faster = "" if ratio is None else f"{ratio:9.2f}x"
  traced = found.get("trace_seconds")
  of_which = "" if traced is None else f", tracing {traced:4.1f} s"
  return (
    f"{case:18} {name:12} {found['tasks_per_second']:9.2f} {faster:>10} "
    f"{1000 * found['cpu_seconds_per_task']:12.2f} "
    f"{found['first_call_seconds']:9.1f} s {found['peak_mib']:8.0f} MiB"
    f"{of_which}"
  )


def _compared(contenders):
  medians = {
    name: {key: statistics.median(run[key] for run in runs) for key in _FIGURES}
    for name, runs in contenders.items()
  }
  ours = medians[OURS]["tasks_per_second"]
  for figures in medians.values():
    figures["tfmeta_is_faster_by"] = ours / figures["tasks_per_second"]
  return medians


def _share(found):
  key = "cpu_seconds_per_task"
  return found["alone"][key] / found["whole"][key]


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
