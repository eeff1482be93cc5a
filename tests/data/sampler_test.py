import inspect

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.data import sampler
from tfmeta.data import task

SPEC = task.TaskSpec(ways=3, shots=2, query_shots=4)


def _key(number):
  return tf.constant([number, 1], tf.int64)


def _sample_many(function, count):
  """Returns `function` of `count` keys, stacked."""
  keys = sampler.task_dataset(function, seed=0, start=0)
  return next(keys.batch(count).as_numpy_iterator())


class ChooseTest(parameterized.TestCase):
  def test_numbers_are_different_and_below_their_size(self):
    sizes = tf.constant([4, 9, 30])
    sampled = _sample_many(lambda key: sampler.choose(key, sizes, 4), 200)
    for row, size in enumerate([4, 9, 30]):
      self.assertLess(sampled[:, row].max(), size)
      self.assertLen(np.unique(sampled[:, row]), size)
    ordered = np.sort(sampled, axis=-1)
    self.assertTrue((ordered[..., 1:] > ordered[..., :-1]).all())

  def test_all_numbers_are_equally_likely_at_every_position(self):
    sizes = tf.constant([10])
    sampled = _sample_many(lambda key: sampler.choose(key, sizes, 3), 3000)[
      :, 0
    ]
    for position in range(3):
      counts = np.bincount(sampled[:, position], minlength=10)
      # Chi-square, 9 degrees of freedom: 27.9 is exceeded once in 1000.
      self.assertLess(((counts - 300) ** 2 / 300).sum(), 27.9)

  def test_rows_are_independent(self):
    sampled = sampler.choose(_key(1), tf.constant([50, 50]), 20).numpy()
    self.assertFalse((sampled[0] == sampled[1]).all())


class SampleOrderTest(parameterized.TestCase):
  def test_every_example_appears_once_with_its_class(self):
    order, labels = sampler.sample_order(_key(0), SPEC)
    self.assertCountEqual(order.numpy(), range(18))
    np.testing.assert_array_equal(labels, order // 6)

  def test_support_and_query_have_their_shots_of_each_class(self):
    _, labels = sampler.sample_order(_key(0), SPEC)
    np.testing.assert_array_equal(np.bincount(labels[:6]), [2, 2, 2])
    np.testing.assert_array_equal(np.bincount(labels[6:]), [4, 4, 4])

  def test_order_is_independent_of_the_labels(self):
    sampled = _sample_many(lambda key: sampler.sample_order(key, SPEC)[1], 1000)
    for position in (0, 5, 6, 17):
      counts = np.bincount(sampled[:, position], minlength=3)
      # Chi-square, 2 degrees of freedom: 13.8 is exceeded once in 1000.
      self.assertLess(((counts - 1000 / 3) ** 2 / (1000 / 3)).sum(), 13.8)


class ClassTableTest(parameterized.TestCase):
  def test_each_way_is_one_class(self):
    labels = np.array([2, 0, 1, 0, 2, 1, 1, 0, 2, 2])
    table = sampler.ClassTable.from_labels(labels, classes=3)
    sampled = table.sample(_key(4), ways=3, per_class=3).numpy()
    self.assertCountEqual(labels[sampled[:, 0]], [0, 1, 2])
    for examples in sampled:
      self.assertLen(np.unique(labels[examples]), 1)
      self.assertLen(np.unique(examples), 3)

  def test_a_task_has_at_most_one_variant_of_a_class(self):
    labels = np.repeat(np.arange(12), 2)
    table = sampler.ClassTable.from_labels(labels, classes=12, variants=4)
    sampled = _sample_many(
      lambda key: table.sample(key, ways=3, per_class=2), 300
    )
    classes = labels[sampled][..., 0]
    for of_task in classes:
      self.assertCountEqual(of_task // 4, [0, 1, 2])
    counts = np.bincount(classes.ravel(), minlength=12)
    # Chi-square, 11 degrees of freedom: 31.3 is exceeded once in 1000.
    self.assertLess(((counts - 75) ** 2 / 75).sum(), 31.3)


class TaskDatasetTest(parameterized.TestCase):
  def _numbers(self, seed, start=0, salt=0):
    def sample_task(key):
      return sampler.uniform(key, [2], 0.0, 1.0)

    tasks = sampler.task_dataset(sample_task, seed=seed, start=start, salt=salt)
    return np.stack(list(tasks.take(20).as_numpy_iterator()))

  def test_tasks_depend_on_the_seed_and_the_salt(self):
    first = self._numbers(3)
    np.testing.assert_array_equal(first, self._numbers(3))
    self.assertNotAlmostEqual(first[0, 0], self._numbers(4)[0, 0])
    self.assertNotAlmostEqual(first[0, 0], self._numbers(3, salt=1)[0, 0])
    self.assertLen(np.unique(first), 40)

  def test_a_seed_and_an_index_are_not_interchangeable(self):
    self.assertEmpty(set(self._numbers(3).flat) & set(self._numbers(4).flat))

  def test_start_equals_skip(self):
    np.testing.assert_array_equal(
      self._numbers(3)[7:], self._numbers(3, start=7)[:13]
    )

  def test_all_bits_of_a_seed_count(self):
    self.assertNotAlmostEqual(
      self._numbers(5)[0, 0], self._numbers(5 + 2**32)[0, 0]
    )

  def _blocks(self, start):
    def sample_block(key):
      return sampler.uniform(key, [sampler.BLOCK, 2], 0.0, 1.0)

    tasks = sampler.task_dataset(
      sample_block, seed=3, start=start, in_blocks=True
    )
    return np.stack(list(tasks.take(150).as_numpy_iterator()))

  @parameterized.parameters(7, 64, 100)
  def test_a_start_within_a_block_equals_skip(self, start):
    first, later = self._blocks(0), self._blocks(start)
    np.testing.assert_array_equal(first[start:], later[: 150 - start])

  def test_blocks_differ(self):
    self.assertLen(np.unique(self._blocks(0)), 300)

  def test_blocks_are_infinite(self):
    tasks = sampler.task_dataset(
      lambda key: tf.zeros(64), seed=0, start=2**63 - 1, in_blocks=True
    )
    self.assertEqual(tasks.cardinality(), tf.data.INFINITE_CARDINALITY)
    self.assertEqual(next(tasks.as_numpy_iterator()), 0.0)

  def test_dataset_is_infinite(self):
    tasks = sampler.task_dataset(lambda key: key, seed=0, start=0)
    self.assertEqual(tasks.cardinality(), tf.data.INFINITE_CARDINALITY)

  def test_tasks_are_not_converted_by_autograph(self):
    # It takes longer than tracing. Converted code lies in a file of its own.
    files = []

    def sample_task(key):
      files.append(inspect.currentframe().f_code.co_filename)
      return key

    sampler.task_dataset(sample_task, seed=0, start=0)
    self.assertEqual(set(files), {__file__})

  @parameterized.parameters(-1, 2**63)
  def test_seeds_out_of_range_are_rejected(self, seed):
    with self.assertRaisesRegex(ValueError, f"`seed`.*seed={seed}"):
      self._numbers(seed)

  def test_start_must_be_an_integer(self):
    with self.assertRaisesRegex(TypeError, "`start` must be an integer"):
      self._numbers(0, start=1.5)


if __name__ == "__main__":
  absltest.main()
