"""Several training steps as one XLA program."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# The batches of one call are in memory twice, so they must be small.
_MOST_BYTES = 64 * 2**20

Step = Callable[[Any], Any]
TrainFunction = Callable[[Any], Any]


def can_serve(model: keras.Model) -> bool:
  """Returns whether `in_one_program` can run the training steps of `model`.

  The model must be compiled for XLA and for several steps per execution, in
  graph mode and with a single replica.
  """
  many = model.distribute_strategy.num_replicas_in_sync > 1
  eager = model.run_eagerly or tf.config.functions_run_eagerly()
  several = model.steps_per_execution > 1 and not eager
  return bool(model.jit_compile) and several and not many


def in_one_program(
  step: Step, count: int, otherwise: TrainFunction
) -> TrainFunction:
  """Returns a train function that compiles the loop over steps with XLA.

  Keras compiles only the step, and starts that program for each batch. For a
  short step, starting the program takes longer than the step. This function
  first gathers the batches of a call, and then runs one program over all of
  them. The batches must be small, because they are in memory together.

  Args:
    step: `train_step` of a Keras model with one replica.
    count: Integer >= 2, the number of steps in each call.
    otherwise: The train function of Keras. It runs if batches cannot be
      stacked: if their shape is not known in advance, if they come from a
      strategy, or if `count` of them exceed 64 MiB.

  Returns:
    A function of an iterator. It makes up to `count` steps and returns the
    result of the last one. It raises `StopIteration` if no data are left.
  """
  gather = tf.function(
    lambda iterator: _gathered(iterator, count), autograph=False
  )
  run = tf.function(
    lambda batches, made: _loop(step, batches, made),
    autograph=False,
    jit_compile=True,
  )

  def train(iterator: Any) -> Any:
    if not _can_be_stacked(iterator, count):
      return otherwise(iterator)
    batches, made = gather(iterator)
    if not made:
      raise StopIteration
    return run(batches, made)

  return train


def _can_be_stacked(iterator: Any, count: int) -> bool:
  if not isinstance(iterator, tf.data.Iterator):
    return False
  specs = tf.nest.flatten(iterator.element_spec)
  if not all(isinstance(spec, tf.TensorSpec) for spec in specs):
    return False
  sizes = [spec.shape.num_elements() for spec in specs]
  if None in sizes:
    return False
  size = sum(n * spec.dtype.size for n, spec in zip(sizes, specs, strict=True))
  return count * size <= _MOST_BYTES


def _gathered(iterator: Any, count: int) -> tuple[Any, tf.Tensor]:
  """Stacks up to `count` batches, and returns them with their number."""
  like = iterator.element_spec
  arrays = [
    tf.TensorArray(spec.dtype, size=count, element_shape=spec.shape)
    for spec in tf.nest.flatten(like)
  ]

  def body(i: tf.Tensor, following: Any, arrays: Any) -> Any:
    batch = tf.nest.flatten(following.get_value())
    arrays = [a.write(i, t) for a, t in zip(arrays, batch, strict=True)]
    # After the last batch of this call, reading ahead would lose a batch of the
    # next call.
    following = tf.cond(
      i + 1 < count, iterator.get_next_as_optional, lambda: following
    )
    return i + 1, following, arrays

  made, _, arrays = tf.while_loop(
    lambda i, following, _: (i < count) & following.has_value(),
    body,
    (0, iterator.get_next_as_optional(), arrays),
  )
  return tf.nest.pack_sequence_as(like, [a.stack() for a in arrays]), made


def _loop(step: Step, batches: Any, made: tf.Tensor) -> Any:
  """Makes `made` steps, and returns the result of the last one."""
  # The trace of one step tells the structure of its result. The loop needs a
  # result of this structure before its first step.
  one = tf.function(step, autograph=False).get_concrete_function(
    tf.nest.map_structure(
      lambda t: tf.TensorSpec(t.shape[1:], t.dtype), batches
    )
  )
  nothing = tf.nest.map_structure(
    lambda t: tf.zeros(t.shape, t.dtype), one.structured_outputs
  )
  return tf.while_loop(
    lambda i, _: i < made,
    lambda i, _: (i + 1, one(tf.nest.map_structure(lambda t: t[i], batches))),
    (0, nothing),
  )[1]
