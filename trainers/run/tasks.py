"""The training and evaluation tasks of a run."""

import tensorflow as tf

import tfmeta
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
  spec = tfmeta.TaskSpec(
    ways=config.ways, shots=config.shots, query_shots=config.query_shots
  )
  # Results on the training split are measured on tasks that the training
  # itself does not see.
  seed = config.seed + 1 if split == "train" else EVALUATION_SEED
  tasks = data_sets.find(config.dataset).tasks(config, split, spec, seed=seed)
  return tasks.take(count).batch(min(count, _EVALUATION_BATCH)).prefetch(2)
