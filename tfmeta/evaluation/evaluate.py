"""Measures a learner on batches of tasks, in one graph."""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any
import warnings

import keras
import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta import metrics
from tfmeta.algorithms import meta_learner
from tfmeta.algorithms import query_normalization
from tfmeta.core import calls
from tfmeta.core import checks
from tfmeta.core import example_weights
from tfmeta.core import inputs as model_inputs
from tfmeta.core import losses
from tfmeta.core import task_map
from tfmeta.core.losses import Targets
from tfmeta.evaluation import graphs
from tfmeta.evaluation import measurements
from tfmeta.evaluation import passes
from tfmeta.evaluation import result

_METRICS = ("accuracy", "mse", "loss")


def evaluate(
  learner: meta_learner.MetaLearner | Sequence[meta_learner.MetaLearner],
  tasks: tf.data.Dataset,
  *,
  nearest_neighbour: bool = False,
  noise_stddev: float | None = None,
  queries_at_once: int | None = None,
  normalization: str | None = None,
  verbose: int = 0,
) -> result.EvaluationResult:
  """Measures a learner on tasks, before adapting and after each inner step.

  The inner loss decides what is measured. If it takes class labels (integers,
  one-hot or binary), the metrics are accuracy, likelihood and calibration; if
  it takes numbers, they are mean squared error and likelihood; if it is a
  function of yours that takes one number for several outputs, it is measured
  itself. Several binary labels of an example count one by one. Each is a mean
  over tasks. The `loss` of `learner.evaluate` is one too, but its metrics are
  means over all queries, which differ if queries do not all count the same.
  Intervals are over tasks, so they do not say how much the result of another
  training run would differ.

  Args:
    learner: A `MetaLearner`, or a list of learners with equal arguments, whose
      outputs are averaged: an ensemble, for example of the best checkpoints of
      a run.
    tasks: Finite dataset of batches of tasks, `({"support_x": [T, S, ...],
      "support_y": [T, S, ...], "query_x": [T, Q, ...]}, query_y [T, Q, ...])`.
      Weights of examples count as in `learner.evaluate`: `support_weight` in
      the inputs, and sample weights `[T, Q]` as a third part of the elements.
    nearest_neighbour: Whether to add the baseline
      `tfmeta.metrics.nearest_neighbour`. Defaults to `False`.
    noise_stddev: Float > 0. In regression, the standard deviation of targets
      around the outputs, for the likelihood. Defaults to the constant or
      learned value of the learner if it has one; otherwise no likelihood is
      computed.
    queries_at_once: Integer >= 1. Number of queries that are predicted in one
      pass, after adapting to the whole support set. 1 measures a learner that
      is asked for single queries, as programs that serve a model do. Defaults
      to `None`: all queries of a task at once.
    normalization: `"support_stats"` normalizes queries by the statistics of the
      support set, also if the learner was trained transductively. It measures
      what `export(..., normalization="support_stats")` writes. Defaults to
      `None`: the normalization of the learner.
    verbose: 1 shows a progress bar, 0 does not. Defaults to 0.

  Returns:
    An `EvaluationResult`.

  Raises:
    TypeError: If `learner` is not a `MetaLearner` or `tasks` not a
      `tf.data.Dataset`.
    ValueError: If the tasks are infinite, not batched, of the wrong structure
      or empty, if targets and outputs do not fit each other, or if an
      argument is out of range.

  Example:
  ```python
  test = tfmeta.data.omniglot("test", spec, seed=2).batch(50).take(12)
  print(tfmeta.evaluate(learner, test))
  ```
  """
  learners = _checked_learners(learner)
  first = learners[0]
  _check_tasks(first, tasks)
  _check_targets(
    first, tasks.element_spec[1], nearest_neighbour=nearest_neighbour
  )
  _check_noise(first, noise_stddev, tasks.element_spec[1])
  if queries_at_once is not None:
    arguments.check_integer("queries_at_once", queries_at_once, least=1)
  context = query_normalization.context_for(first, normalization)
  if nearest_neighbour and len(first.model.inputs) > 1:
    raise ValueError(
      "`nearest_neighbour` compares examples of one input. Received: a model "
      f"with {len(first.model.inputs)} inputs"
    )
  classification = first.target_kind is not Targets.NUMBERS
  how = passes.Prediction(context, noise_stddev, queries_at_once)
  measure = _measure_function(
    learners, tasks.element_spec, nearest_neighbour, how
  )
  with calls.plain_errors():
    measured = _measure_all(measure, tasks, verbose)
  metric = next(name for name in _METRICS if name in measured)
  per_task = measured[metric]
  support_size, query_size, *ways = measured["sizes"].max(axis=0).astype(int)
  of_classes = classification and bool(measured["sizes"][:, 3].all())
  several = measurements.has_several_labels(first)
  if classification:
    _warn_of_ways(first, int(ways[0]))
  return result.EvaluationResult(
    learner=type(first).__name__,
    members=len(learners),
    metric=metric,
    per_task=per_task,
    after_steps=_after_steps(per_task.shape[1], first.inner_steps_for()),
    nll_per_task=measured.get("nll"),
    brier_per_task=measured.get("brier"),
    ece=_pooled_ece(measured["bins"]) if classification else None,
    reliability=measured["bins"][:, -1].sum(0) if classification else None,
    selective_accuracy=_selective(measured) if classification else None,
    nearest_neighbour=measured.get("nearest_neighbour"),
    ways=int(ways[0]) if classification and not several else None,
    support_size=int(support_size),
    query_size=int(query_size),
    normalization=context.normalization_of(first),
    transductive=first.transductive and context.normalization is None,
    queries_at_once=queries_at_once,
    of_classes=of_classes,
  )


