"""What is measured of one task, at each point of its adaptation path."""

from collections.abc import Sequence
import math
from typing import Any

import tensorflow as tf

from tfmeta import metrics
from tfmeta.algorithms import meta_learner


def on_path(
  learner: Any,
  tasks: tuple[tf.Tensor, ...],
  first: tf.Tensor,
  noise_stddev: float | None,
  *,
  of_draws: bool,
) -> dict[str, tf.Tensor]:
  """Outputs `[T, P, Q, ...]` for the queries, before and after each step.

  With `of_draws` also `nll`, `[T, P]`: the negative log-likelihoods of targets
  under the mixture of all draws.
  """

  def at_point(
    weights: Any, query_x: tf.Tensor, query_y: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    if not of_draws:
      return {"outputs": learner.predict_with(weights, query_x)}
    drawn = learner.predict_samples(weights, query_x)
    stddevs = learner.noise_stddevs(weights, noise_stddev)
    nll = metrics.mixture_negative_log_likelihood(query_y, drawn, stddevs)
    return {"outputs": learner.mean_prediction(drawn), "nll": nll}

  def one_task(
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
  ) -> dict[str, tf.Tensor]:
    path = learner.adaptation_path(support_x, support_y)
    points = [at_point(w, query_x, query_y) for w in path]
    return {k: tf.stack([p[k] for p in points]) for k in points[0]}

  return learner.for_each_task(one_task, tasks, first=first)


def have_draws(
  learners: Sequence[meta_learner.MetaLearner], targets: tf.Tensor
) -> bool:
  """Whether the likelihood is that of several draws: regression, by one."""
  draws = hasattr(learners[0], "noise_stddevs") and len(learners) == 1
  return draws and not targets.dtype.is_integer


def measure_outputs(
  learner: meta_learner.MetaLearner,
  targets: tf.Tensor,
  outputs: tf.Tensor,
  noise_stddev: float | None,
) -> dict[str, tf.Tensor]:
  """Figures of outputs `[Q, ...]` for the queries of a task."""
  if not targets.dtype.is_integer:
    figures = {"mse": metrics.mean_squared_error(targets, outputs)}
    if noise_stddev is not None:
      figures["nll"] = metrics.mixture_negative_log_likelihood(
        targets, outputs[tf.newaxis], tf.constant([noise_stddev])
      )
    return figures
  from_logits = getattr(learner.inner_loss, "from_logits", True)
  logs = metrics.log_probabilities(outputs, from_logits=from_logits)
  return {
    "accuracy": metrics.accuracy(targets, outputs),
    "nll": metrics.negative_log_likelihood(targets, logs),
    "brier": metrics.brier_score(targets, tf.exp(logs)),
    "bins": metrics.calibration_bins(targets, tf.exp(logs)),
    "confidence": _log_odds(logs),
    "right": tf.cast(
      tf.equal(tf.argmax(logs, -1), tf.cast(targets, tf.int64)), tf.float32
    ),
  }


def _log_odds(logs: tf.Tensor) -> tf.Tensor:
  """Of the likeliest class; in order where its probability rounds to 1."""
  best = tf.one_hot(tf.argmax(logs, -1), tf.shape(logs)[-1], True, False)
  others = tf.where(best, tf.constant(-math.inf, logs.dtype), logs)
  return tf.reduce_max(logs, -1) - tf.reduce_logsumexp(others, -1)
