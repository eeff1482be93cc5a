"""Measures a learner on batches of tasks, in one graph."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta import metrics
from tfmeta.algorithms import meta_learner
from tfmeta.core import checks
from tfmeta.core import task_map
from tfmeta.evaluation import arguments
from tfmeta.evaluation import figures_of_task
from tfmeta.evaluation import result


def evaluate(
  learner: meta_learner.MetaLearner | Sequence[meta_learner.MetaLearner],
  tasks: tf.data.Dataset,
  *,
  nearest_neighbour: bool = False,
  noise_stddev: float | None = None,
  verbose: int = 0,
) -> result.EvaluationResult:
  """Measures a learner on tasks, before adapting and after each inner step.

  Integer query labels mean classification (accuracy, likelihood, calibration),
  floats mean regression (mean squared error, likelihood). The figures after
  adaptation are those of `learner.evaluate`; intervals are over tasks, so they
  say nothing of how much another training run would differ.

  Args:
    learner: A `MetaLearner`, or several with equal settings, whose outputs are
      averaged: an ensemble, for example of the best checkpoints of a run.
      Outputs are taken for logits, unless the `inner_loss` was made with
      `from_logits=False`.
    tasks: Finite dataset of batches of tasks, `({"support_x": [T, S, ...],
      "support_y": [T, S, ...], "query_x": [T, Q, ...]}, query_y [T, Q, ...])`.
    nearest_neighbour: Whether to add the baseline of that name.
    noise_stddev: Float > 0. In regression, the standard deviation of targets
      around the outputs, which the likelihood is taken with. Default `None`:
      that of the learner, constant or learned, if it has one, and else no
      likelihood.
    verbose: 1 for a progress bar, 0 (default) for none.

  Returns:
    An `EvaluationResult`.

  Raises:
    TypeError: If `learner` is no `MetaLearner` or `tasks` no `tf.data.Dataset`.
    ValueError: If the tasks are endless, not batched, of the wrong structure or
      none at all, or if targets and outputs do not fit each other.

  Example:
  ```python
  test = tfmeta.data.omniglot("test", spec, seed=2).batch(50).take(12)
  print(tfmeta.evaluate(learner, test))
  ```
  """
  learners = arguments.checked_learners(learner)
  learner = learners[0]
  arguments.check_tasks(learner, tasks)
  arguments.check_noise(noise_stddev, tasks.element_spec[1])
  classification = tasks.element_spec[1].dtype.is_integer
  measure = _measure_function(
    learners, tasks.element_spec, nearest_neighbour, noise_stddev
  )
  measured = _measure_all(measure, tasks, verbose)
  per_task = measured["accuracy" if classification else "mse"]
  support_size, query_size, *ways = measured["sizes"].max(axis=0).astype(int)
  return result.EvaluationResult(
    learner=type(learner).__name__,
    members=len(learners),
    metric="accuracy" if classification else "mse",
    per_task=per_task,
    after_steps=_after_steps(per_task.shape[1], learner.steps),
    nll_per_task=measured.get("nll"),
    brier_per_task=measured.get("brier"),
    ece=_pooled_ece(measured["bins"]) if classification else None,
    reliability=measured["bins"][:, -1].sum(0) if classification else None,
    selective_accuracy=_selective(measured) if classification else None,
    nearest_neighbour=measured.get("nearest_neighbour"),
    ways=int(ways[0]) if classification else None,
    support_size=int(support_size),
    query_size=int(query_size),
    normalization=learner.normalization,
    transductive=learner.transductive,
  )


def _measure_function(
  learners: Sequence[meta_learner.MetaLearner],
  element_spec: Any,
  nearest_neighbour: bool,
  noise_stddev: float | None,
) -> Callable[..., dict[str, tf.Tensor]]:
  """A graph from a batch of tasks to `[T, ...]` figures, traced once."""

  def one_task(*task: tf.Tensor) -> dict[str, tf.Tensor]:
    outputs, support_x, support_y, query_x, query_y = task
    points = [
      figures_of_task.measure_outputs(learners[0], query_y, out, noise_stddev)
      for out in tf.unstack(outputs)
    ]
    figures = {k: tf.stack([p[k] for p in points]) for k in points[0]}
    sizes = [tf.shape(support_x)[0], tf.shape(query_x)[0]]
    if query_y.dtype.is_integer:
      sizes.append(tf.size(tf.unique(support_y)[0]))
    figures["sizes"] = tf.stack(sizes)
    if nearest_neighbour:
      found = metrics.nearest_neighbour(support_x, support_y, query_x)
      right = tf.equal(found, tf.cast(query_y, found.dtype))
      figures["nearest_neighbour"] = tf.reduce_mean(tf.cast(right, tf.float32))
    return figures

  @tf.function(
    input_signature=(*element_spec, tf.TensorSpec([], tf.int32)),
    autograph=False,
  )
  def measure(
    inputs: Any, targets: tf.Tensor, first: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    support_x, support_y, query_x = (inputs[key] for key in checks.KEYS)
    if targets.dtype.is_integer:
      ways = learners[0].model.output_shape[-1]
      support_y = checks.checked_labels("Support labels", support_y, ways)
      targets = checks.checked_labels("Query labels", targets, ways)
    batch = (support_x, support_y, query_x, targets)
    of_draws = figures_of_task.have_draws(learners, targets)
    found = [
      figures_of_task.on_path(
        each, batch, first, noise_stddev, of_draws=of_draws
      )
      for each in learners
    ]
    mean = tf.add_n([each.pop("outputs") for each in found]) / len(found)
    figures = task_map.map_tasks(one_task, (mean, *batch), "map")
    return {**figures, **found[0]}

  return measure


def _measure_all(
  measure: Callable[..., dict[str, tf.Tensor]],
  tasks: tf.data.Dataset,
  verbose: int,
) -> dict[str, np.ndarray]:
  """Figures of all tasks, `[T, ...]` float64."""
  batches = int(tasks.cardinality())
  bar = keras.utils.Progbar(batches if batches >= 0 else None, verbose=verbose)
  rows: list[dict[str, np.ndarray]] = []
  done = 0
  for inputs, targets in tasks:
    figures = measure(inputs, targets, tf.constant(done))
    rows.append({k: v.numpy().astype("float64") for k, v in figures.items()})
    _check_finite(rows[-1], done)
    done += len(rows[-1]["sizes"])
    bar.update(len(rows), finalize=False if batches < 0 else None)
  if not rows:
    raise ValueError(
      "There must be at least one batch of tasks to evaluate on. Received: "
      f"tasks={tasks}, which is empty"
    )
  return {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}


def _check_finite(figures: dict[str, np.ndarray], first: int) -> None:
  losses = figures["mse"] if "mse" in figures else figures["nll"]
  bad = np.flatnonzero(np.isnan(losses).any(axis=1))
  if len(bad):
    raise ValueError(
      "The outputs for every task must be numbers; data or weights hold NaN or "
      f"inf. Received: NaN for task {first + bad[0]}"
    )


def _after_steps(points: int, steps: int) -> tuple[int, ...]:
  return (0, steps or 1) if points == 2 else tuple(range(points))


def _selective(measured: dict[str, np.ndarray]) -> np.ndarray:
  """Accuracy by coverage, of all queries after adapting."""
  return metrics.selective_accuracy(
    measured["confidence"][:, -1], measured["right"][:, -1]
  )


def _pooled_ece(bins: np.ndarray) -> np.ndarray:
  return metrics.expected_calibration_error(bins.sum(axis=0)).numpy()