def _checked_learners(learner: Any) -> list[meta_learner.MetaLearner]:
  """Returns the learners to evaluate together, after checking them."""
  learners = list(learner) if isinstance(learner, list | tuple) else [learner]
  if not learners or not all(
    isinstance(each, meta_learner.MetaLearner) for each in learners
  ):
    raise TypeError(
      "`learner` must be a tfmeta.MetaLearner, such as tfmeta.MAML(model), or "
      f"a list of learners. Received: learner={learner!r}"
    )
  for each in learners:
    each.trained_variables.check(each)
  compared = {
    "inner_steps": [each.inner_steps_for() for each in learners],
    "normalization": [each.normalization for each in learners],
    "inner_loss": [each.target_kind.value for each in learners],
  }
  for name, found in compared.items():
    if len(set(found)) > 1:
      raise ValueError(
        f"The learners of an ensemble must have the same `{name}`. "
        f"Received: {sorted(set(found))}"
      )
  return learners


def _check_tasks(learner: meta_learner.MetaLearner, tasks: Any) -> None:
  """Checks that `tasks` are batches of tasks that `learner` can take."""
  if not isinstance(tasks, tf.data.Dataset):
    raise TypeError(
      "`tasks` must be a tf.data.Dataset of batches of tasks. "
      f"Received: tasks of type {type(tasks).__name__}"
    )
  if int(tasks.cardinality()) == tf.data.INFINITE_CARDINALITY:
    raise ValueError(
      "`tasks` must be finite: use .take(n) for n batches of tasks. "
      f"Received: tasks={tasks}, which is infinite"
    )
  spec = tasks.element_spec
  if not isinstance(spec, tuple) or len(spec) not in (2, 3):
    raise ValueError(
      "Elements of `tasks` must be pairs (inputs, query_y), or (inputs, "
      "query_y, sample_weight); tfmeta.rl.evaluate measures policies. "
      f"Received: tasks.element_spec={spec}"
    )
  checks.check_inputs(spec[0], learner.model)
  checks.check_is_tensor("query_y", spec[1])
  checks.check_queries(spec[0]["query_x"], spec[1])


