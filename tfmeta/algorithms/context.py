"""The task, training step and mode that the inner loop is running in."""

from collections.abc import Callable
import dataclasses
import inspect
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import functional
from tfmeta.core import random
from tfmeta.core.frozen_body import Features


@dataclasses.dataclass(frozen=True, repr=False)
class Context:
  """The task, training step and mode that the inner loop is running in.

  The methods that an algorithm writes take a context as their last argument. It
  usually defaults to `tfmeta.EVALUATION`, a prediction outside of training. In
  `task_loss`, it defaults to `tfmeta.FIRST_STEP`, the first training step.

  Attributes:
    training: Whether the inner loop runs inside a training step.
    step: Integer, the training step, counted from 0; -1 outside of training.
    index: Integer, the index of the task within its batch, counted over all
      replicas. Outside of training, a fingerprint of the support set replaces
      it if random numbers matter: see `for_support`.
    phase: Integer, the number of the learner's `phase_starts` that have passed;
      0 outside of training. It is a Python integer, so each phase has a graph
      of its own.
    sample: Integer, the index of the sample of the weights that is being
      computed, or `None` for computations that all samples share.
    support_weight: Weights `[S]` of the support examples, or `None`: all count
      the same. An example of weight 0 changes nothing.
    query_weight: Weights `[Q]` of the query examples, or `None`.
    normalization: Which statistics normalize queries: `"support_stats"` in
      place of the learner's `normalization`, or `None`, which keeps that.
    features: What the frozen first layers of the model make of the examples, or
      `None` if this is not known.
  """

  training: bool = False
  step: Any = -1
  index: Any = 0
  phase: int = 0
  sample: Any = None
  support_weight: Any = None
  query_weight: Any = None
  normalization: str | None = None
  features: Features | None = None

  def __repr__(self) -> str:
    # Signatures show their defaults, which have names.
    for name, known in _NAMED.items():
      if self is known:
        return f"tfmeta.{name}"
    changed = [
      f"{field.name}={value!r}"
      for field in dataclasses.fields(self)
      if (value := getattr(self, field.name)) is not field.default
    ]
    return f"Context({', '.join(changed)})"

  def replace(self, **changes: Any) -> "Context":
    """Returns a copy with some attributes changed."""
    return dataclasses.replace(self, **changes)

  def with_features(self, model: keras.Model, *examples: Any) -> "Context":
    """Returns a context that knows the features of some examples.

    A context that knows features already is returned as it is.

    Args:
      model: The learner's model.
      *examples: Examples `[n, ...]` of the task.
    """
    if self.features is not None:
      return self
    return self.replace(features=Features(model, *examples))

  def examples(self, x: Any) -> Any:
    """Returns examples as `tfmeta.core.apply` takes them at the least cost."""
    return x if self.features is None else self.features.of(x)

  def for_task(
    self, learner: Any, support_x: Any, support_y: Any, query_x: Any
  ) -> "Context":
    """Returns a context for adapting to one task and predicting its queries.

    Args:
      learner: A `MetaLearner`.
      support_x: Support examples, `[S, ...]`.
      support_y: Support targets, `[S, ...]`.
      query_x: Queries, `[Q, ...]`.
    """
    context = self.with_features(learner.model, support_x, query_x)
    return context.for_support(learner, support_x, support_y)

  def for_support(
    self, learner: Any, support_x: Any, support_y: Any
  ) -> "Context":
    """Returns the context whose random numbers belong to a support set.

    Outside of training, what a learner answers then depends neither on the
    place of a task in its batch nor on the order of the support examples.

    Args:
      learner: A `MetaLearner`. If it has no random layers and no mini-batches,
        this context is returned.
      support_x: Support examples, `[S, ...]`.
      support_y: Support targets, `[S, ...]`.
    """
    uses_random = learner.support_batch_size or functional.is_random(
      learner.model
    )
    if self.training or not uses_random:
      return self
    # The fingerprint is the first to read the support set, so it needs the
    # check.
    x, y = learner.checked_support(support_x, support_y)
    return self.replace(index=random.fingerprint(x, y, self.support_weight))

  def call(self, fn: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `fn`, and passes this context if `fn` has an argument `context`."""
    if "context" in inspect.signature(fn).parameters:
      return fn(*arguments, context=self)
    return fn(*arguments)

  def normalization_of(self, learner: Any) -> str:
    """Returns the normalization of queries, by default that of the learner."""
    return self.normalization or learner.normalization

  def seed_from(self, seed: int) -> tf.Tensor:
    """Returns the seed that belongs to this step, task and sample.

    Args:
      seed: Integer, the `seed` of the learner.

    Returns:
      Integers `[2]`. For further seeds, fold counters into them with
      `tfmeta.core.fold_in`.
    """
    step = tf.cast(self.step, tf.int32)
    base = tf.stack([tf.constant(seed, tf.int32), step])
    of_task = random.fold_in(base, self.index)
    if self.sample is None:
      return of_task
    return random.fold_in(of_task, self.sample)


EVALUATION = Context()
FIRST_STEP = Context(training=True, step=0)
_NAMED = {"EVALUATION": EVALUATION, "FIRST_STEP": FIRST_STEP}
