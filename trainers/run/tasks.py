"""The training and evaluation tasks of a run."""

import numpy as np
import tensorflow as tf

import tfmeta
from trainers.run import class_folders
from trainers.run import data_sets

# Every run and algorithm is measured on the same tasks.
EVALUATION_SEED = 0

# Most tasks in one batch of evaluation, which bounds its memory.
_EVALUATION_BATCH = 25


def training_tasks(config, *, start: int = 0) -> tf.data.Dataset:
  """Returns an infinite data set of batches of training tasks.

  Args:
    config: A `Configuration`.
    start: Number of updates that have been made. The first batch is the one of
      the next update, so that a resumed run sees the tasks that it would have
      seen without the interruption.
  """
  spec = tfmeta.TaskSpec(
    ways=config.ways,
    shots=config.train_shots or config.shots,
    query_shots=config.train_query_shots or config.query_shots,
  )
  size = config.meta_batch_size
  tasks = data_sets.find(config.dataset).tasks(
    config, "train", spec, seed=config.seed, start=start * size
  )
  return tasks.batch(size, drop_remainder=True).prefetch(2)


def evaluation_tasks(config, split: str, count: int) -> tf.data.Dataset:
  """Returns batches with the first `count` tasks of a split."""
  # Results on the training split are measured on tasks that the training
  # itself does not see.
  seed = config.seed + 1 if split == "train" else EVALUATION_SEED
  tasks = data_sets.find(config.dataset).tasks(
    config, split, _evaluation_spec(config), seed=seed
  )
  return tasks.take(count).batch(min(count, _EVALUATION_BATCH)).prefetch(2)


def class_names(config, split: str) -> list[str] | None:
  """Returns the names of the classes in the first evaluation task of a split.

  Only folders of images have names that mean something to their user; for other
  data sets, the result is `None`.

  Args:
    config: A `Configuration`.
    split: "validation" or "test".
  """
  if data_sets.find(config.dataset).function != "tasks_from_directory":
    return None
  sizes = tfmeta.data.count_images(class_folders.folder_of(config, split))
  numbers = np.repeat(np.arange(len(sizes)), [*sizes.values()])
  # A task depends on the number of images in each class, the seed and the
  # index alone. Where examples are numbers of classes, it tells which it took.
  tasks = tfmeta.data.tasks_from_arrays(
    numbers[:, np.newaxis].astype("float32"),
    numbers,
    _evaluation_spec(config),
    seed=EVALUATION_SEED,
  )
  ((inputs, _),) = tasks.take(1).as_numpy_iterator()
  taken = dict(
    zip(inputs["support_y"], inputs["support_x"][:, 0].astype(int), strict=True)
  )
  return [[*sizes][taken[label]] for label in range(config.ways)]


def _evaluation_spec(config) -> tfmeta.TaskSpec:
  return tfmeta.TaskSpec(
    ways=config.ways, shots=config.shots, query_shots=config.query_shots
  )