def _check_targets(
  learner: meta_learner.MetaLearner, targets: Any, *, nearest_neighbour: bool
) -> None:
  """Checks that there are metrics for the targets of the learner."""
  checks.check_is_tensor("query_y", targets)
  output_shape = learner.model.output_shape
  one_label = learner.target_kind is Targets.LABELS and len(output_shape) == 2
  if nearest_neighbour and not one_label:
    raise ValueError(
      "`nearest_neighbour` needs one integer label for each example. "
      f"Received: nearest_neighbour=True, {learner.target_kind.value} and "
      f"outputs of shape {output_shape}"
    )


def _warn_of_ways(learner: meta_learner.MetaLearner, ways: int) -> None:
  """Warns if the model has outputs for classes that no task holds."""
  output_shape = learner.model.output_shape
  ignored = losses.ignored_class(learner.inner_loss)
  classes = output_shape[-1] if ignored is None else output_shape[-1] - 1
  unusual = ways < classes and not learner.serves_fewer_ways
  labels = learner.target_kind is not Targets.BINARY
  if unusual and labels and len(output_shape) == 2:
    most = arguments.counted(ways, "class", "classes")
    warnings.warn(
      f"The model has {output_shape[-1]} outputs, and no support set holds "
      f"more than {most}: it needs one output for each way.",
      stacklevel=3,
    )


def _check_noise(
  learner: meta_learner.MetaLearner, noise_stddev: Any, targets: Any
) -> None:
  """Checks the standard deviation of regression targets, if there is one."""
  if noise_stddev is None:
    return
  arguments.check_number("noise_stddev", noise_stddev, above=0)
  compared = measurements.compares_outputs(learner, targets.shape[2:])
  if learner.target_kind is not Targets.NUMBERS or not compared:
    raise ValueError(
      "`noise_stddev` applies to a regression with one target for each output "
      "only. Received: "
      f"noise_stddev={noise_stddev} and {learner.target_kind.value}"
    )


def _measure_function(
  learners: Sequence[meta_learner.MetaLearner], *options: Any
) -> Callable[..., dict[str, tf.Tensor]]:
  """Returns a graph from a batch of tasks to `[T, ...]` measurements."""
  if len(learners) > 1:
    return _traced_measure_function(learners, *options)
  return graphs.kept(
    learners[0], options, lambda: _traced_measure_function(learners, *options)
  )


