"""Which task, training step and mode the inner loop is running in."""

from collections.abc import Callable
import dataclasses
import inspect
from typing import Any

import tensorflow as tf

from tfmeta.core import random


@dataclasses.dataclass(frozen=True)
class Context:
  """Which task, training step and mode the inner loop is running in.

  Every method that an algorithm writes takes one as its last argument. The
  default, `tfmeta.EVALUATION`, means a prediction outside of training; the
  default of `task_loss`, `tfmeta.FIRST_STEP`, means the first training step.

  Attributes:
    training: Whether the inner loop runs inside a training step.
    step: Integer, the training step; -1 outside of training.
    index: Integer, the index of the task within its training step, over all
      replicas. Outside of training, learners that sample weights replace it by
      a fingerprint of the support set.
    phase: Integer, how many of the learner's `phase_starts` have passed. It is
      known when the step is traced; 0 outside of training.
    sample: Integer, which of several samples of the weights for the task is
      being computed; `None` for what all samples share.
  """

  training: bool = False
  step: Any = -1
  index: Any = 0
  phase: int = 0
  sample: Any = None

  def replace(self, **changes: Any) -> "Context":
    """Returns a copy with some attributes changed."""
    return dataclasses.replace(self, **changes)

  def call(self, fn: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `fn`, with this context if it has an argument `context`."""
    if "context" in inspect.signature(fn).parameters:
      return fn(*arguments, context=self)
    return fn(*arguments)

  def seed_from(self, seed: int) -> tf.Tensor:
    """Returns a seed that no other task, step or sample shares.

    Args:
      seed: Integer, the `seed` of the learner.

    Returns:
      Integers `[2]`, into which `tfmeta.core.fold_in` folds further counters.
    """
    step = tf.cast(self.step, tf.int32)
    base = tf.stack([tf.constant(seed, tf.int32), step])
    of_task = random.fold_in(base, self.index)
    if self.sample is None:
      return of_task
    return random.fold_in(of_task, self.sample)


EVALUATION = Context()
FIRST_STEP = Context(training=True, step=0)
