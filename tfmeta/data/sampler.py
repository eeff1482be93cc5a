"""Draws tasks: task i is a pure function of the data, the seed and i.

All draws are stateless (Philox), keyed by the seed, a salt that names the data
set's split, and the task's index. So a dataset may start at any index without
computing the tasks before it, and two runs with one seed see the same tasks.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses

import numpy as np
import tensorflow as tf

from tfmeta.data import task

ALGORITHM = "philox"


def task_dataset(
  draw: Callable[[tf.Tensor], task.TaskElement],
  *,
  seed: int,
  start: int,
  salt: int = 0,
) -> tf.data.Dataset:
  """Returns the infinite dataset of `draw(key)`, one key per task index.

  Args:
    draw: From a key, int64 `[2]`, to a task's element.
    seed: Integer in `[0, 2**63)`.
    start: Integer in `[0, 2**63)`, the index of the first task.
    salt: Integer that tells apart the splits of one data set. Default 0.

  Returns:
    A `tf.data.Dataset` of single tasks, in order of their index.
  """
  check_index("seed", seed)
  check_index("start", start)
  root = tf.constant([seed, salt], tf.int64)
  indices = tf.data.Dataset.counter(start=start, dtype=tf.int64)
  tasks = indices.map(
    lambda index: draw(fold(root, index)),
    num_parallel_calls=tf.data.AUTOTUNE,
    deterministic=True,
  ).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
  # Each of several workers takes its share of every batch.
  options = tf.data.Options()
  options.experimental_distribute.auto_shard_policy = (
    tf.data.experimental.AutoShardPolicy.DATA
  )
  return tasks.with_options(options)


def fold(key: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
  """Returns the key, int64 `[2]`, made of `key` and an int64 scalar."""
  return tf.random.fold_in(key, data, alg=ALGORITHM)


def split(key: tf.Tensor, num: int) -> list[tf.Tensor]:
  """Returns `num` independent keys made of one."""
  return tf.unstack(tf.random.split(key, num, alg=ALGORITHM))


def uniform(
  key: tf.Tensor, shape: Sequence[int], low: float, high: float
) -> tf.Tensor:
  """Draws float32 numbers, uniform in `[low, high)`."""
  return tf.random.stateless_uniform(shape, key, low, high, alg=ALGORITHM)


def choose(key: tf.Tensor, sizes: tf.Tensor, count: int) -> tf.Tensor:
  """Draws `count` different numbers below each size, in random order.

  Args:
    key: int64 `[2]`.
    sizes: int32 `[n]`, each at least `count`.
    count: Integer.

  Returns:
    int32 `[n, count]`; row r holds different numbers in `[0, sizes[r])`. Time
    and memory grow with `n * max(sizes)`.
  """
  largest = tf.reduce_max(sizes)
  shape = tf.stack([tf.size(sizes), largest])
  ranks = tf.random.stateless_uniform(
    shape, key, minval=None, maxval=None, dtype=tf.int32, alg=ALGORITHM
  )
  # top_k prefers the lower of equal ranks, and what is masked stands last.
  allowed = tf.range(largest) < sizes[:, tf.newaxis]
  ranks = tf.where(allowed, ranks, tf.int32.min)
  return tf.ensure_shape(
    tf.math.top_k(ranks, count).indices, [sizes.shape[0], count]
  )


def layout(key: tf.Tensor, spec: task.TaskSpec) -> tuple[tf.Tensor, tf.Tensor]:
  """Draws the order in which a task shows its examples.

  The support examples come in random order, and so do the query examples: the
  order tells nothing of the labels, and any part of the support set taken from
  the front is a fair mini-batch.

  Args:
    key: int64 `[2]`.
    spec: A `TaskSpec`; regression counts as one class.

  Returns:
    Two int32 tensors `[S + Q]`, support first: for every example its place in
    the class-major list of the task's `ways * examples_per_class` examples,
    and its label in `[0, ways)`.
  """
  per_class = spec.examples_per_class
  places = np.arange((spec.ways or 1) * per_class, dtype=np.int32)
  is_support = places % per_class < spec.shots
  parts = zip(split(key, 2), (is_support, ~is_support), strict=True)
  order = tf.concat(
    [_shuffle(part_key, places[mask]) for part_key, mask in parts],
    axis=0,
  )
  return order, order // per_class


def _shuffle(key: tf.Tensor, values: np.ndarray) -> tf.Tensor:
  sizes = tf.constant([len(values)], tf.int32)
  return tf.gather(values, choose(key, sizes, len(values))[0])


@dataclasses.dataclass(frozen=True)
class ClassTable:
  """Which rows of the data belong to which class.

  Attributes:
    rows: int64 `[N]`, row numbers, those of one class side by side.
    first: int64 `[classes]`, where in `rows` a class begins.
    sizes: int32 `[classes]`, examples per class.
    variants: Integer >= 1. Classes `v * variants` to `v * variants +
      variants - 1` are forms of one class, of which a task shows one at most.
  """

  rows: tf.Tensor
  first: tf.Tensor
  sizes: tf.Tensor
  variants: int = 1

  @classmethod
  def from_labels(
    cls, labels: np.ndarray, *, classes: int, variants: int = 1
  ) -> "ClassTable":
    """Sorts rows by label, int `[N]` in `[0, classes)`."""
    sizes = np.bincount(labels, minlength=classes)
    with tf.device("CPU"):
      return cls(
        rows=tf.constant(np.argsort(labels, kind="stable"), tf.int64),
        first=tf.constant(np.cumsum(sizes) - sizes, tf.int64),
        sizes=tf.constant(sizes, tf.int32),
        variants=variants,
      )

  def draw(self, key: tf.Tensor, *, ways: int, per_class: int) -> tf.Tensor:
    """Draws rows, int64 `[ways, per_class]`: other classes, other examples."""
    class_key, variant_key, example_key = split(key, 3)
    groups = self.sizes.shape[0] // self.variants
    chosen = choose(class_key, tf.constant([groups], tf.int32), ways)[0]
    chosen = chosen * self.variants + tf.random.stateless_uniform(
      [ways], variant_key, 0, self.variants, tf.int32, alg=ALGORITHM
    )
    places = choose(example_key, tf.gather(self.sizes, chosen), per_class)
    begin = tf.gather(self.first, chosen)[:, tf.newaxis]
    return tf.gather(self.rows, begin + tf.cast(places, tf.int64))


def draw_rows(
  key: tf.Tensor, table: ClassTable, spec: task.TaskSpec
) -> tuple[tf.Tensor, tf.Tensor]:
  """Draws a task's rows and labels, `[S + Q]` each, support first."""
  row_key, layout_key = split(key, 2)
  rows = table.draw(
    row_key, ways=spec.ways or 1, per_class=spec.examples_per_class
  )
  order, labels = layout(layout_key, spec)
  return tf.gather(tf.reshape(rows, [-1]), order), labels


