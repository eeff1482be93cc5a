"""Times a contender's updates and prints what it found as one JSON line."""

import argparse
from collections.abc import Callable
import dataclasses
import itertools
import json
import resource
import statistics
import time

from benchmarks.shared import workload

CHECKED_TASKS = 2
CHECKED_UPDATES = 3
# Where more updates than this are made, as many may run in one call of a graph.
SHORT_UPDATES = 100

# Fields of a case that the command line may change.
OVERRIDES = ("tasks", "inner_steps", "shots", "filters", "replicas")

Tick = Callable[[], object]
Update = Callable[[int, Tick], float]


def run(make_update: Callable[[workload.Case], Update]) -> None:
  """Runs the command line of a contender.

  Args:
    make_update: Maps a case to its training: a function that makes so many
      updates in one call and returns the mean query loss (of the last of them,
      or of all of them). Its second argument it calls after every update, or
      after every `SHORT_UPDATES` that are made in one call of a graph.
  """
  parser = argparse.ArgumentParser()
  parser.add_argument("--case", choices=sorted(workload.CASES), required=True)
  parser.add_argument("--seconds", type=float, default=8.0)
  for name in OVERRIDES:
    parser.add_argument(f"--{name}", type=int, help="instead of the case's")
  parser.add_argument("--learner", default="MAML", help="of tfmeta")
  parser.add_argument("--check", action="store_true", help="losses, no timing")
  args = parser.parse_args()
  given = {k: v for k in OVERRIDES if (v := getattr(args, k)) is not None}
  case = dataclasses.replace(
    workload.CASES[args.case], learner=args.learner, **given
  )
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
  return {"losses": [update(1, _ignored) for _ in range(CHECKED_UPDATES)]}


def measure(update: Update, tasks: int, seconds: float) -> dict[str, float]:
  """First call, speed and peak memory of training on `tasks` per update.

  The speed is that of the median update, so that neither what it takes to
  start a call, as of `fit`, nor a moment in which the machine did something
  else is in it. An update that is traced may tell in `traced` how long it took.
  """
  first_call = _time(update, 1)
  count = _updates_in(update, seconds)
  ticks = []
  cpu = time.process_time()
  update(count, lambda: ticks.append(time.perf_counter()))
  cpu = time.process_time() - cpu
  each = [(b - a) * len(ticks) / count for a, b in itertools.pairwise(ticks)]
  traced = getattr(update, "traced", None)
  return {
    **({"trace_seconds": traced[0]} if traced else {}),
    "tasks_per_second": tasks / statistics.median(each),
    "cpu_seconds_per_task": cpu / count / tasks,
    "updates": count,
    "first_call_seconds": first_call,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  }


def _updates_in(update: Update, seconds: float) -> int:
  """As many as take about so long; at least two, for the time between them."""
  count = int(seconds / _time(update, 1))
  if count < SHORT_UPDATES:
    return max(2, count)
  update(SHORT_UPDATES, _ignored)  # It may have to be compiled anew.
  calls = int(seconds / _time(update, SHORT_UPDATES))
  return max(2, calls) * SHORT_UPDATES


def _time(update: Update, count: int) -> float:
  begin = time.perf_counter()
  update(count, _ignored)
  return time.perf_counter() - begin


def _ignored() -> None:
  """A tick that nobody looks at."""
