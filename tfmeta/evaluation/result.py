"""The result of an evaluation, as a table and as plain numbers."""

import dataclasses
import math
from typing import Any

import numpy as np

from tfmeta import arguments
from tfmeta import metrics


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationResult:
  """Measurements of a learner on a set of tasks; `print` shows a table.

  Arrays have the axes T (tasks) and P (points of adaptation). The first point
  is before adapting, the last one after it.

  Attributes:
    learner: Name of the learner's class.
    metric: `"accuracy"` (in `[0, 1]`), `"mse"` (mean squared error), or
      `"loss"`, the inner loss of targets that are not compared with outputs.
    per_task: `[T, P]` float64, `metric` over the queries of each task.
    after_steps: `[P]` integers, the number of inner steps taken: 0, 1, 2, ...
      If the learner does not tell the steps apart, only 0 and the last one.
    nll_per_task: `[T, P]` negative log-likelihood per query, in nats. `None` in
      regression if the noise of the targets is not known.
    brier_per_task: `[T, P]` Brier score. `None` in regression.
    ece: `[P]` expected calibration error in 15 bins of confidence, pooled over
      the queries of all tasks. `None` in regression.
    reliability: `[15, 3]` after adapting, for each bin: the number of queries,
      the sum of their confidences, and the number of correct ones. `None` in
      regression.
    selective_accuracy: `[10]` accuracy after adapting on the most confident
      10%, 20%, ..., 100% of all queries. `None` in regression.
    nearest_neighbour: `[T]` accuracy of `metrics.nearest_neighbour`, or `None`.
    ways: Number of classes in a task, which may be fewer than the model has
      outputs. The largest number if tasks differ. `None` in regression, and if
      each example has several binary labels.
    support_size: Number of support examples in a task, or the largest number.
    query_size: Number of query examples in a task, or the largest number.
    normalization: Which statistics normalize queries: the `normalization` of
      the learner, or the one that took its place.
    transductive: Whether predictions depend on the other queries of a task.
    members: Number of learners whose outputs were averaged.
    queries_at_once: Number of queries in one pass, or `None`: all queries of a
      task.
    of_classes: Whether all classes of a task have equally many support
      examples, each with one label, so that there is a number of shots.
  """

  learner: str
  metric: str
  per_task: np.ndarray
  after_steps: tuple[int, ...]
  nll_per_task: np.ndarray | None
  brier_per_task: np.ndarray | None
  ece: np.ndarray | None
  reliability: np.ndarray | None
  selective_accuracy: np.ndarray | None
  nearest_neighbour: np.ndarray | None
  ways: int | None
  support_size: int
  query_size: int
  normalization: str
  transductive: bool
  members: int = 1
  queries_at_once: int | None = None
  of_classes: bool = True

  @property
  def tasks(self) -> int:
    """Number of tasks."""
    return len(self.per_task)

  @property
  def nll(self) -> np.ndarray | None:
    """Mean of `nll_per_task` over tasks, `[P]`."""
    return None if self.nll_per_task is None else self.nll_per_task.mean(axis=0)

  @property
  def brier(self) -> np.ndarray | None:
    """Mean of `brier_per_task` over tasks, `[P]`."""
    if self.brier_per_task is None:
      return None
    return self.brier_per_task.mean(axis=0)

  @property
  def query_shots(self) -> int:
    """Number of query examples per class; in regression, per function."""
    return self.query_size // (self.ways or 1)

  @property
  def shots(self) -> int:
    """Number of support examples per class; in regression, per function."""
    return self.support_size // (self.ways or 1)

  @property
  def mean(self) -> float:
    """Mean of `metric` over tasks, after adapting."""
    return self.by_step()[-1][self.metric]

  @property
  def interval(self) -> float | None:
    """Half-width of the 95% interval of `mean`; `None` for a single task."""
    return self.by_step()[-1]["interval"]

  def by_step(self) -> list[dict[str, Any]]:
    """Returns one row per point of adaptation, with `steps` and metrics."""
    means, intervals = metrics.mean_and_interval(self.per_task)
    rows = []
    for point, steps in enumerate(self.after_steps):
      row = {"steps": steps, self.metric: float(means[point])}
      row["interval"] = _number(intervals[point])
      for name in ("nll", "brier"):
        if (values := getattr(self, f"{name}_per_task")) is not None:
          mean, interval = metrics.mean_and_interval(values[:, point])
          row[name] = float(mean)
          row[f"{name}_interval"] = _number(interval)
      if self.ece is not None:
        row["ece"] = float(self.ece[point])
      rows.append(row)
    return rows

  def to_dict(self) -> dict[str, Any]:
    """Returns numbers, strings, lists and dicts that JSON can hold.

    The top level has the values after adapting, under the names of `by_step`,
    and `before_adaptation`, the metric before the first step.
    """
    rows = self.by_step()
    result = {
      "learner": self.learner,
      "members": self.members,
      "tasks": self.tasks,
      "ways": self.ways,
      "shots": self.shots,
      "query_shots": self.query_shots,
      "normalization": self.normalization,
      "transductive": self.transductive,
      "queries_at_once": self.queries_at_once,
      **rows[-1],
      "before_adaptation": rows[0][self.metric],
      "by_step": rows,
      "per_task": self.per_task[:, -1].tolist(),
    }
    if self.nll_per_task is not None:
      result["nll_per_task"] = self.nll_per_task[:, -1].tolist()
    if self.reliability is not None and self.selective_accuracy is not None:
      result["reliability"] = self.reliability.tolist()
      result["selective_accuracy"] = self.selective_accuracy.tolist()
    if self.nearest_neighbour is not None:
      mean, interval = metrics.mean_and_interval(self.nearest_neighbour)
      result["nearest_neighbour"] = float(mean)
      result["nearest_neighbour_interval"] = _number(interval)
    return result

  def __str__(self) -> str:
    how = "depends" if self.transductive else "does not depend"
    lines = [
      f"{self._name()} on {arguments.counted(self.tasks, 'task', 'tasks')}: "
      f"{self._sizes()}",
      f"normalization {self.normalization!r}: a prediction {how} on the other "
      f"queries{self._passes()}",
      self._header(),
    ]
    lines += [self._line(row) for row in self.by_step()]
    if self.selective_accuracy is not None:
      half = self.selective_accuracy[len(self.selective_accuracy) // 2 - 1]
      lines.append(f"on the most confident half of the queries: {half:.2%}")
    if self.nearest_neighbour is not None:
      shown = self._with_interval(
        *metrics.mean_and_interval(self.nearest_neighbour)
      )
      lines.append(f"nearest neighbor in pixels: {shown}")
    return "\n".join(lines)

  def _sizes(self) -> str:
    """Returns the sizes of a task, by class where all classes have as many."""
    parts = [arguments.counted(self.ways, "way", "ways")] if self.ways else []
    ways = self.ways or 1
    even = not self.ways or (self.of_classes and self.support_size % ways == 0)
    if not even:
      parts.append(f"{self.support_size} support examples")
    else:
      parts.append(arguments.counted(self.shots, "shot", "shots"))
    if self.ways and even and self.query_size % ways == 0:
      queries, per = self.query_shots, "class"
    else:
      queries, per = self.query_size, "task"
    parts.append(f"{arguments.counted(queries, 'query', 'queries')} per {per}")
    return ", ".join(parts)

  def _name(self) -> str:
    ensemble = f"Ensemble of {self.members} " if self.members > 1 else ""
    return ensemble + self.learner

  def _passes(self) -> str:
    if self.queries_at_once is None:
      return ""
    return (
      f", {arguments.counted(self.queries_at_once, 'query', 'queries')} at once"
    )

  def _header(self) -> str:
    header = f"inner steps  {self.metric + ' (95% interval)':<24}"
    names = (("nll", "    NLL"), ("brier", "   Brier"), ("ece", "     ECE"))
    shown = [text for key, text in names if getattr(self, key) is not None]
    return (header + "".join(shown)).rstrip()

  def _line(self, row: dict[str, Any]) -> str:
    shown = self._with_interval(row[self.metric], row["interval"])
    line = f"{row['steps']:>11}  {shown:<24}"
    further = [row[name] for name in ("nll", "brier", "ece") if name in row]
    line += "".join(f" {value:6.3f} " for value in further)
    return line.rstrip()

  def _with_interval(self, mean: Any, interval: Any) -> str:
    form = ".2%" if self.metric == "accuracy" else ".4f"
    known = interval is not None and not math.isnan(interval)
    shown = f"{interval:{form}}" if known else "?"
    return f"{mean:{form}} {metrics.plus_minus()} {shown}"


def _number(value: Any) -> float | None:
  """Returns a float that JSON can hold: `None` for NaN."""
  return None if math.isnan(value) else float(value)
