"""Pairs of drawings whose support examples fit two answers."""

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
  """Draws classifications, without end, that a support set leaves ambiguous.

  An example is two drawings side by side. A class has a character of its own
  for the left half and one for the right half, and its support examples show
  both. In a query one half alone shows the class, and the other a character of
  any class of the task: the left half in some tasks, the right half in others,
  which nothing in the support set tells. Where the halves are of different
  classes, both answers fit; a good learner gives each half of its belief, or
  of its samples.

  Support and query show different drawings of a character.

  Args:
    images: uint8 `[characters, drawings, height, width, channels]`, as of
      `omniglot_drawings`; ink = 255.
    spec: A `tfmeta.TaskSpec` with at least 2 ways.
    seed: Integer in `[0, 2**63)`. Default 0.
    start: Index of the first task. Default 0. Task i depends on the images, the
      seed and i alone.
    readings: Boolean. Whether `query_y` is int32 `[Q, 2]`, the class that the
      left half shows and the one that the right half shows, in place of the
      class by the half that counts. Tasks are otherwise the same. Default
      `False`.

  Returns:
    Single tasks, as those of `tasks_from_arrays`; examples are float32
    `[height, 2 * width, channels]` in [0, 1].

  Raises:
    TypeError: If `spec` is no `TaskSpec`, or `images` is not uint8.
    ValueError: If there are too few ways, characters or drawings.
  """
  images = np.asarray(images)
  _check(images, spec)
  with tf.device("CPU"):
    kept = tf.constant(images)

  def draw(key: tf.Tensor) -> task.TaskElement:
    key, layout_key = sampler.split(key, 2)
    order, labels = sampler.layout(layout_key, spec)
    *class_keys, drawing_key, row_key = sampler.split(key, 5)
    characters, shown = _shown(class_keys, labels, len(images), spec)
    numbers = _drawings(
      (drawing_key, row_key), order, shown, images.shape[1], spec
    )
    left, right = (
      tf.gather_nd(kept, tf.stack([tf.gather(of_class, classes), number], 1))
      for of_class, classes, number in zip(
        characters, shown, numbers, strict=True
      )
    )
    x = tf.cast(tf.concat([left, right], axis=2), tf.float32) / 255
    inputs, query_y = task.to_element(x, labels, spec)
    if readings:
      query_y = tf.stack(shown, axis=1)[spec.support_size :]
    return inputs, query_y

  return sampler.task_dataset(draw, seed=seed, start=start)


def _shown(
  keys: list[tf.Tensor],
  labels: tf.Tensor,
  characters: int,
  spec: task.TaskSpec,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
  """For both halves: characters `[ways]`, and classes shown `[S + Q]`."""
  ways = task.check_has_ways(spec)
  class_key, other_key, which_key = keys
  chosen = sampler.choose(class_key, tf.constant([characters]), 2 * ways)[0]
  size = spec.support_size + spec.query_size
  is_support = tf.range(size) < spec.support_size
  other = tf.where(is_support, labels, _below(other_key, [size], ways))
  telling = _below(which_key, [], 2)
  shown = [
    tf.where(tf.equal(telling, half), labels, other) for half in range(2)
  ]
  return tf.unstack(tf.reshape(chosen, [2, ways])), shown


def _drawings(
  keys: tuple[tf.Tensor, tf.Tensor],
  order: tf.Tensor,
  shown: list[tf.Tensor],
  drawings: int,
  spec: task.TaskSpec,
) -> list[tf.Tensor]:
  """For both halves: which drawing of its character is shown, `[S + Q]`."""
  ways = task.check_has_ways(spec)
  drawing_key, row_key = keys
  # Each character's drawings in an order of their own, the first for support.
  orders = sampler.choose(drawing_key, tf.fill([2 * ways], drawings), drawings)
  orders = tf.reshape(orders, [2, ways, drawings])
  size = spec.support_size + spec.query_size
  row = tf.where(
    tf.range(size) < spec.support_size,
    order % spec.examples_per_class,
    spec.shots + _below(row_key, [2, size], drawings - spec.shots),
  )
  return [
    tf.gather_nd(orders[half], tf.stack([shown[half], row[half]], axis=1))
    for half in range(2)
  ]


def _below(key: tf.Tensor, shape: list[int], limit: int) -> tf.Tensor:
  return tf.random.stateless_uniform(
    shape, key, 0, limit, tf.int32, alg=sampler.ALGORITHM
  )


def _check(images: np.ndarray, spec: task.TaskSpec) -> None:
  ways = task.check_has_ways(spec)
  if images.dtype != np.uint8 or images.ndim != 5:
    raise TypeError(
      "`images` must be uint8 of the shape [characters, drawings, height, "
      f"width, channels]. Received: {images.dtype} of shape {images.shape}"
    )
  if ways < 2:
    raise ValueError(
      "Classes are told apart, so there must be at least 2 ways. "
      f"Received: spec={spec}"
    )
  if len(images) < 2 * ways or images.shape[1] <= spec.shots:
    raise ValueError(
      f"A task of {spec} needs {2 * ways} characters, and {spec.shots + 1} "
      f"drawings of each. Received: images of shape {images.shape}"
    )
