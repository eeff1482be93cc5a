"""Kills, damages, fills and repeats runs, and counts what goes wrong.

  python -m tests.endurance --kills=100 --damages=2000 --disks=12
  python -m tests.endurance --parts=damages --damages=50

It is no part of `make test`, because it takes hours. Each part replaces its
entry of `benchmarks/results/endurance.json` and leaves those of the others:

  kills     SIGKILLs of trainers and workers at random moments: while they
            start, train, save, evaluate and export. The runs go on and must end
            with the weights, results and exports of an undisturbed run, bit for
            bit, without a process that outlives them.
  damages   Random damages of checkpoints, pickles, tars and images, each read
            in a child process: no crash, no traceback, no wrong weights.
  disks     Runs on disks that are too small, which end in a sentence. With
            enough space they go on and end as an undisturbed run.
  repeats   The same training in several processes with the default threads.

It ends with exit code 1 if any of this fails.
"""

import collections
from collections.abc import Iterator
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from absl import app
from absl import flags

from tests.endurance import faults

PARTS = ("kills", "damages", "disks", "repeats")

_PARTS = flags.DEFINE_multi_enum("parts", list(PARTS), PARTS, "What to do.")
_KILLS = flags.DEFINE_integer("kills", 100, "Number of kills.")
_DAMAGES = flags.DEFINE_integer("damages", 2000, "Damages of each kind.")
_DISKS = flags.DEFINE_integer("disks", 12, "Number of sizes of a disk.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Runs of each learner.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of moments and damages.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/endurance.json", "File to write."
)

ROOT = pathlib.Path(__file__).resolve().parents[2]


class _Crash(Exception):
  """A program ended with an exit code other than 0."""


def lines_of(program: str, *arguments: str) -> Iterator[dict[str, Any]]:
  """Yields the JSON objects that a program of this folder prints.

  Raises:
    _Crash: At the end, if the program has failed.
  """
  process = subprocess.Popen(
    [sys.executable, "-m", f"tests.endurance.{program}", *arguments],
    cwd=ROOT,
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    stdout=subprocess.PIPE,
    # Libraries that decode images report damages here.
    stderr=subprocess.DEVNULL if program == "damages" else None,
    text=True,
  )
  with process:
    for line in process.stdout or ():
      if line.startswith("{"):
        yield json.loads(line)
      else:
        print(f"  {program}: {line}", end="")
  if process.returncode:
    raise _Crash(f"{program} ended with {process.returncode}")


def kill() -> dict[str, Any]:
  """Returns the counts of kills, and of what they cost."""
  rows = []
  for row in lines_of(
    "kills", f"--kills={_KILLS.value}", f"--seed={_SEED.value}"
  ):
    print(f"  {row}", flush=True)
    rows.append(row)
  kills, ends = (
    [r for r in rows if ("ended" in r) == e] for e in (False, True)
  )
  return {
    "kills": len(kills),
    "victims": collections.Counter(
      f"{row['trainer']}: {row['victim']}" for row in kills
    ),
    "moments": collections.Counter(row["moment"] for row in kills),
    "runs_compared": len(ends),
    "runs_that_differ": sum(bool(row["differences"]) for row in ends),
    "lost_epochs": sum(row.get("lost", 0) for row in rows),
    "orphans": sum(row.get("orphans", 0) for row in rows),
    "tracebacks": sum(row["tracebacks"] for row in ends),
  }


def damage() -> dict[str, Any]:
  """Returns the counts of what happened to damaged files, by their kind."""
  found = {}
  for kind in faults.KINDS:
    found[kind] = _damage_kind(kind)
    print(f"  {kind}: {dict(found[kind])}", flush=True)
  return found


def _damage_kind(kind: str) -> collections.Counter:
  counts, first = collections.Counter(), 0
  while first < _DAMAGES.value:
    try:
      for line in lines_of(
        "damages",
        f"--kind={kind}",
        f"--first={first}",
        f"--last={_DAMAGES.value}",
        f"--seed={_SEED.value}",
      ):
        if "outcome" in line:
          counts[line["outcome"]] += 1
          first += 1
          if line["outcome"] in ("wrong", "error"):
            print(f"  {kind} number {first - 1}: {line['outcome']}")
    except _Crash as error:
      # The child died while it read this one; the next child skips it.
      print(f"  {kind} number {first}: {error}")
      counts["crash"] += 1
      first += 1
  return counts


def fill_disks() -> dict[str, Any]:
  """Returns what happened on each disk."""
  rows = []
  for row in lines_of("disks", f"--disks={_DISKS.value}"):
    print(f"  {row}", flush=True)
    rows.append(row)
  if not rows:
    sys.exit("The part 'disks' must mount file systems, which is forbidden.")
  return {
    "disks": len(rows),
    "full": sum(row["exit_code"] != 0 for row in rows),
    "without_a_sentence": sum(not row["is_sentence"] for row in rows),
    "tracebacks": sum(row["tracebacks"] for row in rows),
    "runs_that_differ": sum(bool(row["differences"]) for row in rows),
    "rows": rows,
  }


def repeat() -> dict[str, Any]:
  """Returns how many different weights each learner ended with."""
  digests = collections.defaultdict(set)
  for _ in range(_REPEATS.value):
    for row in lines_of("repeats"):
      digests[row["learner"]].add(row["sha256"])
  found = {learner: len(different) for learner, different in digests.items()}
  print(f"  different weights: {found}", flush=True)
  return {"repeats": _REPEATS.value, "different_weights": found}


def main(_) -> None:
  path = pathlib.Path(_OUTPUT.value)
  report = json.loads(path.read_text()) if path.exists() else {}
  make = dict(zip(PARTS, (kill, damage, fill_disks, repeat), strict=True))
  found = 0
  for part in PARTS:
    if part in _PARTS.value:
      print(part, flush=True)
      command = " ".join(["python -m tests.endurance", *sys.argv[1:]])
      report[part] = {"command": command, **make[part]()}
      path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
      found += faults.count(report[part])
  if found:
    sys.exit(f"{found} of these attempts went wrong; see {path}.")


if __name__ == "__main__":
  app.run(main)
