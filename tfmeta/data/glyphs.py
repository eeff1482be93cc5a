"""Glyphs: generated tasks of characters that look handwritten.

A character is made in the way that people write [1]: one to three strokes, each
a smooth curve, most of which begin on an earlier one. Each drawing of a
character looks like another person's: its control points are jittered, it is
sheared, stretched, rotated and shifted as a whole, and the pen is thicker or
thinner. Ink is a sum of Gaussian spots along the curve. A Gaussian is
separable, so one batched matrix product computes all the ink of a drawing.

References:
  [1] B. Lake, R. Salakhutdinov, J. Tenenbaum. Human-level concept learning
      through probabilistic program induction. Science 350, 2015.
      https://doi.org/10.1126/science.aab3050
"""

import numpy as np
import tensorflow as tf

from tfmeta import arguments
from tfmeta.data import sampler
from tfmeta.data import splits
from tfmeta.data import task

# The characters of each split, in the order of `splits.SPLITS`, as a range of
# class numbers.
CLASS_RANGES = (
  (0, 10_000_000),
  (10_000_000, 11_000_000),
  (11_000_000, 12_000_000),
)

# Height and width of a drawing in pixels.
_SIZE = 28

# Characters. All of them follow from this key and their class number.
_CHARACTER_KEY = (0, 28)
_STROKES = 3
_CONTROLS = 6  # Control points of a stroke.
# Each stroke uses this many random numbers in [0, 1), and then one more for
# each turn between its control points.
_NUMBERS_PER_STROKE = 9
# A random number above the first threshold gives a second stroke; one above the
# second threshold gives a third.
_MORE_STROKES = (0.05, 0.5)
# Probability that a stroke begins on the one before it.
_JOINED = 0.7
# Largest turn of a curve at a control point in radians: the turn that all
# points of a stroke share, and the random turn of each point.
_BEND = 1.1
_WOBBLE = 0.6
# Distance between control points, before the character is scaled to the page.
_SHORTEST, _LONGEST = 0.2, 0.45
# The shorter side of a character counts as at least this share of the longer
# one when it is scaled.
_FLATTEST = 0.1
# Length of a character's longer side, in pixels.
_EXTENT = 18.0

# Drawings.
_POINTS = 28  # Spots of ink on a stroke.
# Standard deviations in pixels, of each control point and of each stroke.
_JITTER = 0.7
_STROKE_JITTER = 0.7
# Largest deviation of a drawing: logarithm of the stretch, shear, rotation in
# radians, shift in pixels.
_STRETCH = 0.2
_SLANT = 0.25
_TURN = 0.15
_SHIFT = 2.5
# Standard deviation of a spot of ink in pixels, and how much pens differ.
_PEN = 0.75
_PEN_RANGE = 0.15
# This contrast makes the edge of a stroke about one pixel wide.
_CONTRAST = 1.4


def glyphs(
  split: str, spec: task.TaskSpec, *, seed: int = 0, start: int = 0
) -> tf.data.Dataset:
  """Samples tasks of generated characters that look handwritten.

  There are ten million characters to train on, and a million each to validate
  and to test on. They are the same for every seed, and no character is in two
  splits. Each drawing is made for its task, so no two are equal. Nothing is
  downloaded or stored.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with `ways` set.
    seed: Integer in [0, 2**63), from which the choice of characters, their
      labels and the drawings follow. Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the split, the seed and i.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, 28, 28,
    1], "support_y": [S], "query_x": [Q, 28, 28, 1]}, query_y [Q])`; x is
    float32 in [0, 1] with ink = 1, y is int32. Batch the dataset before use.

  Raises:
    TypeError: If `spec` is not a `TaskSpec`, or if `seed` or `start` is not an
      integer.
    ValueError: If `split` is unknown, `spec` has no ways or more than the split
      has characters, or `seed` or `start` is out of range.

  Example:
    >>> spec = task.TaskSpec(ways=5, shots=1, query_shots=15)
    >>> tasks = glyphs("train", spec, seed=0).batch(32)
  """
  salt = splits.index_of(split)
  ways = task.check_has_ways(spec)
  first, last = CLASS_RANGES[salt]
  if ways > last - first:
    raise ValueError(
      f"The split has {last - first} classes, fewer than the {ways} ways "
      f"of a task. Received: spec={spec}"
    )

  def sample_task(key: tf.Tensor) -> task.TaskElement:
    class_key, order_key, drawing_key = sampler.split_key(key, 3)
    classes = _choose_classes(class_key, first, last, ways)
    _, labels = sampler.sample_order(order_key, spec)
    controls, present = (
      tf.gather(part, labels) for part in _make_characters(classes)
    )
    images = _draw(drawing_key, controls, present)
    return task.to_element(images, labels, spec)

  return sampler.task_dataset(sample_task, seed=seed, start=start, salt=salt)


