"""Tasks of paired drawings whose support sets allow two answers."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfmeta.data import sampler
from tfmeta.data import task


def ambiguous_pairs(
  images: npt.ArrayLike,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  readings: bool = False,
) -> tf.data.Dataset:
  """Samples classification tasks whose support set is ambiguous.

  An example is two drawings side by side. Each class has one character for the
  left half and one for the right half, and its support examples show both. In a
  query, only one half shows the class; the other half shows the character of a
  random class of the task. Which half counts is the same for all queries of a
  task, and differs between tasks, but the support set does not reveal it. If
  the two halves of a query belong to different classes, both answers fit. A
  good learner gives each of them half of the probability, or half of its
  samples.

  Support and query show different drawings of a character.

  Args:
    images: uint8 `[characters, drawings, height, width, channels]` with ink =
      255, such as the result of `omniglot_drawings`.
    spec: A `tfmeta.TaskSpec` with at least 2 ways.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the images, the seed and i.
    readings: Whether `query_y` holds both answers. If `True`, it is int32
      `[Q, 2]`: the class that the left half shows and the class that the right
      half shows. If `False`, it is the class of the half that counts. The tasks
      are otherwise the same. Defaults to `False`.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, height,
    2 * width, channels], "support_y": [S], "query_x": [Q, height, 2 * width,
    channels]}, query_y [Q])`; x is float32 in [0, 1], y is int32. Batch the
    dataset before use.

  Raises:
    TypeError: If `spec` is not a `TaskSpec`, or `images` is not uint8.
    ValueError: If there are too few ways, characters or drawings.
  """
  images = np.asarray(images)
  _check(images, spec)
  # `tf.data` reads on the CPU, whatever the default device.
  with tf.device("CPU"):
    drawings = tf.constant(images)

  def sample_task(key: tf.Tensor) -> task.TaskElement:
    key, order_key = sampler.split_key(key, 2)
    order, labels = sampler.sample_order(order_key, spec)
    *class_keys, drawing_key, query_key = sampler.split_key(key, 5)
    characters, shown = _sample_classes(class_keys, labels, len(images), spec)
    numbers = _sample_drawings(
      (drawing_key, query_key), order, shown, images.shape[1], spec
    )
    left, right = (
      tf.gather_nd(drawings, tf.stack([tf.gather(of_class, half), number], 1))
      for of_class, half, number in zip(characters, shown, numbers, strict=True)
    )
    x = tf.cast(tf.concat([left, right], axis=2), tf.float32) / 255
    inputs, query_y = task.to_element(x, labels, spec)
    if readings:
      query_y = tf.stack(shown, axis=1)[spec.support_size :]
    return inputs, query_y

  return sampler.task_dataset(sample_task, seed=seed, start=start)


def _sample_classes(
  keys: list[tf.Tensor],
  labels: tf.Tensor,
  characters: int,
  spec: task.TaskSpec,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
  """Samples the classes that both halves of every example show.

  Args:
    keys: Three keys, int64 `[2]`.
    labels: int32 `[S + Q]`, support first.
    characters: Integer, the number of characters to choose from.
    spec: A `TaskSpec` with ways.

  Returns:
    For each of the two halves, the characters of the classes, int32 `[ways]`;
    and for each of the two halves, the class that it shows, int32 `[S + Q]`.
  """
  ways = task.check_has_ways(spec)
  character_key, other_key, half_key = keys
  chosen = sampler.choose(character_key, tf.constant([characters]), 2 * ways)[0]
  size = spec.support_size + spec.query_size
  is_support = tf.range(size) < spec.support_size
  # In a query, the half that does not count shows any class of the task.
  random = sampler.uniform_integers(other_key, [size], ways)
  other = tf.where(is_support, labels, random)
  counting_half = sampler.uniform_integers(half_key, [], 2)
  shown = [
    tf.where(tf.equal(counting_half, half), labels, other) for half in range(2)
  ]
  return tf.unstack(tf.reshape(chosen, [2, ways])), shown


def _sample_drawings(
  keys: tuple[tf.Tensor, tf.Tensor],
  order: tf.Tensor,
  shown: list[tf.Tensor],
  drawings: int,
  spec: task.TaskSpec,
) -> list[tf.Tensor]:
  """Samples which drawing of its character each half shows.

  Args:
    keys: Two keys, int64 `[2]`.
    order: int32 `[S + Q]`, from `sampler.sample_order`.
    shown: For each of the two halves, the class that it shows, `[S + Q]`.
    drawings: Integer, the number of drawings of a character.
    spec: A `TaskSpec` with ways.

  Returns:
    For each of the two halves, the number of the drawing, int32 `[S + Q]`.
  """
  ways = task.check_has_ways(spec)
  drawing_key, query_key = keys
  # The drawings of each character are shuffled. The first `shots` of them are
  # for the support set, and queries choose among the others.
  shuffled = sampler.choose(
    drawing_key, tf.fill([2 * ways], drawings), drawings
  )
  shuffled = tf.reshape(shuffled, [2, ways, drawings])
  size = spec.support_size + spec.query_size
  random = sampler.uniform_integers(query_key, [2, size], drawings - spec.shots)
  position = tf.where(
    tf.range(size) < spec.support_size,
    order % spec.examples_per_class,
    spec.shots + random,
  )
  return [
    tf.gather_nd(shuffled[half], tf.stack([shown[half], position[half]], 1))
    for half in range(2)
  ]


def _check(images: np.ndarray, spec: task.TaskSpec) -> None:
  ways = task.check_has_ways(spec)
  if images.dtype != np.uint8 or images.ndim != 5:
    raise TypeError(
      "`images` must be uint8 of shape [characters, drawings, height, width, "
      f"channels]. Received: {images.dtype} of shape {images.shape}"
    )
  if ways < 2:
    raise ValueError(
      f"A task must have at least 2 ways to tell apart. Received: spec={spec}"
    )
  if len(images) < 2 * ways or images.shape[1] <= spec.shots:
    raise ValueError(
      f"A task of {spec} needs {2 * ways} characters and {spec.shots + 1} "
      f"drawings of each. Received: images of shape {images.shape}"
    )
