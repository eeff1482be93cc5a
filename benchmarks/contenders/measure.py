"""Times a contender's updates and prints what it found as one JSON line."""

import argparse
from collections.abc import Callable
import dataclasses
import json
import resource
import time

from benchmarks.contenders import workload

CHECKED_TASKS = 2
CHECKED_UPDATES = 3

Update = Callable[[int], float]


def run(make_update: Callable[[workload.Case], Update]) -> None:
  """Runs the command line of a contender.

  Args:
    make_update: Maps a case to its training: a function that makes so many
      updates in one call and returns the mean query loss (of the last of them,
      or of all of them).
  """
  parser = argparse.ArgumentParser()
  parser.add_argument("--case", choices=sorted(workload.CASES), required=True)
  parser.add_argument("--seconds", type=float, default=8.0)
  parser.add_argument("--tasks", type=int, help="instead of the case's")
  parser.add_argument("--check", action="store_true", help="losses, no timing")
  args = parser.parse_args()
  case = workload.CASES[args.case]
  if args.tasks:
    case = dataclasses.replace(case, tasks=args.tasks)
  if args.check:
    case = dataclasses.replace(
      case, tasks=CHECKED_TASKS, adam=False, dtype="float64"
    )
    found = check(make_update(case))
  else:
    found = measure(make_update(case), case.tasks, args.seconds)
  print(json.dumps(found))


def check(update: Update) -> dict[str, list[float]]:
  """Query losses of the first updates, to be compared with the others'."""
  return {"losses": [update(1) for _ in range(CHECKED_UPDATES)]}


def measure(update: Update, tasks: int, seconds: float) -> dict[str, float]:
  """First call, speed and peak memory of training on `tasks` per update."""
  begin = time.perf_counter()
  update(1)
  first_call = time.perf_counter() - begin
  count = _updates_per_call(update, seconds)
  done, begin = 0, time.perf_counter()
  while not done or time.perf_counter() - begin < seconds:
    update(count)
    done += count
  elapsed = time.perf_counter() - begin
  return {
    "tasks_per_second": tasks * done / elapsed,
    "updates": done,
    "first_call_seconds": first_call,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  }


def _updates_per_call(update: Update, seconds: float) -> int:
  """As many as take a quarter of the time, so that calls cost nothing."""
  begin = time.perf_counter()
  update(1)
  count = max(1, int(seconds / 4 / (time.perf_counter() - begin)))
  if count > 1:
    update(count)  # It may have to be compiled anew.
  return count
