"""Checks of what is to be evaluated."""

from typing import Any

import tensorflow as tf

from tfmeta.algorithms import meta_learner
from tfmeta.core import checks


def checked_learners(learner: Any) -> list[meta_learner.MetaLearner]:
  """The learners to evaluate together, one or several."""
  learners = list(learner) if isinstance(learner, list | tuple) else [learner]
  if not learners or not all(
    isinstance(x, meta_learner.MetaLearner) for x in learners
  ):
    raise TypeError(
      "`learner` must be a tfmeta.MetaLearner, such as tfmeta.MAML(model), or "
      f"a list of some. Received: learner={learner!r}"
    )
  for name in ("steps", "normalization"):
    found = {getattr(x, name) for x in learners}
    if len(found) > 1:
      raise ValueError(
        f"The learners of an ensemble must have the same `{name}`. "
        f"Received: {sorted(found)}"
      )
  return learners


def check_tasks(learner: meta_learner.MetaLearner, tasks: Any) -> None:
  """Checks that `tasks` are batches of tasks that `learner` can take."""
  if not isinstance(tasks, tf.data.Dataset):
    raise TypeError(
      "`tasks` must be a tf.data.Dataset of batches of tasks. "
      f"Received: tasks of type {type(tasks).__name__}"
    )
  if int(tasks.cardinality()) == tf.data.INFINITE_CARDINALITY:
    raise ValueError(
      "`tasks` must come to an end: use .take(n) for n batches of tasks. "
      f"Received: tasks={tasks}, which is infinite"
    )
  spec = tasks.element_spec
  if not isinstance(spec, tuple) or len(spec) != 2:
    raise ValueError(
      "Elements of `tasks` must be pairs (inputs, query_y). "
      f"Received: tasks.element_spec={spec}"
    )
  checks.check_inputs(spec[0], rank=len(learner.model.input_shape))
  _check_targets(learner, spec[1])


def _check_targets(learner: meta_learner.MetaLearner, targets: Any) -> None:
  rank = len(learner.model.output_shape) + 1
  if targets.dtype.is_integer:
    rank -= 1
  elif hasattr(learner.inner_loss, "from_logits"):
    raise ValueError(
      "Class labels must be integers to be evaluated. "
      f"Received: query_y of type {targets.dtype.name}"
    )
  if targets.shape.rank not in (None, rank):
    raise ValueError(
      f"query_y must have {rank} axes for a model with outputs "
      f"{learner.model.output_shape}: tasks, queries and, for regression, "
      f"outputs. Received: query_y of shape {targets.shape}"
    )


def check_noise(noise_stddev: Any, targets: Any) -> None:
  """Checks the standard deviation of regression targets, if there is one."""
  if noise_stddev is None:
    return
  number = isinstance(noise_stddev, int | float)
  if not number or not 0 < noise_stddev < float("inf"):
    raise ValueError(
      "`noise_stddev` must be a number above 0. "
      f"Received: noise_stddev={noise_stddev!r}"
    )
  if targets.dtype.is_integer:
    raise ValueError(
      "`noise_stddev` is for the targets of a regression. Received: "
      f"noise_stddev={noise_stddev} and labels of type {targets.dtype.name}"
    )
