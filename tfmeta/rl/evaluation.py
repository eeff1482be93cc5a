"""Measures a policy on tasks, before adapting and after each inner step."""

from collections.abc import Callable
import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta import metrics
from tfmeta.algorithms.context import EVALUATION
from tfmeta.core import calls
from tfmeta.rl import checks
from tfmeta.rl import outer
from tfmeta.rl.episodes import Episodes
from tfmeta.rl.learner import PolicyLearner


@dataclasses.dataclass(frozen=True)
class ReturnsResult:
  """Returns of a policy on tasks, before and after each inner step.

  Attributes:
    returns: `[tasks, K + 1]`, the mean undiscounted return of the episodes of
      each task before adapting and after each of K inner steps.
    episodes: Number of episodes per task and step.
    environment_steps: Number of steps of the environment that all episodes
      took, without what follows their ends.
  """

  returns: np.ndarray
  episodes: int
  environment_steps: int

  @property
  def tasks(self) -> int:
    """The number of tasks."""
    return len(self.returns)

  @property
  def means(self) -> np.ndarray:
    """The mean return over tasks, `[K + 1]`."""
    return metrics.mean_and_interval(self.returns)[0]

  @property
  def intervals(self) -> np.ndarray:
    """Half the width of the 95% intervals of `means` over tasks, `[K + 1]`."""
    return metrics.mean_and_interval(self.returns)[1]

  @property
  def gains(self) -> np.ndarray:
    """The mean over tasks of the return after adapting minus before, `[K]`."""
    return metrics.mean_and_interval(self._gains)[0]

  @property
  def gain_intervals(self) -> np.ndarray:
    """Half the width of the 95% intervals of `gains`, paired by task, `[K]`."""
    return metrics.mean_and_interval(self._gains)[1]

  @property
  def _gains(self) -> np.ndarray:
    return self.returns[:, 1:] - self.returns[:, :1]

  def to_dict(self) -> dict[str, Any]:
    """Returns plain numbers, which JSON can hold."""
    return {
      "tasks": self.tasks,
      "episodes": self.episodes,
      "environment_steps": self.environment_steps,
      "returns": self.means.tolist(),
      "intervals": self.intervals.tolist(),
      "gains": self.gains.tolist(),
      "gain_intervals": self.gain_intervals.tolist(),
    }

  def __str__(self) -> str:
    rows = [f"{'inner steps':>11}  {'return':>18}  {'gain':>18}"]
    for step, (mean, width) in enumerate(
      zip(self.means, self.intervals, strict=True)
    ):
      row = f"{step:>11}  {_with_interval(mean, width)}"
      if step:
        gain = self.gains[step - 1], self.gain_intervals[step - 1]
        row += f"  {_with_interval(*gain)}"
      rows.append(row)
    rows.append(
      f"Means and 95% intervals over {self.tasks} tasks, {self.episodes} "
      "episodes per task and step; "
      f"{self.environment_steps:,} steps of the environment."
    )
    return "\n".join(rows)


def _with_interval(mean: float, width: float) -> str:
  return f"{mean:>9.2f} {metrics.plus_minus():>2} {width:>5.2f}"


def evaluate(
  learner: PolicyLearner,
  tasks: tf.data.Dataset,
  *,
  steps: int | None = None,
  verbose: int = 0,
) -> ReturnsResult:
  """Measures a learner on tasks, before adapting and after each inner step.

  The episodes that are measured after step j are those from which step j + 1
  learns, which is how results are published. Intervals are over tasks, so they
  do not say how much the result of another training run would differ.

  Args:
    learner: A `PolicyLearner`.
    tasks: Finite dataset of batches of tasks of the learner's environment, for
      example `environment.tasks("test", seed=2).batch(40).take(5)`.
    steps: Integer >= 0, the number of inner steps. Defaults to that of the
      learner.
    verbose: 1 shows a progress bar, 0 (default) does not.

  Returns:
    A `ReturnsResult`.

  Raises:
    TypeError: If `learner` is not a `PolicyLearner` or `tasks` not a
      `tf.data.Dataset`.
    ValueError: If the tasks are infinite, not batched or empty, or do not
      belong to the environment.
  """
  _check(learner, tasks, steps)
  measure = _measure_function(learner, steps)
  bar = keras.utils.Progbar(_length(tasks), verbose=verbose)
  returns, lengths, first = [], 0.0, 0
  for batch in tasks:
    with calls.plain_errors():
      found, length = measure(batch, tf.constant(first))
    returns.append(found.numpy())
    lengths += float(length)
    first += len(found)
    bar.add(1)
  if not returns:
    raise ValueError("`tasks` must hold at least one batch. Received: none")
  return ReturnsResult(np.concatenate(returns), learner.episodes, int(lengths))


def collect_episodes(
  learner: PolicyLearner, tasks: Any, *, steps: int | None = None
) -> list[Episodes]:
  """Acts a batch of tasks, before adapting and after each inner step.

  Args:
    learner: A `PolicyLearner`.
    tasks: A batch of tasks of the learner's environment, as
      `environment.tasks(...).batch(T)` yields them.
    steps: Integer >= 0, the number of inner steps. Defaults to that of the
      learner.

  Returns:
    `Episodes` `[T, B, H, ...]` for each of 0 to `steps` inner steps.
  """
  if steps is not None:
    arguments.check_integer("steps", steps, least=0)
  checked = checks.checked_tasks(tasks, learner.environment)

  def collect() -> list[Episodes]:
    return outer.collect(learner, checked, EVALUATION, steps).episodes

  return tf.function(collect, autograph=False)()


def _measure_function(
  learner: PolicyLearner, steps: int | None
) -> Callable[..., Any]:
  """Returns the function that measures a batch, which is traced once."""

  def measure(batch: Any, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    tasks = checks.checked_tasks(batch, learner.environment)
    context = EVALUATION.replace(index=first)
    collected = outer.collect(learner, tasks, context, steps)
    lengths = [
      tf.reduce_sum(tf.cast(one.mask, tf.float64)) for one in collected.episodes
    ]
    return collected.returns, tf.add_n(lengths)

  return tf.function(measure, autograph=False, reduce_retracing=True)


def _length(tasks: tf.data.Dataset) -> int | None:
  length = int(tasks.cardinality())
  return length if length >= 0 else None


def _check(learner: Any, tasks: Any, steps: Any) -> None:
  if not isinstance(learner, PolicyLearner):
    raise TypeError(
      "`learner` must be a learner of tfmeta.rl; tfmeta.evaluate measures the "
      f"others. Received: {type(learner).__name__}"
    )
  if not isinstance(tasks, tf.data.Dataset):
    raise TypeError(
      f"`tasks` must be a tf.data.Dataset. Received: {type(tasks).__name__}"
    )
  if int(tasks.cardinality()) == tf.data.INFINITE_CARDINALITY:
    raise ValueError(
      "`tasks` must be finite: call .take(batches). Received: an infinite "
      "dataset"
    )
  if steps is not None:
    arguments.check_integer("steps", steps, least=0)