def glyph_drawings(
  classes: int, drawings: int, *, split: str = "train", seed: int = 0
) -> tf.Tensor:
  """Draws the first characters of a split.

  Args:
    classes: Integer >= 1, the number of characters.
    drawings: Integer >= 1, the number of drawings of each character.
    split: "train", "validation" or "test". Defaults to "train".
    seed: Integer in [0, 2**63), from which the drawings follow; the characters
      do not depend on it. Defaults to 0.

  Returns:
    float32 `[classes, drawings, 28, 28, 1]` in [0, 1] with ink = 1.

  Raises:
    TypeError: If `classes`, `drawings` or `seed` is not an integer.
    ValueError: If an argument is unknown or out of range.
  """
  first, _ = CLASS_RANGES[splits.index_of(split)]
  arguments.check_integer("seed", seed, 0, sampler.LARGEST_INDEX)
  classes = arguments.check_integer("classes", classes, least=1)
  drawings = arguments.check_integer("drawings", drawings, least=1)
  numbers = tf.range(first, first + classes, dtype=tf.int64)
  # Accelerators may compute matrix products in lower precision.
  with tf.device("CPU"):
    controls, present = (
      tf.repeat(part, drawings, axis=0) for part in _make_characters(numbers)
    )
    images = _draw(tf.constant([seed, 0], tf.int64), controls, present)
  return tf.reshape(images, [classes, drawings, _SIZE, _SIZE, 1])


def _choose_classes(
  key: tf.Tensor, first: int, last: int, ways: int
) -> tf.Tensor:
  """Samples different class numbers, int64 `[ways]` in `[first, last)`.

  Each number has a different remainder modulo `ways`, which makes them
  different at no cost. Sampling without replacement among millions would take
  longer than making the drawings.
  """
  number_key, remainder_key = sampler.split_key(key, 2)
  remainders = sampler.choose(remainder_key, tf.constant([ways]), ways)[0]
  numbers = sampler.uniform_integers(
    number_key, [ways], (last - first) // ways, tf.int64
  )
  return first + numbers * ways + tf.cast(remainders, tf.int64)


