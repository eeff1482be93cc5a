"""The tasks of a run, by the name of the data set."""

import math
import os

import tensorflow as tf

import tfmeta
from trainers.run import class_folders
from trainers.run import dataset_kinds
from trainers.run import drawings

# Tasks that figures are measured on are the same for every run and algorithm.
EVALUATION_SEED = 0

# Sinusoids as in the paper of BMAML.
_VARIED = {
  "phase": (0.0, 2 * math.pi),
  "frequency": (0.5, 2.0),
  "noise_stddev": 0.01,
  "relative_noise": True,
}


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


def check_end(settings) -> None:
  """Refuses before training what could not be evaluated after it.

  A directory is left out, as its images are read each time.
  """
  if settings.algorithm == "LEO" and not settings.is_embeddings:
    raise ValueError(
      "LEO takes embeddings: `dataset` must be a folder with "
      "train_embeddings.pkl, such as `python -m trainers.pretrain` writes: "
      f"runs/pretrain/embeddings. Received: dataset={settings.dataset!r}"
    )
  if settings.dataset in dataset_kinds.ALL:
    evaluation_tasks(settings, settings.eval_split, 1)


def _tasks(settings, split, spec, **kwargs):
  size = {} if settings.size is None else {"size": settings.size}
  match settings.dataset:
    case "glyphs":
      return tfmeta.data.glyphs(split, spec, **kwargs)
    case "sinusoid" | "varied_sinusoid":
      return _sinusoids(settings, split, spec, **kwargs)
    case "sinusoid_or_line":
      return tfmeta.data.sinusoid_or_line(split, spec, **kwargs)
    case "omniglot":
      return tfmeta.data.omniglot(
        split,
        spec,
        data_dir=settings.data_dir,
        rotations=settings.rotations,
        **size,
        **kwargs,
      )
  if settings.dataset in dataset_kinds.IMAGENETS:
    return getattr(tfmeta.data, settings.dataset)(
      split,
      spec,
      data_dir=settings.data_dir,
      manual_dir=settings.manual_dir,
      **kwargs,
    )
  if settings.dataset in dataset_kinds.CIFARS:
    draw = getattr(tfmeta.data, settings.dataset)
    return draw(split, spec, data_dir=settings.data_dir, **kwargs)
  if single := dataset_kinds.PAIRS.get(settings.dataset):
    images = drawings.of_split(single, split, settings.data_dir)
    return tfmeta.data.ambiguous_pairs(images, spec, **kwargs)
  if settings.is_embeddings:
    folder = settings.dataset
    return tfmeta.data.embeddings(split, spec, data_dir=folder, **kwargs)
  if not os.path.isdir(os.path.expanduser(settings.dataset)):
    raise ValueError(
      f"`dataset` must be one of {', '.join(dataset_kinds.ALL)} or a directory "
      "with a folder of images for each class. "
      f"Received: dataset={settings.dataset!r}"
    )
  return tfmeta.data.tasks_from_directory(
    class_folders.folder_of(settings, split),
    spec,
    channels=settings.channels,
    **size,
    **kwargs,
  )


def _sinusoids(settings, split, spec, **kwargs):
  training = split == "train"
  varied = _VARIED if settings.dataset == "varied_sinusoid" else {}
  return tfmeta.data.sinusoid(
    split,
    spec,
    num_tasks=settings.num_tasks if training else None,
    noisy_query=training,
    **varied,
    **kwargs,
  )