def _traced_measure_function(
  learners: Sequence[meta_learner.MetaLearner],
  element_spec: Any,
  nearest_neighbour: bool,
  how: passes.Prediction,
) -> Callable[..., dict[str, tf.Tensor]]:
  learner = learners[0]

  @tf.function(
    input_signature=(tf.TensorSpec([], tf.int32), *element_spec),
    autograph=False,
  )
  def measure(
    first: tf.Tensor, inputs: Any, targets: tf.Tensor, *weight: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    if weight:
      inputs = {**inputs, "query_weight": weight[0]}
    weights = checks.checked_weights(inputs, learner)
    support_x, support_y, query_x = (inputs[key] for key in checks.KEYS)
    support_x, query_x = (
      model_inputs.arranged(learner.model, "Examples", x)
      for x in (support_x, query_x)
    )
    support_y = learner.checked_targets("Support labels", support_y)
    targets = learner.checked_targets("Query labels", targets)
    batch = (support_x, support_y, query_x, targets)
    of_samples = _uses_samples(learners, targets.shape[2:])
    found = [
      _along_path(each, batch, weights, first, how, of_samples=of_samples)
      for each in learners
    ]
    mean = tf.add_n([each.pop("outputs") for each in found]) / len(found)
    one_task = functools.partial(_measure_task, learner, nearest_neighbour, how)
    measured = task_map.map_tasks(one_task, (weights, mean, *batch), "map")
    return {**measured, **found[0]}

  # TensorFlow counts the graphs of this function over all calls of `evaluate`,
  # and would warn of the fifth. A concrete function is not counted.
  return measure.get_concrete_function()


def _measure_task(
  learner: meta_learner.MetaLearner,
  nearest_neighbour: bool,
  how: passes.Prediction,
  weights: Any,
  *task: Any,
) -> dict[str, tf.Tensor]:
  """Measures the outputs of one task at each point of its path.

  Args:
    learner: The learner.
    nearest_neighbour: Whether to add this baseline.
    how: How the queries were predicted.
    weights: Weights of examples by name.
    *task: The outputs `[P, Q, ...]`, and the arguments of `task_loss`.
  """
  outputs, support_x, support_y, query_x, query_y = task
  weight = weights.get("query_weight")
  points = [
    measurements.of_outputs(learner, query_y, one, how.noise_stddev, weight)
    for one in tf.unstack(outputs)
  ]
  measured = {k: tf.stack([p[k] for p in points]) for k in points[0]}
  support_x, support_y = _without_padding(
    support_x, support_y, weights.get("support_weight")
  )
  sizes = [
    model_inputs.count_of(support_x),
    measurements.count_examples(query_x, weight),
  ]
  if learner.target_kind is not Targets.NUMBERS:
    sizes += measurements.count_classes(learner, support_y)
  measured["sizes"] = tf.stack(sizes)
  if nearest_neighbour:
    found = metrics.nearest_neighbour(support_x, support_y, query_x)
    outputs = tf.one_hot(found, learner.model.output_shape[-1])
    measured["nearest_neighbour"] = metrics.accuracy(
      query_y, outputs, weight=weight
    )
  return measured


def _without_padding(x: Any, y: tf.Tensor, weight: tf.Tensor | None) -> Any:
  """Returns the examples of one task whose weight is not 0."""
  counted = example_weights.counts(weight)
  if counted is None:
    return x, y
  return tf.nest.map_structure(lambda t: tf.boolean_mask(t, counted), (x, y))


def _uses_samples(
  learners: Sequence[meta_learner.MetaLearner], shape: Any
) -> bool:
  """Returns whether the likelihood is a mixture over samples of the weights."""
  learner, *others = learners
  regression = learner.target_kind is Targets.NUMBERS
  compared = measurements.compares_outputs(learner, shape)
  return learner.probabilistic and regression and compared and not others


def _along_path(
  learner: Any,
  tasks: tuple[Any, ...],
  weights: dict[str, tf.Tensor],
  first: tf.Tensor,
  how: passes.Prediction,
  *,
  of_samples: bool,
) -> dict[str, tf.Tensor]:
  """Returns outputs `[T, P, Q, ...]`, before and after each inner step.

  With `of_samples`, also `nll`, `[T, P]`: the negative log-likelihoods of the
  targets under the mixture of all samples of the weights.
  """

  def at_point(
    weights: Any, query_x: tf.Tensor, query_y: tf.Tensor, context: Any
  ) -> dict[str, tf.Tensor]:
    def predict(x: Any, context: Any) -> tf.Tensor:
      if not of_samples:
        return learner.predict_with(weights, x, context)
      # Passes follow each other along the first axis.
      return _swapped(learner.predict_samples(weights, x, context))

    outputs = passes.in_passes(predict, query_x, context, how.queries_at_once)
    if not of_samples:
      return {"outputs": outputs}
    outputs = _swapped(outputs)
    stddevs = learner.noise_stddevs(weights, how.noise_stddev)
    nll = metrics.mixture_negative_log_likelihood(
      query_y, outputs, stddevs, weight=context.query_weight
    )
    return {"outputs": learner.mean_prediction(outputs), "nll": nll}

  def one_task(
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
    context: Any,
  ) -> dict[str, tf.Tensor]:
    context = context.for_task(learner, support_x, support_y, query_x)
    path = learner.adaptation_path(support_x, support_y, context)
    points = [at_point(w, query_x, query_y, context) for w in path]
    return {k: tf.stack([p[k] for p in points]) for k in points[0]}

  return learner.for_each_task(
    one_task, tasks, first=first, weights=weights, context=how.context
  )


def _swapped(x: tf.Tensor) -> tf.Tensor:
  """Returns a tensor with its first two axes swapped."""
  return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])


