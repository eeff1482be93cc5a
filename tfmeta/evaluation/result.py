"""The figures of an evaluation, as a table and as plain numbers."""

import dataclasses
import math
from typing import Any

import numpy as np

from tfmeta import metrics


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationResult:
  """Figures of a learner on a set of tasks; `print` shows them as a table.

  Axes: T tasks, P points of adaptation, the first before it, the last after.

  Attributes:
    learner: Name of the learner's class.
    members: Number of learners whose outputs were averaged.
    metric: `"accuracy"` (in `[0, 1]`) or `"mse"` (mean squared error).
    per_task: `[T, P]` float64, `metric` over the queries of each task.
    after_steps: `[P]` integers, the inner steps taken: 0, 1, 2, ..., or only 0
      and the last where the learner does not tell the steps between.
    nll: `[P]` negative log-likelihood per query, in nats, the mean over tasks.
      `None` in regression, as are `ece` and `ways`.
    ece: `[P]` expected calibration error in 15 bins of confidence, pooled over
      the queries of all tasks.
    nearest_neighbour: `[T]` accuracy of `metrics.nearest_neighbour`, or `None`.
    ways: Classes in a task, which may be fewer than the model has outputs. Of
      this and the next two, the most where tasks differ.
    support_size: Support examples in a task.
    query_size: Query examples in a task.
    normalization: The learner's `normalization`.
    transductive: Whether predictions depend on the other queries of a task.
  """

  learner: str
  metric: str
  per_task: np.ndarray
  after_steps: tuple[int, ...]
  nll: np.ndarray | None
  ece: np.ndarray | None
  nearest_neighbour: np.ndarray | None
  ways: int | None
  support_size: int
  query_size: int
  normalization: str
  transductive: bool
  members: int = 1

  @property
  def tasks(self) -> int:
    """Number of tasks."""
    return len(self.per_task)

  @property
  def query_shots(self) -> int:
    """Query examples per class (of the function, in regression)."""
    return self.query_size // (self.ways or 1)

  @property
  def shots(self) -> int:
    """Support examples per class (of the function, in regression)."""
    return self.support_size // (self.ways or 1)

  @property
  def mean(self) -> float:
    """`metric` after adaptation, mean over tasks."""
    return self.by_step()[-1][self.metric]

  @property
  def interval(self) -> float | None:
    """Half-width of the 95 % interval of `mean`; `None` for a single task."""
    return self.by_step()[-1]["interval"]

  def by_step(self) -> list[dict[str, Any]]:
    """One row per point of adaptation: `steps`, metric, `interval`, ..."""
    means, intervals = metrics.mean_and_interval(self.per_task)
    rows = []
    for point, steps in enumerate(self.after_steps):
      row = {"steps": steps, self.metric: float(means[point])}
      row["interval"] = _number(intervals[point])
      if self.nll is not None and self.ece is not None:
        row["nll"] = float(self.nll[point])
        row["ece"] = float(self.ece[point])
      rows.append(row)
    return rows

  def to_dict(self) -> dict[str, Any]:
    """Everything as numbers, strings, lists and dicts, ready for JSON.

    At the top level stand the figures after adaptation, under the names of
    `by_step`, and `before_adaptation`, the metric at step 0.
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
      **rows[-1],
      "before_adaptation": rows[0][self.metric],
      "by_step": rows,
      "per_task": self.per_task[:, -1].tolist(),
    }
    if self.nearest_neighbour is not None:
      mean, interval = metrics.mean_and_interval(self.nearest_neighbour)
      result["nearest_neighbour"] = float(mean)
      result["nearest_neighbour_interval"] = _number(interval)
    return result

  def __str__(self) -> str:
    ways = f"{self.ways} ways, " if self.ways else ""
    how = "depends" if self.transductive else "does not depend"
    lines = [
      f"{self._name()} on {self.tasks} tasks: {ways}{self.shots} shots, "
      f"{self.query_shots} query shots",
      f"normalization {self.normalization!r}: a prediction {how} on the other "
      "queries",
      self._header(),
    ]
    lines += [self._line(row) for row in self.by_step()]
    if self.nearest_neighbour is not None:
      figure = self._figure(*metrics.mean_and_interval(self.nearest_neighbour))
      lines.append(f"nearest neighbour in pixels: {figure}")
    return "\n".join(lines)

  def _name(self) -> str:
    ensemble = f"Ensemble of {self.members} " if self.members > 1 else ""
    return ensemble + self.learner

  def _header(self) -> str:
    header = f"inner steps  {self.metric + ' (95 % interval)':<24}"
    return (
      header + "    NLL     ECE" if self.nll is not None else header.rstrip()
    )

  def _line(self, row: dict[str, Any]) -> str:
    figure = self._figure(row[self.metric], row["interval"])
    line = f"{row['steps']:>11}  {figure:<24}"
    if "nll" in row:
      line += f" {row['nll']:6.3f}  {row['ece']:6.3f}"
    return line.rstrip()

  def _figure(self, mean: Any, interval: Any) -> str:
    form = ".4f" if self.metric == "mse" else ".2%"
    known = interval is not None and not math.isnan(interval)
    return f"{mean:{form}} +- " + (f"{interval:{form}}" if known else "?")


def _number(value: Any) -> float | None:
  """A float that JSON can hold: `None` for NaN."""
  return None if math.isnan(value) else float(value)