def _make_characters(classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Makes the characters of the given class numbers, int64 `[n]`.

  Returns:
    Control points, float32 `[n, strokes, controls, 2]`, in pixels from the
    center of the page; and whether a character has each stroke, float32
    `[n, strokes]`, 0 or 1.
  """
  root = tf.constant(_CHARACTER_KEY, tf.int64)
  shape = [_STROKES, _NUMBERS_PER_STROKE + _CONTROLS - 1]
  # A key for each class: a character is the same whatever else is in its task.
  numbers = tf.stack(
    [
      sampler.uniform(sampler.fold_in(root, number), shape, 0.0, 1.0)
      for number in tf.unstack(classes)
    ]
  )
  shapes = _stroke_shapes(numbers)
  strokes = [shapes[:, 0]]
  for i in range(1, _STROKES):
    begin = _stroke_begin(strokes[-1], numbers[:, i])
    strokes.append(shapes[:, i] + begin[:, tf.newaxis])
  more = tf.searchsorted(_MORE_STROKES, numbers[:, 0, 8])
  present = tf.sequence_mask(1 + more, _STROKES, tf.float32)
  return _fit_page(tf.stack(strokes, axis=1), present), present


def _stroke_shapes(numbers: tf.Tensor) -> tf.Tensor:
  """Makes curves that begin at the origin and turn at every control point.

  Args:
    numbers: Random numbers in [0, 1), `[n, strokes, 9 + controls - 1]`.

  Returns:
    Control points, float32 `[n, strokes, controls, 2]`.
  """
  heading = 2 * np.pi * numbers[..., 0:1]
  bend = _BEND * (2 * numbers[..., 1:2] - 1)
  step = _SHORTEST + (_LONGEST - _SHORTEST) * numbers[..., 2:3]
  # From some control point on, the curve bends the other way. In two of three
  # strokes that point lies beyond the end.
  back = tf.cast(
    tf.range(_CONTROLS - 1.0) > 2 * _CONTROLS * numbers[..., 3:4], tf.float32
  )
  wobble = _WOBBLE * (2 * numbers[..., _NUMBERS_PER_STROKE:] - 1)
  angle = heading + tf.cumsum(bend * (1 - 2 * back) + wobble, axis=-1)
  moves = step[..., tf.newaxis] * tf.stack([tf.cos(angle), tf.sin(angle)], -1)
  return tf.pad(tf.cumsum(moves, axis=-2), [[0, 0], [0, 0], [1, 0], [0, 0]])


def _stroke_begin(previous: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
  """Returns where a stroke begins: on the previous stroke or near it.

  Args:
    previous: Control points of the previous stroke, `[n, controls, 2]`.
    numbers: Random numbers in [0, 1), `[n, 9 + controls - 1]`.

  Returns:
    float32 `[n, 2]`.
  """
  index = tf.cast(numbers[:, 4] * _CONTROLS, tf.int32)
  joint = tf.gather(previous, index, axis=1, batch_dims=1)
  away = 2 * numbers[:, 6:8] - 1
  return tf.where(numbers[:, 5:6] < _JOINED, joint, joint + away)


def _fit_page(strokes: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
  """Centers characters and scales them to the size of the page.

  The longer side of a character becomes `_EXTENT`. The shorter side s of a
  character with the longer side l becomes `_EXTENT * sqrt(s / l)` and not
  `_EXTENT * s / l`, because written characters are seldom flat.

  Args:
    strokes: Control points, `[n, strokes, controls, 2]`.
    present: `[n, strokes]`, 0 where a character lacks the stroke.

  Returns:
    Control points, `[n, strokes, controls, 2]`.
  """
  here = present[:, :, tf.newaxis, tf.newaxis] > 0
  low = tf.reduce_min(tf.where(here, strokes, np.inf), [1, 2], keepdims=True)
  high = tf.reduce_max(tf.where(here, strokes, -np.inf), [1, 2], keepdims=True)
  longer = tf.reduce_max(high - low, axis=-1, keepdims=True)
  sides = tf.maximum(high - low, _FLATTEST * longer)
  scale = _EXTENT / tf.sqrt(longer * sides)
  return (strokes - 0.5 * (low + high)) * scale


def _draw(key: tf.Tensor, controls: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
  """Makes one random drawing of each character.

  Args:
    key: int64 `[2]`.
    controls: float32 `[n, strokes, controls, 2]`, pixels from the center.
    present: float32 `[n, strokes]`, 0 where a character lacks the stroke.

  Returns:
    float32 `[n, 28, 28, 1]` in [0, 1] with ink = 1.
  """
  control_key, stroke_key, affine_key = sampler.split_key(key, 3)
  n = controls.shape[0]
  controls += _JITTER * sampler.normal(control_key, controls.shape)
  controls += _STROKE_JITTER * sampler.normal(stroke_key, [n, _STROKES, 1, 2])
  numbers = sampler.uniform(affine_key, [n, 7], -1.0, 1.0)
  points = tf.einsum("pc,nsck->nspk", _SPLINE, controls)
  points = tf.einsum("nspk,nkj->nspj", points, _affine(numbers))
  points += _SHIFT * numbers[:, tf.newaxis, tf.newaxis, 4:6]
  pen = _PEN + _PEN_RANGE * numbers[:, 6]
  return _ink(points, present, pen)


def _affine(numbers: tf.Tensor) -> tf.Tensor:
  """Returns matrices that stretch, then shear, then rotate.

  Args:
    numbers: Random numbers in [-1, 1), `[n, 7]`, of which four are used.

  Returns:
    float32 `[n, 2, 2]`, to be multiplied from the right.
  """
  wide = tf.exp(_STRETCH * numbers[:, 0])
  tall = tf.exp(_STRETCH * numbers[:, 1])
  slant, angle = _SLANT * numbers[:, 2], _TURN * numbers[:, 3]
  cos, sin = tf.cos(angle), tf.sin(angle)
  x_row = tf.stack([wide * cos, wide * sin], axis=-1)
  y_row = tf.stack(
    [tall * (slant * cos - sin), tall * (slant * sin + cos)], axis=-1
  )
  return tf.stack([x_row, y_row], axis=1)


def _ink(points: tf.Tensor, present: tf.Tensor, pen: tf.Tensor) -> tf.Tensor:
  """Renders strokes as ink on a page of pixels.

  Each point becomes a Gaussian spot. Its weight is the length of the curve that
  it represents, so that along a straight stroke the spots add up to
  exp(-distance**2 / (2 * pen**2)), whatever their spacing. The contrast then
  turns this sum into ink with sharp edges, near the value 0.5.

  Args:
    points: float32 `[n, strokes, points, 2]`, pixels from the center.
    present: float32 `[n, strokes]`, 0 where a character lacks the stroke.
    pen: float32 `[n]`, standard deviation of a spot in pixels.

  Returns:
    float32 `[n, 28, 28, 1]` in [0, 1] with ink = 1.
  """
  n = points.shape[0]
  # A point represents half of the segment on either side of it.
  length = tf.norm(points[:, :, 1:] - points[:, :, :-1], axis=-1)
  weight = 0.5 * (
    tf.pad(length, [[0, 0], [0, 0], [1, 0]])
    + tf.pad(length, [[0, 0], [0, 0], [0, 1]])
  )
  pen = pen[:, tf.newaxis]
  weight = tf.reshape(weight * present[:, :, tf.newaxis], [n, -1])
  # The weights enter as logarithms; 1e-20 stands for no ink at all.
  weight = tf.math.log(weight / (np.sqrt(2 * np.pi) * pen) + 1e-20)
  spots = tf.reshape(points, [n, -1, 2])
  across = tf.exp(_log_gaussian(spots[..., 0], pen, weight))
  down = tf.exp(_log_gaussian(spots[..., 1], pen, 0.0))
  # Row and column factors of every spot; the product sums over the spots.
  total = tf.matmul(down, across, transpose_a=True)
  ink = tf.clip_by_value(_CONTRAST * (total - 0.5) + 0.5, 0.0, 1.0)
  return ink[..., tf.newaxis]


def _log_gaussian(
  center: tf.Tensor, stddev: tf.Tensor, offset: tf.Tensor | float
) -> tf.Tensor:
  """Returns `offset - (pixel - center)**2 / (2 * stddev**2)` for all pixels.

  The square is expanded into a matrix product with (1, pixel, pixel**2), which
  is much faster than broadcasting. Pixels count from the center of the page,
  because larger numbers would lose digits in the expansion.

  Args:
    center: `[n, spots]`, pixels from the center of the page.
    stddev: `[n, 1]`, pixels.
    offset: `[n, spots]` or a number.

  Returns:
    `[n, spots, 28]`.
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

  With evenly spaced parameters, a clamped spline moves faster at its ends than
  in its middle. The parameters here are such that the points are evenly spaced
  when the control points are evenly spaced on a line.
  """
  t = np.linspace(0, 1, 1001)
  position = _spline(t, controls) @ np.linspace(0, 1, controls)
  even = np.interp(np.linspace(0, 1, points), position, t)
  return _spline(even, controls).astype(np.float32)


def _spline(t: np.ndarray, controls: int) -> np.ndarray:
  """Returns the clamped cubic basis `[n, controls]` at t, `[n]` in [0, 1]."""
  knots = np.concatenate([[0] * 3, np.linspace(0, 1, controls - 2), [1] * 3])
  # The intervals are half-open, so t = 1 must lie just inside the last one.
  t = np.minimum(t, 1 - 1e-9)[:, np.newaxis]
  basis = ((knots[:-1] <= t) & (t < knots[1:])).astype(float)
  # The Cox-de Boor recursion, from degree 0 to degree 3.
  for degree in range(1, 4):
    width = knots[degree:] - knots[:-degree]
    slope = np.where(
      width > 0, (t - knots[:-degree]) / np.maximum(width, 1e-9), 0
    )
    basis = slope[:, :-1] * basis[:, :-1] + (1 - slope[:, 1:]) * basis[:, 1:]
  return basis


_SPLINE = _even_spline(_POINTS, _CONTROLS)
_PIXELS = np.arange(_SIZE, dtype=np.float32) - (_SIZE - 1) / 2
_POWERS = np.stack([np.ones_like(_PIXELS), _PIXELS, _PIXELS**2])