def _measure_all(
  measure: Callable[..., dict[str, tf.Tensor]],
  tasks: tf.data.Dataset,
  verbose: int,
) -> dict[str, np.ndarray]:
  """Returns the measurements of all tasks, `[T, ...]` float64.

  `confidence` and `right` hold one number for each query of all tasks.
  """
  batches = int(tasks.cardinality())
  bar = keras.utils.Progbar(batches if batches >= 0 else None, verbose=verbose)
  rows: list[dict[str, np.ndarray]] = []
  done = 0
  for batch in tasks:
    measured = measure(tf.constant(done), *batch)
    rows.append({k: v.numpy().astype("float64") for k, v in measured.items()})
    _flatten_queries(rows[-1])
    _mark_missing(rows[-1], done)
    done += len(rows[-1]["sizes"])
    _drop_empty_tasks(rows[-1])
    bar.update(len(rows), finalize=False if batches < 0 else None)
  if not any(len(row["sizes"]) for row in rows):
    raise ValueError(
      "There must be at least one task with queries to evaluate on. Received: "
      f"tasks={tasks}, which has none"
    )
  return {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}


def _drop_empty_tasks(measured: dict[str, np.ndarray]) -> None:
  """Leaves out the tasks of which no query counts."""
  kept = measured["sizes"][:, 1] > 0
  for name in set(measured) - {"confidence", "right"}:
    measured[name] = measured[name][kept]


def _flatten_queries(measured: dict[str, np.ndarray]) -> None:
  """Replaces what is known of each query by one row for all queries.

  Only the queries that count are kept, after adapting. Their number may differ
  from batch to batch.
  """
  # Positive weights all count the same here.
  if "counted" not in measured:
    return
  counted = measured.pop("counted")[:, -1] > 0
  for key in ("confidence", "right"):
    measured[key] = measured[key][:, -1][counted]


def _mark_missing(measured: dict[str, np.ndarray], first: int) -> None:
  """Makes all figures of tasks whose outputs are not numbers NaN, and warns.

  Such outputs would count as predictions of the first class.
  """
  first_of = next(n for n in ("mse", "loss", "nll") if n in measured)
  values = measured[first_of]
  bad = np.isnan(values)
  if not bad.any():
    return
  for name in ("accuracy", "brier", "bins", "nll"):
    if name in measured:
      measured[name][bad] = np.nan
  if "right" in measured:
    measured["right"][np.isnan(measured["confidence"])] = np.nan
  task, point = np.argwhere(bad)[0]
  warnings.warn(
    "The outputs for every task must be numbers, or the figures that depend on "
    "them are NaN: data or weights hold NaN or inf, or inner steps are too "
    f"long. Received: NaN for task {first + task} at point {point} of its path",
    stacklevel=4,
  )


def _after_steps(points: int, steps: int) -> tuple[int, ...]:
  """Returns the number of inner steps taken at each point of the path."""
  return (0, steps or 1) if points == 2 else tuple(range(points))


def _selective(measured: dict[str, np.ndarray]) -> np.ndarray:
  """Returns the accuracy by coverage, on all queries after adapting."""
  return metrics.selective_accuracy(measured["confidence"], measured["right"])


def _pooled_ece(bins: np.ndarray) -> np.ndarray:
  """Returns the calibration error over the queries of all tasks."""
  return metrics.expected_calibration_error(bins.sum(axis=0)).numpy()
