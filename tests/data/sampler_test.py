from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.data import sampler
from tfmeta.data import task

SPEC = task.TaskSpec(ways=3, shots=2, query_shots=4)


def _key(number):
  return tf.constant([number, 1], tf.int64)


def _draw_many(function, count):
  """Returns `function` of `count` keys, stacked."""
  keys = sampler.task_dataset(function, seed=0, start=0)
  return next(keys.batch(count).as_numpy_iterator())


class ChooseTest(parameterized.TestCase):
  def test_numbers_are_different_and_below_their_size(self):
    sizes = tf.constant([4, 9, 30])
    drawn = _draw_many(lambda key: sampler.choose(key, sizes, 4), 200)
    for row, size in enumerate([4, 9, 30]):
      self.assertLess(drawn[:, row].max(), size)
      self.assertLen(np.unique(drawn[:, row]), size)
    ordered = np.sort(drawn, axis=-1)
    self.assertTrue((ordered[..., 1:] > ordered[..., :-1]).all())

  def test_every_number_and_every_place_is_as_likely(self):
    sizes = tf.constant([10])
    drawn = _draw_many(lambda key: sampler.choose(key, sizes, 3), 3000)[:, 0]
    for place in range(3):
      counts = np.bincount(drawn[:, place], minlength=10)
      # Chi-square, 9 degrees of freedom: 27.9 is exceeded once in 1000.
      self.assertLess(((counts - 300) ** 2 / 300).sum(), 27.9)

  def test_rows_are_drawn_apart(self):
    drawn = sampler.choose(_key(1), tf.constant([50, 50]), 20).numpy()
    self.assertFalse((drawn[0] == drawn[1]).all())


class LayoutTest(parameterized.TestCase):
  def test_shows_every_example_once_with_its_class(self):
    order, labels = sampler.layout(_key(0), SPEC)
    self.assertCountEqual(order.numpy(), range(18))
    np.testing.assert_array_equal(labels, order // 6)

  def test_support_and_query_hold_their_shots_of_each_class(self):
    _, labels = sampler.layout(_key(0), SPEC)
    np.testing.assert_array_equal(np.bincount(labels[:6]), [2, 2, 2])
    np.testing.assert_array_equal(np.bincount(labels[6:]), [4, 4, 4])

  def test_order_tells_nothing_of_the_label(self):
    drawn = _draw_many(lambda key: sampler.layout(key, SPEC)[1], 1000)
    for place in (0, 5, 6, 17):
      counts = np.bincount(drawn[:, place], minlength=3)
      # Chi-square, 2 degrees of freedom: 13.8 is exceeded once in 1000.
      self.assertLess(((counts - 1000 / 3) ** 2 / (1000 / 3)).sum(), 13.8)


class ClassTableTest(parameterized.TestCase):
  def test_rows_belong_to_one_class_each(self):
    labels = np.array([2, 0, 1, 0, 2, 1, 1, 0, 2, 2])
    table = sampler.ClassTable.from_labels(labels, classes=3)
    rows = table.draw(_key(4), ways=3, per_class=3).numpy()
    self.assertCountEqual(labels[rows[:, 0]], [0, 1, 2])
    for row in rows:
      self.assertLen(np.unique(labels[row]), 1)
      self.assertLen(np.unique(row), 3)

  def test_a_task_shows_one_variant_of_a_class(self):
    labels = np.repeat(np.arange(12), 2)
    table = sampler.ClassTable.from_labels(labels, classes=12, variants=4)
    rows = _draw_many(lambda key: table.draw(key, ways=3, per_class=2), 300)
    classes = labels[rows][..., 0]
    for drawn in classes:
      self.assertCountEqual(drawn // 4, [0, 1, 2])
    counts = np.bincount(classes.ravel(), minlength=12)
    # Chi-square, 11 degrees of freedom: 31.3 is exceeded once in 1000.
    self.assertLess(((counts - 75) ** 2 / 75).sum(), 31.3)


class TaskDatasetTest(parameterized.TestCase):
  def _numbers(self, seed, start=0, salt=0):
    def draw(key):
      return sampler.uniform(key, [2], 0.0, 1.0)

    tasks = sampler.task_dataset(draw, seed=seed, start=start, salt=salt)
    return np.stack(list(tasks.take(20).as_numpy_iterator()))

  def test_same_seed_gives_the_same_tasks_and_another_others(self):
    first = self._numbers(3)
    np.testing.assert_array_equal(first, self._numbers(3))
    self.assertNotAlmostEqual(first[0, 0], self._numbers(4)[0, 0])
    self.assertNotAlmostEqual(first[0, 0], self._numbers(3, salt=1)[0, 0])
    self.assertLen(np.unique(first), 40)

  def test_seeds_and_indices_are_not_added_up(self):
    self.assertEmpty(set(self._numbers(3).flat) & set(self._numbers(4).flat))

  def test_start_equals_skip(self):
    np.testing.assert_array_equal(
      self._numbers(3)[7:], self._numbers(3, start=7)[:13]
    )

  def test_large_seeds_count_in_full(self):
    self.assertNotAlmostEqual(
      self._numbers(5)[0, 0], self._numbers(5 + 2**32)[0, 0]
    )

  def test_dataset_is_infinite(self):
    tasks = sampler.task_dataset(lambda key: key, seed=0, start=0)
    self.assertEqual(tasks.cardinality(), tf.data.INFINITE_CARDINALITY)

  @parameterized.parameters(-1, 2**63)
  def test_seeds_out_of_range_are_refused(self, seed):
    with self.assertRaisesRegex(ValueError, f"`seed`.*seed={seed}"):
      self._numbers(seed)

  def test_start_must_be_an_integer(self):
    with self.assertRaisesRegex(TypeError, "`start` must be an integer"):
      self._numbers(0, start=1.5)


if __name__ == "__main__":
  absltest.main()
