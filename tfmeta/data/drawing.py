"""Draws characters as different hands would, in ink on a page of pixels."""

import numpy as np
import tensorflow as tf

from tfmeta.data import characters
from tfmeta.data import sampler

SIZE = 28
_POINTS = 28

# Standard deviations in pixels, of a control point and of a stroke.
_JITTER = 0.7
_STROKE_JITTER = 0.7
# The most by which a hand differs: log of a factor, shear, radians, pixels.
_STRETCH = 0.2
_SLANT = 0.25
_TURN = 0.15
_SHIFT = 2.5
# Deviation of a spot of ink in pixels, and by how much pens differ.
_PEN = 0.75
_PEN_RANGE = 0.15
# Makes an edge about one pixel wide.
_CONTRAST = 1.4


def draw(key: tf.Tensor, controls: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
  """Draws each character by a hand of its own.

  Args:
    key: int64 `[2]`.
    controls: float32 `[n, strokes, controls, 2]`, pixels from the middle.
    present: float32 `[n, strokes]`, 0 where the character lacks the stroke.

  Returns:
    float32 `[n, 28, 28, 1]` in [0, 1], ink = 1.
  """
  control_key, stroke_key, affine_key = sampler.split(key, 3)
  n = controls.shape[0]
  controls += _JITTER * tf.random.stateless_normal(
    controls.shape, control_key, alg=sampler.ALGORITHM
  )
  controls += _STROKE_JITTER * tf.random.stateless_normal(
    [n, characters.STROKES, 1, 2], stroke_key, alg=sampler.ALGORITHM
  )
  draws = sampler.uniform(affine_key, [n, 7], -1.0, 1.0)
  points = tf.einsum("pc,nsck->nspk", _SPLINE, controls)
  points = tf.einsum("nspk,nkj->nspj", points, _affine(draws))
  points += _SHIFT * draws[:, tf.newaxis, tf.newaxis, 4:6]
  pen = _PEN + _PEN_RANGE * draws[:, 6]
  return _ink(points, present, pen)


def _affine(draws: tf.Tensor) -> tf.Tensor:
  """Makes `[n, 2, 2]` of draws in [-1, 1]: stretch, slant, then turn."""
  wide, tall = tf.exp(_STRETCH * draws[:, 0]), tf.exp(_STRETCH * draws[:, 1])
  slant, angle = _SLANT * draws[:, 2], _TURN * draws[:, 3]
  cos, sin = tf.cos(angle), tf.sin(angle)
  x_row = tf.stack([wide * cos, wide * sin], axis=-1)
  y_row = tf.stack(
    [tall * (slant * cos - sin), tall * (slant * sin + cos)], axis=-1
  )
  return tf.stack([x_row, y_row], axis=1)


def _ink(points: tf.Tensor, present: tf.Tensor, pen: tf.Tensor) -> tf.Tensor:
  """Inks strokes of `[n, strokes, points, 2]` with pens of deviation `[n]`.

  A spot weighs the length of curve it stands for, so that along a straight
  stroke the spots sum to exp(-distance**2 / (2 * pen**2)), whatever their
  spacing; what exceeds about a half of it is ink.
  """
  n = points.shape[0]
  length = tf.norm(points[:, :, 1:] - points[:, :, :-1], axis=-1)
  weight = 0.5 * (
    tf.pad(length, [[0, 0], [0, 0], [1, 0]])
    + tf.pad(length, [[0, 0], [0, 0], [0, 1]])
  )
  pen = pen[:, tf.newaxis]
  weight = tf.reshape(weight * present[:, :, tf.newaxis], [n, -1])
  weight = tf.math.log(weight / (np.sqrt(2 * np.pi) * pen) + 1e-20)
  spots = tf.reshape(points, [n, -1, 2])
  across = tf.exp(_log_gaussian(spots[..., 0], pen, weight))
  down = tf.exp(_log_gaussian(spots[..., 1], pen, 0.0))
  total = tf.matmul(down, across, transpose_a=True)
  ink = tf.clip_by_value(_CONTRAST * (total - 0.5) + 0.5, 0.0, 1.0)
  return ink[..., tf.newaxis]


def _log_gaussian(
  center: tf.Tensor, stddev: tf.Tensor, offset: tf.Tensor | float
) -> tf.Tensor:
  """Returns offset - (pixel - center)**2 / (2 * stddev**2), with pixels last.

  As a product with (1, pixel, pixel**2), much faster than broadcasting. Pixels
  count from the middle of the page, lest digits be lost.
  """
  rate = 0.5 / tf.square(stddev)
  linear = 2 * rate * center
  constant = offset - rate * tf.square(center)
  terms = tf.stack(
    [constant, linear, tf.broadcast_to(-rate, linear.shape)], axis=-1
  )
  return tf.tensordot(terms, _POWERS, axes=1)


def _even_spline(points: int, controls: int) -> np.ndarray:
  """Returns the basis `[points, controls]` of a clamped cubic B-spline.

  Its points lie evenly on the spline whose controls lie evenly on a line.
  """
  t = np.linspace(0, 1, 1001)
  place = _spline(t, controls) @ np.linspace(0, 1, controls)
  even = np.interp(np.linspace(0, 1, points), place, t)
  return _spline(even, controls).astype(np.float32)


def _spline(t: np.ndarray, controls: int) -> np.ndarray:
  """Returns the clamped cubic basis `[n, controls]` at t, `[n]` in [0, 1]."""
  knots = np.concatenate([[0] * 3, np.linspace(0, 1, controls - 2), [1] * 3])
  t = np.minimum(t, 1 - 1e-9)[:, np.newaxis]
  basis = ((knots[:-1] <= t) & (t < knots[1:])).astype(float)
  for degree in range(1, 4):
    width = knots[degree:] - knots[:-degree]
    slope = np.where(
      width > 0, (t - knots[:-degree]) / np.maximum(width, 1e-9), 0
    )
    basis = slope[:, :-1] * basis[:, :-1] + (1 - slope[:, 1:]) * basis[:, 1:]
  return basis


_SPLINE = _even_spline(_POINTS, characters.CONTROLS)
_PIXELS = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
_POWERS = np.stack([np.ones_like(_PIXELS), _PIXELS, _PIXELS**2])
