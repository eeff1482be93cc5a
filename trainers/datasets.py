"""The tasks of a run, by the name of the data set."""

import os

import tensorflow as tf

import tfmeta
from trainers import class_folders

# Tasks that figures are measured on are the same for every run and algorithm.
EVALUATION_SEED = 0

_NAMES = ("glyphs", "omniglot", "sinusoid")


def training_tasks(settings, *, start=0) -> tf.data.Dataset:
  """Batches of training tasks, without end, from update `start` on."""
  spec = tfmeta.TaskSpec(
    ways=settings.ways,
    shots=settings.train_shots or settings.shots,
    query_shots=settings.train_query_shots or settings.query_shots,
  )
  size = settings.meta_batch_size
  tasks = _tasks(
    settings, "train", spec, seed=settings.seed, start=start * size
  )
  return tasks.batch(size, drop_remainder=True).prefetch(2)


def evaluation_tasks(settings, split, count) -> tf.data.Dataset:
  """The first `count` tasks of a split, in batches."""
  spec = tfmeta.TaskSpec(
    ways=settings.ways,
    shots=settings.shots,
    query_shots=settings.query_shots,
  )
  # Training tasks to be measured on must not be those of the training itself.
  seed = settings.seed + 1 if split == "train" else EVALUATION_SEED
  tasks = _tasks(settings, split, spec, seed=seed)
  return tasks.take(count).batch(min(count, 25)).prefetch(2)


def _tasks(settings, split, spec, **kwargs):
  size = {} if settings.size is None else {"size": settings.size}
  match settings.dataset:
    case "glyphs":
      return tfmeta.data.glyphs(split, spec, **kwargs)
    case "sinusoid":
      return tfmeta.data.sinusoid(split, spec, **kwargs)
    case "omniglot":
      return tfmeta.data.omniglot(
        split,
        spec,
        data_dir=settings.data_dir,
        rotations=settings.rotations,
        **size,
        **kwargs,
      )
  if not os.path.isdir(os.path.expanduser(settings.dataset)):
    raise ValueError(
      f"`dataset` must be one of {', '.join(_NAMES)} or a directory with a "
      f"folder of images for each class. Received: dataset={settings.dataset!r}"
    )
  return tfmeta.data.tasks_from_directory(
    class_folders.folder_of(settings, split),
    spec,
    channels=settings.channels,
    **size,
    **kwargs,
  )
