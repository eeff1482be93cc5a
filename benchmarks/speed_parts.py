"""What the speed benchmark measures, part by part."""

import functools
from typing import Any

from benchmarks.contenders import processes

CONTENDERS = ("tfmeta_fit", "tf_eager", "torch_func", "torch_loop", "jax_vmap")
CONTENDER_CASES = ("sinusoid", "conv4", "conv4_first_order", "conv4_84")
OURS = "tfmeta_fit"
MEMORY_TASKS = (8, 64)

LEARNERS = (
  "MAML",
  "FOMAML",
  "ANIL",
  "MetaSGD",
  "MAMLPlusPlus",
  "Reptile",
  "PLATIPUS",
  "EMAML",
  "BMAML",
)
LEARNER_CASES = ("sinusoid", "conv4", "conv4_84")

# Values of a field of the case `conv4`, the others being as they are.
GROWTH = {
  "tasks": (8, 32, 128),
  "inner_steps": (1, 3, 5, 10),
  "shots": (1, 5, 20),
  "filters": (16, 32, 64),
  "replicas": (1, 2),
}

FLOOR_CASES = ("conv4", "conv4_first_order", "conv4_84")


def contenders(
  case: str,
  runner: processes.Runner,
  *,
  rounds: int,
  seconds: float,
  limit: float,
  **_,
) -> dict[str, Any]:
  """Losses of the first updates, and runs, by contender."""
  losses, runs, given_up = {}, {}, {}
  both = {"case": case, "limit": limit}
  for name in runner.contenders:
    if found := _attempt(runner, given_up, name, check=True, **both):
      losses[name] = found["losses"]
  for number in range(rounds):
    for name in runner.contenders:
      if found := _attempt(runner, given_up, name, seconds=seconds, **both):
        runs.setdefault(name, []).append(found)
        _say(f"round {number} {case} {name}", found)
  return {"losses": losses, "runs": runs, "given_up": [*given_up.values()]}


def _attempt(runner, given_up, name, *, limit, **options) -> dict | None:
  """What was found; None of a contender that was once too slow."""
  if name in given_up:
    return None
  # Without tfmeta there is nothing to compare with.
  limit = None if name == OURS else limit
  try:
    return runner.run(name, limit=limit, **options)
  except processes.TooSlow as error:
    given_up[name] = str(error)
    print(error, flush=True)
    return None


def learners(
  runner: processes.Runner, *, seconds: float, **_
) -> dict[str, Any]:
  """A run of every learner on every case; of LEO on embeddings alone."""
  runs: dict[str, dict] = {case: {} for case in (*LEARNER_CASES, "embeddings")}
  pairs = [(case, name) for case in LEARNER_CASES for name in LEARNERS]
  for case, name in [*pairs, ("embeddings", "LEO")]:
    found = runner.run(OURS, case=case, learner=name, seconds=seconds / 2)
    runs[case][name] = found
    _say(f"{case} {name}", found)
  return {"runs": runs}


def growth(runner: processes.Runner, *, seconds: float, **_) -> dict[str, Any]:
  """A run of MAML for every value in `GROWTH`."""
  runs: dict[str, dict] = {}
  for field, values in GROWTH.items():
    runs[field] = {}
    for value in values:
      options = {field: value}
      found = runner.run(OURS, case="conv4", seconds=seconds / 2, **options)
      runs[field][str(value)] = found
      _say(f"{field}={value}", found)
  return {"runs": runs}


def floor(
  runner: processes.Runner, *, rounds: int, seconds: float, **_
) -> dict[str, Any]:
  """CPU seconds of a task's convolutions alone, and of the whole task."""
  runs: dict[str, list] = {case: [] for case in FLOOR_CASES}
  for _round in range(rounds):
    for case in FLOOR_CASES:
      found = runner.run("floor", case=case)
      whole = runner.run(OURS, case=case, seconds=seconds)
      runs[case].append({"alone": found, "whole": whole})
      share = found["cpu_seconds_per_task"] / whole["cpu_seconds_per_task"]
      print(f"{case}: {share:.0%} of the CPU time is the floor's", flush=True)
  return {"runs": runs}


def memory(runner: processes.Runner, **_) -> dict[str, Any]:
  """Peak memory in MiB by tasks per update."""
  peaks = {
    str(tasks): runner.run(OURS, case="conv4", tasks=tasks, seconds=0)[
      "peak_mib"
    ]
    for tasks in MEMORY_TASKS
  }
  return {"peak_mib": peaks}


def data(
  runner: processes.Runner, *, data_dir: str | None, seconds: float, **_
) -> dict[str, Any]:
  """Tasks per second that the data sets deliver."""
  found = {}
  for dataset in ("glyphs", "omniglot") if data_dir else ("glyphs",):
    options = {"data_dir": data_dir} if dataset == "omniglot" else {}
    found[dataset] = runner.run(
      "data_pipeline", dataset=dataset, seconds=seconds, **options
    )["tasks_per_second"]
  return {"tasks_per_second": found}


PARTS = {
  **{
    f"contenders/{case}": functools.partial(contenders, case)
    for case in CONTENDER_CASES
  },
  "learners": learners,
  "growth": growth,
  "floor": floor,
  "memory": memory,
  "data": data,
}


def _say(what: str, found: dict[str, float]) -> None:
  print(
    f"{what:40} {found['tasks_per_second']:9.2f} tasks/s  "
    f"{1000 * found['cpu_seconds_per_task']:8.2f} CPU ms a task",
    flush=True,
  )
