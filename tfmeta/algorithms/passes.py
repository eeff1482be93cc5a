"""What a learner may know of the pass through one task that it is in."""

import dataclasses
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class TaskPass:
  """What the pass through one task may ask for besides the task.

  Attributes:
    training: Whether `task_loss` is under way.
    step: Integer; the training step, or -1 outside of training.
    index: Integer; which of the tasks of that step, over all replicas.
    phase: How many of the learner's `phase_starts` have passed; 0 outside of
      training. Known when the step is traced.
    sample: Integer; which of several draws for the task, or `None` for what
      they share.
  """

  training: bool
  step: Any
  index: Any
  phase: int = 0
  sample: Any = None


OUTSIDE = TaskPass(training=False, step=-1, index=0)


def step_of(optimizer: Any) -> tf.Tensor:
  """Count of batches seen: with gradient accumulation, more than updates."""
  optimizer = getattr(optimizer, "inner_optimizer", optimizer)
  return tf.convert_to_tensor(optimizer._iterations)
