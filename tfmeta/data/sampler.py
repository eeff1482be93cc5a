"""Samples tasks: task i is a pure function of the data, the seed and i.

All random numbers are stateless (Philox). Their key is made of the seed, a salt
that identifies the split, and the index of the task or of its block. A dataset
can therefore start at any index without computing the tasks of earlier blocks,
and two runs with the same seed see the same tasks.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta.data import task

# Seeds and task indices are int64 and not negative.
LARGEST_INDEX = 2**63 - 1

# Tasks of a block. Another number would change every task.
BLOCK = 64

# The default algorithm depends on the device and on XLA.
_ALGORITHM = "philox"


def task_dataset(
  sample: Callable[[tf.Tensor], Any],
  *,
  seed: int,
  start: int,
  salt: int = 0,
  in_blocks: bool = False,
) -> tf.data.Dataset:
  """Returns the infinite dataset of `sample(key)`, one key per task or block.

  Where a task is a few numbers, its operations take longer to start than to
  run, and longer than the learner takes for the task. A block starts them once
  for all of its tasks.

  Args:
    sample: Function from a key, int64 `[2]`, to the element of a task, or to
      the elements of `BLOCK` tasks, stacked along axis 0. It is traced without
      AutoGraph.
    seed: Integer in [0, 2**63).
    start: Integer in [0, 2**63), the index of the first task.
    salt: Integer that differs between the splits of a data set. Defaults to 0.
    in_blocks: Whether `sample` returns a block of tasks. Defaults to `False`.

  Returns:
    A `tf.data.Dataset` of single tasks, in the order of their index.

  Raises:
    TypeError: If `seed` or `start` is not an integer.
    ValueError: If `seed` or `start` is out of range.
  """
  arguments.check_integer("seed", seed, 0, LARGEST_INDEX)
  arguments.check_integer("start", start, 0, LARGEST_INDEX)
  root = tf.constant([seed, salt], tf.int64)
  first, skipped = divmod(start, BLOCK) if in_blocks else (start, 0)

  # AutoGraph would convert each function that is called here, for seconds, and
  # none has control flow of Python that depends on tensors.
  @tf.autograph.experimental.do_not_convert
  def sample_index(index: tf.Tensor) -> Any:
    return sample(fold_in(root, index))

  tasks = tf.data.Dataset.counter(start=first, dtype=tf.int64).map(
    sample_index, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  )
  if in_blocks:
    tasks = tasks.unbatch().skip(skipped)
  tasks = tasks.apply(
    tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
  )
  # Sharding by data lets each worker take its share of every batch. The
  # default first looks for files to divide, and there are none.
  options = tf.data.Options()
  options.experimental_distribute.auto_shard_policy = (
    tf.data.experimental.AutoShardPolicy.DATA
  )
  return tasks.with_options(options)


def fold_in(key: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
  """Returns a key, int64 `[2]`, made of `key` and an int64 scalar."""
  return tf.random.fold_in(key, data, alg=_ALGORITHM)


def split_key(key: tf.Tensor, num: int) -> list[tf.Tensor]:
  """Returns `num` independent keys made of one key."""
  return tf.unstack(tf.random.split(key, num, alg=_ALGORITHM))


def uniform(
  key: tf.Tensor, shape: Sequence[int], low: float, high: float
) -> tf.Tensor:
  """Samples float32 numbers, uniform in `[low, high)`."""
  return tf.random.stateless_uniform(shape, key, low, high, alg=_ALGORITHM)


def uniform_integers(
  key: tf.Tensor,
  shape: Sequence[int],
  limit: int,
  dtype: tf.DType = tf.int32,
) -> tf.Tensor:
  """Samples integers, uniform in `[0, limit)`."""
  return tf.random.stateless_uniform(
    shape, key, 0, limit, dtype, alg=_ALGORITHM
  )


def normal(key: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
  """Samples float32 numbers from the standard normal distribution."""
  return tf.random.stateless_normal(shape, key, alg=_ALGORITHM)


def choose(key: tf.Tensor, sizes: tf.Tensor, count: int) -> tf.Tensor:
  """Samples `count` different numbers below each size, in random order.

  Args:
    key: int64 `[2]`.
    sizes: int32 `[n]`, each at least `count`.
    count: Integer >= 1.

  Returns:
    int32 `[n, count]`; row r holds different numbers in `[0, sizes[r])`. Time
    and memory grow with `n * max(sizes)`.
  """
  largest = tf.reduce_max(sizes)
  shape = tf.stack([tf.size(sizes), largest])
  # The positions of the largest of many random integers are a sample without
  # replacement. TensorFlow has no such operation of its own.
  ranks = tf.random.stateless_uniform(
    shape, key, minval=None, maxval=None, dtype=tf.int32, alg=_ALGORITHM
  )
  # Numbers beyond a row's size get the lowest rank. `top_k` prefers the lower
  # position among equal ranks, so they come last even in a tie.
  allowed = tf.range(largest) < sizes[:, tf.newaxis]
  ranks = tf.where(allowed, ranks, tf.int32.min)
  return tf.ensure_shape(
    tf.math.top_k(ranks, count).indices, [sizes.shape[0], count]
  )


def sample_order(
  key: tf.Tensor, spec: task.TaskSpec
) -> tuple[tf.Tensor, tf.Tensor]:
  """Samples the order in which a task presents its examples.

  The support examples are in random order, and so are the query examples. The
  order therefore reveals nothing about the labels, and the first n support
  examples are an unbiased mini-batch.

  Args:
    key: int64 `[2]`.
    spec: A `TaskSpec`; a regression counts as one class.

  Returns:
    Two int32 tensors `[S + Q]`, support first. The first holds the position of
    each example in the list of the task's `ways * examples_per_class` examples,
    which is sorted by class. The second holds its label in `[0, ways)`.
  """
  per_class = spec.examples_per_class
  positions = np.arange((spec.ways or 1) * per_class, dtype=np.int32)
  # The first `shots` examples of each class are its support examples.
  is_support = positions % per_class < spec.shots
  parts = zip(split_key(key, 2), (is_support, ~is_support), strict=True)
  order = tf.concat(
    [_shuffle(part_key, positions[mask]) for part_key, mask in parts],
    axis=0,
  )
  return order, order // per_class


def _shuffle(key: tf.Tensor, values: np.ndarray) -> tf.Tensor:
  sizes = tf.constant([len(values)], tf.int32)
  return tf.gather(values, choose(key, sizes, len(values))[0])


@dataclasses.dataclass(frozen=True)
class ClassTable:
  """The examples of each class.

  Attributes:
    examples: int64 `[N]`, indices of examples, grouped by class.
    first: int64 `[classes]`, the position in `examples` where a class begins.
    sizes: int32 `[classes]`, examples per class.
    variants: Integer >= 1. Classes `v * variants` to `v * variants +
      variants - 1` are variants of one class, such as its rotations. A task
      contains at most one of them.
  """

  examples: tf.Tensor
  first: tf.Tensor
  sizes: tf.Tensor
  variants: int = 1

  @classmethod
  def from_labels(
    cls, labels: np.ndarray, *, classes: int, variants: int = 1
  ) -> "ClassTable":
    """Groups examples by label.

    Args:
      labels: Integers `[N]` in `[0, classes)`.
      classes: Integer >= 1, the number of classes.
      variants: Integer >= 1, a divisor of `classes`. Defaults to 1.
    """
    sizes = np.bincount(labels, minlength=classes)
    # `tf.data` reads the table on the CPU, whatever the default device.
    with tf.device("CPU"):
      return cls(
        examples=tf.constant(np.argsort(labels, kind="stable"), tf.int64),
        first=tf.constant(np.cumsum(sizes) - sizes, tf.int64),
        sizes=tf.constant(sizes, tf.int32),
        variants=variants,
      )

  def sample(self, key: tf.Tensor, *, ways: int, per_class: int) -> tf.Tensor:
    """Samples the examples of a task.

    Args:
      key: int64 `[2]`.
      ways: Integer, how many different classes.
      per_class: Integer, how many different examples of each.

    Returns:
      Indices of examples, int64 `[ways, per_class]`.
    """
    class_key, variant_key, example_key = split_key(key, 3)
    groups = self.sizes.shape[0] // self.variants
    chosen = choose(class_key, tf.constant([groups], tf.int32), ways)[0]
    chosen = chosen * self.variants + uniform_integers(
      variant_key, [ways], self.variants
    )
    positions = choose(example_key, tf.gather(self.sizes, chosen), per_class)
    first = tf.gather(self.first, chosen)[:, tf.newaxis]
    return tf.gather(self.examples, first + tf.cast(positions, tf.int64))


def sample_examples(
  key: tf.Tensor, table: ClassTable, spec: task.TaskSpec
) -> tuple[tf.Tensor, tf.Tensor]:
  """Samples the examples and labels of a task.

  Args:
    key: int64 `[2]`.
    table: A `ClassTable`.
    spec: A `TaskSpec`; a regression counts as one class.

  Returns:
    Indices of examples, int64 `[S + Q]`, and their labels in the task, int32
    `[S + Q]`, support first.
  """
  example_key, order_key = split_key(key, 2)
  examples = table.sample(
    example_key, ways=spec.ways or 1, per_class=spec.examples_per_class
  )
  order, labels = sample_order(order_key, spec)
  return tf.gather(tf.reshape(examples, [-1]), order), labels


def classification_tasks(
  read: Callable[[tf.Tensor], tf.Tensor],
  table: ClassTable,
  spec: task.TaskSpec,
  *,
  seed: int,
  start: int,
  salt: int = 0,
) -> tf.data.Dataset:
  """Returns the infinite dataset of classification tasks from a `ClassTable`.

  Args:
    read: Function from indices of examples, int64 `[n]`, to inputs `[n, ...]`.
    table: A `ClassTable`.
    spec: A `TaskSpec` with `ways` set.
    seed: Integer in [0, 2**63).
    start: Integer in [0, 2**63), the index of the first task.
    salt: Integer that differs between the splits of a data set. Defaults to 0.
  """

  def sample_task(key: tf.Tensor) -> task.TaskElement:
    examples, labels = sample_examples(key, table, spec)
    return task.to_element(read(examples), labels, spec)

  return task_dataset(sample_task, seed=seed, start=start, salt=salt)


def check_classes(
  sizes: np.ndarray, names: Sequence[object], spec: task.TaskSpec
) -> None:
  """Checks that the data has enough classes and examples for a task.

  Args:
    sizes: Examples per class, `[classes]`.
    names: Names of the classes, for the message.
    spec: A `TaskSpec`.

  Raises:
    ValueError: If there are fewer classes than ways, or if a class has fewer
      than `shots + query_shots` examples.
  """
  if len(sizes) < (spec.ways or 1):
    found = arguments.counted(len(sizes), "class", "classes")
    raise ValueError(
      f"The data has {found}, fewer than the {spec.ways} ways of a task. "
      f"Received: spec={spec}"
    )
  smallest = int(np.argmin(sizes))
  if sizes[smallest] < spec.examples_per_class:
    found = arguments.counted(sizes[smallest], "example", "examples")
    raise ValueError(
      f"Class {names[smallest]!r} has {found}, fewer than "
      f"shots + query_shots = {spec.examples_per_class}. Support and query "
      f"never share an example. Received: spec={spec}"
    )