def classification_tasks(
  read: Callable[[tf.Tensor], tf.Tensor],
  table: ClassTable,
  spec: task.TaskSpec,
  *,
  seed: int,
  start: int,
  salt: int = 0,
) -> tf.data.Dataset:
  """Returns the tasks that `read`, from rows to inputs, and `table` give."""

  def draw(key: tf.Tensor) -> task.TaskElement:
    rows, labels = draw_rows(key, table, spec)
    return task.to_element(read(rows), labels, spec)

  return task_dataset(draw, seed=seed, start=start, salt=salt)


def check_classes(
  sizes: np.ndarray, names: Sequence[object], spec: task.TaskSpec
) -> None:
  """Refuses data that cannot fill a task of `spec`."""
  if len(sizes) < (spec.ways or 1):
    raise ValueError(
      f"The data has {len(sizes)} classes, fewer than the {spec.ways} ways of "
      f"a task. Received: spec={spec}"
    )
  smallest = int(np.argmin(sizes))
  if sizes[smallest] < spec.examples_per_class:
    raise ValueError(
      f"Class {names[smallest]!r} has {sizes[smallest]} examples, fewer than "
      f"shots + query_shots = {spec.examples_per_class}; support and query "
      f"never share one. Received: spec={spec}"
    )


def check_index(name: str, value: int) -> None:
  """Refuses what is no integer in `[0, 2**63)`."""
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}")
  if not 0 <= value < 2**63:
    raise ValueError(
      f"`{name}` must be in [0, 2**63). Received: {name}={value}"
    )


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
  """Refuses a value that is not among the choices, and lists them."""
  if value not in choices:
    raise ValueError(
      f"`{name}` must be one of {', '.join(map(repr, choices))}. "
      f"Received: {name}={value!r}"
    )
