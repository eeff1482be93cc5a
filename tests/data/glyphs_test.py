import functools
import importlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta import data
from tfmeta.data import splits

# The name `glyphs` in the package is the function.
_glyphs = importlib.import_module("tfmeta.data.glyphs")

SPEC = data.TaskSpec(ways=5, shots=1, query_shots=15)
SMALL = data.TaskSpec(ways=3, shots=1, query_shots=1)


def _take(count, split="train", spec=SMALL, **kwargs):
  tasks = data.glyphs(split, spec, **kwargs)
  return list(tasks.take(count).as_numpy_iterator())


@functools.cache
def _large_tasks():
  """Returns 200 tasks of `SPEC`, which the tests share."""
  return _take(200, split="test", spec=SPEC)


@functools.cache
def _small_tasks():
  """Returns the first tasks of `SMALL`, which the tests share."""
  return _take(4)


def _nearest_neighbor_accuracy(task):
  inputs, query_y = task
  support = inputs["support_x"].reshape(1, SPEC.support_size, -1)
  query = inputs["query_x"].reshape(SPEC.query_size, 1, -1)
  nearest = ((support - query) ** 2).sum(axis=-1).argmin(axis=1)
  return (inputs["support_y"][nearest] == query_y).mean()


class GlyphsTest(parameterized.TestCase):
  def test_nearest_neighbors_are_better_than_chance_but_poor(self):
    accuracy = np.mean(
      [_nearest_neighbor_accuracy(task) for task in _large_tasks()]
    )
    self.assertBetween(accuracy, 0.45, 0.70)

  def test_drawings_of_a_class_are_alike(self):
    images = data.glyph_drawings(20, 8).numpy().reshape(20, 8, -1)
    means = images.mean(axis=1)
    within = ((images - means[:, np.newaxis]) ** 2).sum(axis=-1).mean()
    between = ((means - means.mean(axis=0)) ** 2).sum(axis=-1).mean()
    # For unrelated drawings the ratio would be about 1 / 7.
    self.assertGreater(between, 0.3 * within)

  def test_shapes_are_static(self):
    expected = (
      {
        "support_x": tf.TensorSpec([5, 28, 28, 1], tf.float32),
        "support_y": tf.TensorSpec([5], tf.int32),
        "query_x": tf.TensorSpec([75, 28, 28, 1], tf.float32),
      },
      tf.TensorSpec([75], tf.int32),
    )
    self.assertEqual(data.glyphs("train", SPEC).element_spec, expected)

  def test_support_and_query_are_balanced(self):
    inputs, query_y = _large_tasks()[0]
    np.testing.assert_array_equal(np.sort(inputs["support_y"]), np.arange(5))
    np.testing.assert_array_equal(np.bincount(query_y), [15] * 5)

  def test_no_two_drawings_are_equal(self):
    inputs, _ = _large_tasks()[0]
    x = np.concatenate([inputs["support_x"], inputs["query_x"]])
    self.assertLen(np.unique(x.reshape(80, -1), axis=0), 80)

  def test_tasks_depend_on_the_seed(self):
    first, again, other = _small_tasks(), _take(4), _take(1, seed=1)
    tf.nest.map_structure(np.testing.assert_array_equal, first, again)
    pair = [tasks[0][0]["query_x"] for tasks in (first, other)]
    self.assertFalse(np.array_equal(*pair))

  def test_start_equals_skip(self):
    tf.nest.map_structure(
      np.testing.assert_array_equal, _small_tasks()[2:], _take(2, start=2)
    )

  def test_splits_share_no_class(self):
    ends = sorted(_glyphs.CLASS_RANGES)
    self.assertLen(ends, len(splits.SPLITS))
    for (_, last), (first, _) in zip(ends[:-1], ends[1:], strict=True):
      self.assertLessEqual(last, first)

  def test_chosen_classes_are_different_and_in_the_split(self):
    @tf.function
    def choose(key):
      return _glyphs._choose_classes(key, 100, 200, 7)

    chosen = np.stack(
      [choose(tf.constant([number, 0], tf.int64)) for number in range(50)]
    )
    self.assertBetween(chosen.min(), 100, 110)
    self.assertBetween(chosen.max(), 190, 199)
    for of_task in chosen:
      self.assertLen(np.unique(of_task), 7)
    # The label of a class must not determine its remainder.
    self.assertLen(np.unique((chosen[:, 0] - 100) % 7), 7)

  @parameterized.parameters(
    (dict(split="dev"), "`split` must be one of 'train', 'validation', 'test'"),
    (dict(spec=data.TaskSpec()), "`ways` must be set"),
    (dict(spec=data.TaskSpec(ways=10**8)), "10000000 classes, fewer than the"),
    (dict(seed=-1), "`seed`.*seed=-1"),
  )
  def test_wrong_arguments_are_rejected(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      _take(1, **arguments)


class GlyphDrawingsTest(parameterized.TestCase):
  @parameterized.parameters(
    (dict(classes=0), "`classes` must be an integer of at least 1"),
    (dict(drawings=1.0), "`drawings` must be an integer of at least 1"),
    (dict(seed=2**63), "`seed`.*seed=9223372036854775808"),
    (dict(split="dev"), "`split` must be one of 'train', 'validation', 'test'"),
  )
  def test_wrong_arguments_are_rejected(self, change, message):
    with self.assertRaisesRegex(ValueError, message):
      data.glyph_drawings(**{"classes": 1, "drawings": 1, **change})

  def test_the_seed_changes_drawings_but_not_characters(self):
    first = data.glyph_drawings(3, 2)
    self.assertEqual(first.shape, (3, 2, 28, 28, 1))
    np.testing.assert_array_equal(first, data.glyph_drawings(3, 2))
    self.assertFalse(np.array_equal(first, data.glyph_drawings(3, 2, seed=1)))
    other = data.glyph_drawings(3, 2, split="test")
    self.assertFalse(np.array_equal(first, other))

  def test_ink_is_dark_and_covers_little(self):
    images = data.glyph_drawings(20, 4).numpy()
    self.assertBetween(images.min(), 0.0, 0.0)
    self.assertBetween(images.max(axis=(2, 3, 4)).min(), 0.9, 1.0)
    self.assertBetween(images.mean(), 0.04, 0.2)


class CharactersTest(parameterized.TestCase):
  def test_a_character_does_not_depend_on_other_classes(self):
    alone = _glyphs._make_characters(tf.constant([7], tf.int64))
    among = _glyphs._make_characters(tf.constant([3, 7], tf.int64))
    for one, two in zip(alone, among, strict=True):
      np.testing.assert_allclose(one[0], two[1], atol=1e-5)
      self.assertFalse(np.array_equal(two[0], two[1]) and two.ndim > 2)

  def test_characters_are_centered_and_fill_the_page(self):
    controls, present = _glyphs._make_characters(tf.range(50, dtype=tf.int64))
    for strokes, here in zip(controls.numpy(), present.numpy(), strict=True):
      points = strokes[here > 0].reshape(-1, 2)
      low, high = points.min(axis=0), points.max(axis=0)
      np.testing.assert_allclose(low + high, 0, atol=1e-4)
      self.assertAlmostEqual((high - low).max(), 18, delta=1e-3)


class DrawingTest(parameterized.TestCase):
  def test_a_line_is_as_thick_as_its_pen(self):
    x = np.linspace(-8, 8, 28)
    points = tf.constant(np.stack([x, 0 * x], axis=1)[None, None], tf.float32)
    present = tf.ones([1, 1])
    for pen in (0.6, 0.9):
      image = _glyphs._ink(points, present, tf.constant([pen]))[0, ..., 0]
      distance = np.arange(28) - 13.5
      profile = np.exp(-(distance**2) / (2 * pen**2))
      ink = np.clip(1.4 * (profile - 0.5) + 0.5, 0, 1)
      np.testing.assert_allclose(image[:, 14], ink, atol=0.01)
      np.testing.assert_allclose(image[:, 10], ink, atol=0.01)

  def test_missing_strokes_leave_no_ink(self):
    controls = tf.zeros([1, _glyphs._STROKES, _glyphs._CONTROLS, 2])
    absent = tf.zeros([1, _glyphs._STROKES])
    image = _glyphs._draw(tf.constant([0, 0], tf.int64), controls, absent)
    self.assertEqual(image.numpy().max(), 0.0)

  def test_points_of_the_spline_are_evenly_spaced(self):
    spline = _glyphs._even_spline(28, 6)
    np.testing.assert_allclose(spline.sum(axis=1), 1, atol=1e-6)
    positions = spline @ np.arange(6)
    np.testing.assert_allclose(positions, np.linspace(0, 5, 28), atol=1e-4)


if __name__ == "__main__":
  absltest.main()
