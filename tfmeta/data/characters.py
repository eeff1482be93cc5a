"""Makes handwritten-like characters: strokes that one class shares."""

import numpy as np
import tensorflow as tf

from tfmeta.data import sampler

STROKES = 3
CONTROLS = 6

# All characters there are follow from this key.
_KEY = (0, 28)
# A stroke takes these draws in [0, 1), then one for each of its turns.
_COMMON = 9
_DRAWS = _COMMON + CONTROLS - 1
# A draw above these has a second stroke, a third.
_MORE_STROKES = (0.05, 0.5)
# The chance that a stroke begins on the one before it.
_JOINED = 0.7
# Radians a curve turns at a control point: steadily, and at random.
_BEND = 1.1
_WOBBLE = 0.6
# From control point to control point, before the character fills its page.
_SHORTEST, _LONGEST = 0.2, 0.45
# The least height of a character one wide, before it is stretched.
_FLATTEST = 0.1
# The longer side of a character, in pixels.
_EXTENT = 18.0


def make_characters(classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Makes the characters of class numbers, int64 `[n]`.

  Returns:
    Control points, float32 `[n, strokes, controls, 2]`, in pixels from the
    middle of the page, and whether the character has the stroke, float32
    `[n, strokes]`, 0 or 1.
  """
  root = tf.constant(_KEY, tf.int64)
  draws = tf.stack(
    [
      sampler.uniform(sampler.fold(root, number), [STROKES, _DRAWS], 0.0, 1.0)
      for number in tf.unstack(classes)
    ]
  )
  shapes = _stroke_shapes(draws)
  strokes = [shapes[:, 0]]
  for number in range(1, STROKES):
    start = _start(strokes[-1], draws[:, number])
    strokes.append(shapes[:, number] + start[:, tf.newaxis])
  present = tf.searchsorted(_MORE_STROKES, draws[:, 0, 8])
  present = tf.sequence_mask(1 + present, STROKES, tf.float32)
  return _fit_page(tf.stack(strokes, axis=1), present), present


def _stroke_shapes(draws: tf.Tensor) -> tf.Tensor:
  """Makes curves that begin at the origin: a heading, turning as it goes."""
  heading = 2 * np.pi * draws[..., 0:1]
  bend = _BEND * (2 * draws[..., 1:2] - 1)
  step = _SHORTEST + (_LONGEST - _SHORTEST) * draws[..., 2:3]
  # Where a curve begins to bend the other way; two in three never do.
  back = tf.cast(
    tf.range(CONTROLS - 1.0) > 2 * CONTROLS * draws[..., 3:4], tf.float32
  )
  turns = bend * (1 - 2 * back) + _WOBBLE * (2 * draws[..., _COMMON:] - 1)
  angle = heading + tf.cumsum(turns, axis=-1)
  moves = step[..., tf.newaxis] * tf.stack([tf.cos(angle), tf.sin(angle)], -1)
  return tf.pad(tf.cumsum(moves, axis=-2), [[0, 0], [0, 0], [1, 0], [0, 0]])


def _start(previous: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
  """Returns where a stroke begins, `[n, 2]`: on the one before it, or near."""
  number = tf.cast(draw[:, 4] * CONTROLS, tf.int32)
  joint = tf.gather(previous, number, axis=1, batch_dims=1)
  away = 2 * draw[:, 6:8] - 1
  return tf.where(draw[:, 5:6] < _JOINED, joint, joint + away)


def _fit_page(strokes: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
  """Moves characters to the middle of the page and makes them fill it.

  The shorter side is stretched too, by the root of what the longer one lacks:
  writing is seldom flat.
  """
  here = present[:, :, tf.newaxis, tf.newaxis] > 0
  low = tf.reduce_min(tf.where(here, strokes, np.inf), [1, 2], keepdims=True)
  high = tf.reduce_max(tf.where(here, strokes, -np.inf), [1, 2], keepdims=True)
  longer = tf.reduce_max(high - low, axis=-1, keepdims=True)
  sides = tf.maximum(high - low, _FLATTEST * longer)
  scale = _EXTENT / tf.sqrt(longer * sides)
  return (strokes - 0.5 * (low + high)) * scale
