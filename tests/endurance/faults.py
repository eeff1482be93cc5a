"""What may not happen to a run, counted in a result of `tests.endurance`."""

from typing import Any

# Files that are damaged.
KINDS = ("checkpoints", "pickles", "tars", "images")

# Counts that are 0 if nothing goes wrong.
FAULTS = (
  "runs_that_differ",
  "lost_epochs",
  "orphans",
  "tracebacks",
  "without_a_sentence",
  # Outcomes of damages.
  "crash",
  "error",
  "wrong",
)


def count(found: dict[str, Any]) -> int:
  """Returns how often the result of a part went wrong."""
  faults = sum(found.get(name, 0) for name in FAULTS)
  faults += sum(count(found[kind]) for kind in KINDS if kind in found)
  different = found.get("different_weights", {})
  return faults + sum(number - 1 for number in different.values())
