"""Many training steps as one program of XLA."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Of the batches in a call, which lie in memory twice.
_MOST_BYTES = 64 * 2**20

Step = Callable[[Any], Any]
TrainFunction = Callable[[Any], Any]


def can_serve(model: keras.Model) -> bool:
  """Whether `model` asks for XLA and for several steps in a call."""
  many = model.distribute_strategy.num_replicas_in_sync > 1
  eager = model.run_eagerly or tf.config.functions_run_eagerly()
  several = model.steps_per_execution > 1 and not eager
  return bool(model.jit_compile) and several and not many


def in_one_program(
  step: Step, count: int, otherwise: TrainFunction
) -> TrainFunction:
  """Returns a train function that compiles the loop over steps with XLA.

  Where a step is short, what it takes to start a program takes longer than the
  step. Keras compiles the step, and its loop starts that for each batch. Here
  the batches are gathered first, which is why they must be small, and one
  program goes through them.

  Args:
    step: `train_step` of a Keras model that has one replica.
    count: Integer >= 2, steps in each call.
    otherwise: The train function of Keras, for data that can not be stacked:
      batches whose shape is not known in advance, those of a strategy, and
      those of which `count` are more than 64 MiB.

  Returns:
    A function of an iterator, which makes up to `count` steps and returns what
    the last one did. It raises `StopIteration` where no data are left.
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
  """Stacks up to `count` batches, and says how many there were."""
  like = iterator.element_spec
  arrays = [
    tf.TensorArray(spec.dtype, size=count, element_shape=spec.shape)
    for spec in tf.nest.flatten(like)
  ]

  def body(i: tf.Tensor, following: Any, arrays: Any) -> Any:
    batch = tf.nest.flatten(following.get_value())
    arrays = [a.write(i, t) for a, t in zip(arrays, batch, strict=True)]
    # The batch after the last is left for the next call.
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
  """What the last of `made` steps returns."""
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
