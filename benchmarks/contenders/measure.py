"""The command line of a contender: times its updates and prints JSON."""

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
# Contenders may run this many updates in one call of a graph if updates are
# short.
SHORT_UPDATES = 100

# Fields of a case that the command line can override.
OVERRIDES = (
  "tasks",
  "inner_steps",
  "shots",
  "filters",
  "replicas",
  "configured",
)

Tick = Callable[[], object]
Update = Callable[[int, Tick], float]


def run(make_update: Callable[[workload.Case], Update]) -> None:
  """Runs the command line of a contender.

  The measurements are printed as one line of JSON.

  Args:
    make_update: Function that maps a case to its training function. The
      training function takes a number of updates and a callback, makes the
      updates, and returns their mean query loss or that of the last one. It
      calls the callback after every update, or after every `SHORT_UPDATES`
      updates if it makes so many in one call of a graph.
  """
  parser = argparse.ArgumentParser()
  parser.add_argument("--case", choices=sorted(workload.CASES), required=True)
  parser.add_argument("--seconds", type=float, default=8.0)
  for name in OVERRIDES:
    parser.add_argument(
      f"--{name}", type=int, help=f"overrides `{name}` of the case"
    )
  parser.add_argument("--learner", default="MAML", help="class of tfmeta")
  parser.add_argument(
    "--check",
    action="store_true",
    help="print the losses of a few float64 updates instead of timing",
  )
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
  """Returns the query losses of the first updates.

  Contenders that compute the same meta-gradients have the same losses.
  """
  return {"losses": [update(1, _no_tick) for _ in range(CHECKED_UPDATES)]}


def measure(update: Update, tasks: int, seconds: float) -> dict[str, float]:
  """Returns the first call's duration, the speed and the peak memory.

  The speed is that of the median update. So neither the start of a call, such
  as that of `fit`, nor a moment in which the machine did something else affects
  it. If `update` has a list `traced`, its first entry is reported as the time
  that tracing took.

  Args:
    update: Training function, as described in `run`.
    tasks: Tasks per update.
    seconds: About how long to train.
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
  """Returns how many updates take about `seconds`.

  There are at least two, because speed is measured between two ticks.
  """
  count = int(seconds / _time(update, 1))
  if count < SHORT_UPDATES:
    return max(2, count)
  update(SHORT_UPDATES, _no_tick)  # This call may compile another graph.
  calls = int(seconds / _time(update, SHORT_UPDATES))
  return max(2, calls) * SHORT_UPDATES


def _time(update: Update, count: int) -> float:
  begin = time.perf_counter()
  update(count, _no_tick)
  return time.perf_counter() - begin


def _no_tick() -> None:
  """Ignores a tick."""
