import os
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta import data

SPEC = data.TaskSpec(ways=3, shots=2, query_shots=4)


def _numbered(sizes):
  """Returns float examples [class, number] and labels, shuffled."""
  x = [[label, i] for label, size in enumerate(sizes) for i in range(size)]
  x = np.random.default_rng(0).permutation(x)
  return x.astype(np.float32), x[:, 0] * 10


def _take(tasks, count):
  return list(tasks.take(count).as_numpy_iterator())


def _images(count=60):
  return np.random.default_rng(0).integers(0, 256, [count, 4, 4, 1], np.uint8)


def _assert_same(first, second):
  for one, other in zip(first, second, strict=True):
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


class ClassificationTest(parameterized.TestCase):
  def test_classes_and_examples_of_a_task_are_different(self):
    tasks = data.tasks_from_arrays(*_numbered([6, 7, 20, 9]), SPEC)
    for inputs, query_y in _take(tasks, 50):
      x = np.concatenate([inputs["support_x"], inputs["query_x"]])
      labels = np.concatenate([inputs["support_y"], query_y])
      self.assertLen(np.unique(x, axis=0), 18)
      classes = [np.unique(x[labels == way, 0]) for way in range(3)]
      self.assertEqual([len(found) for found in classes], [1, 1, 1])
      self.assertLen(np.unique(classes), 3)

  def test_support_and_query_are_balanced(self):
    x, y = _numbered([10] * 5)
    inputs, query_y = _take(data.tasks_from_arrays(x, y, SPEC), 1)[0]
    np.testing.assert_array_equal(np.bincount(inputs["support_y"]), [2] * 3)
    np.testing.assert_array_equal(np.bincount(query_y), [4] * 3)

  def test_a_class_gets_every_label_equally_often(self):
    x, y = _numbered([10] * 5)
    counts = np.zeros([5, 3])
    for inputs, _ in _take(data.tasks_from_arrays(x, y, SPEC), 1000):
      classes = inputs["support_x"][:, 0].astype(int)
      np.add.at(counts, (classes, inputs["support_y"]), 1 / SPEC.shots)
    # Chi-square, at most 14 degrees of freedom: 36.1 is exceeded once in 1000.
    self.assertLess(((counts - 200) ** 2 / 200).sum(), 36.1)

  def test_small_and_large_classes_are_equally_likely(self):
    x, y = _numbered([6, 60, 6, 60])
    counts = np.zeros([4])
    for inputs, _ in _take(data.tasks_from_arrays(x, y, SPEC), 400):
      counts[np.unique(inputs["support_x"][:, 0]).astype(int)] += 1
    self.assertLess(np.abs(counts - 300).max(), 50)

  def test_shapes_are_static(self):
    tasks = data.tasks_from_arrays(_images(), np.arange(60) % 5, SPEC)
    expected = (
      {
        "support_x": tf.TensorSpec([6, 4, 4, 1], tf.float32),
        "support_y": tf.TensorSpec([6], tf.int32),
        "query_x": tf.TensorSpec([12, 4, 4, 1], tf.float32),
      },
      tf.TensorSpec([12], tf.int32),
    )
    self.assertEqual(tasks.element_spec, expected)

  def test_start_equals_skip(self):
    arrays = _images(), np.arange(60) % 5
    tasks = data.tasks_from_arrays(*arrays, SPEC, seed=3)
    later = data.tasks_from_arrays(*arrays, SPEC, seed=3, start=5)
    _assert_same(_take(tasks.skip(5), 3), _take(later, 3))

  def test_images_are_scaled_to_one_and_floats_are_not(self):
    spec = data.TaskSpec(ways=1, shots=1, query_shots=1)
    images = np.array([[0], [255]], np.uint8)
    for x, expected in ((images, [0, 1]), (images.astype(float), [0, 255])):
      inputs, _ = _take(data.tasks_from_arrays(x, [7, 7], spec), 1)[0]
      values = np.concatenate([inputs["support_x"], inputs["query_x"]])
      self.assertCountEqual(values[:, 0], expected)

  @parameterized.parameters(0, 2**20)
  def test_token_ids_and_strings_keep_their_values(self, memory_limit):
    x, y = _numbered([6, 6, 6])
    ids = np.stack([x[:, 0] * 100 + np.arange(18), x[:, 0]], axis=1)
    by_float = data.tasks_from_arrays(ids, y, SPEC)
    limit = {"memory_limit": memory_limit}
    by_id = data.tasks_from_arrays(ids.astype("int64"), y, SPEC, **limit)
    self.assertEqual(by_id.element_spec[0]["support_x"].dtype, tf.int32)
    _assert_same(_take(by_float, 2), _take(by_id, 2))
    words = ids.astype(int).astype(str)
    for array in (words, words.astype(object), words.astype(bytes)):
      by_word = data.tasks_from_arrays(array, y, SPEC, **limit)
      for (one, _), (other, _) in zip(
        _take(by_id, 2), _take(by_word, 2), strict=True
      ):
        for key in ("support_x", "query_x"):
          np.testing.assert_array_equal(
            one[key].astype(str).astype(bytes), other[key].astype(bytes)
          )

  def test_labels_may_be_strings(self):
    x, y = _numbered([6, 6, 6])
    by_number = _take(data.tasks_from_arrays(x, y, SPEC), 2)
    names = np.array(["ant", "bee", "cow"])[x[:, 0].astype(int)]
    for labels in (names, names.astype(object), list(names)):
      by_name = data.tasks_from_arrays(x, labels, SPEC)
      _assert_same(by_number, _take(by_name, 2))

  def test_reading_in_place_gives_the_same_tasks(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    path = os.path.join(folder, "x.npy")
    np.save(path, _images())
    y = np.arange(60) % 5
    mapped = np.load(path, mmap_mode="r")
    in_memory = data.tasks_from_arrays(_images(), y, SPEC)
    in_place = data.tasks_from_arrays(mapped, y, SPEC, memory_limit=0)
    self.assertEqual(in_memory.element_spec, in_place.element_spec)
    _assert_same(_take(in_memory, 5), _take(in_place, 5))

  def test_small_mapped_arrays_are_read_into_memory(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    path = os.path.join(folder, "x.npy")
    np.save(path, np.zeros([60, 2], np.float32))
    mapped = np.load(path, mmap_mode="r+")
    y = np.arange(60) % 5
    in_memory = data.tasks_from_arrays(mapped, y, SPEC)
    in_place = data.tasks_from_arrays(mapped, y, SPEC, memory_limit=0)
    mapped[:] = 1.0
    self.assertEqual(_take(in_memory, 1)[0][0]["support_x"].max(), 0.0)
    self.assertEqual(_take(in_place, 1)[0][0]["support_x"].min(), 1.0)


class BadClassificationTest(parameterized.TestCase):
  def test_fewer_classes_than_ways_names_both(self):
    x, y = _numbered([9, 9])
    with self.assertRaisesRegex(ValueError, "2 classes, fewer than the 3 ways"):
      data.tasks_from_arrays(x, y, SPEC)

  def test_too_few_examples_names_the_class(self):
    x, y = _numbered([9, 5, 9])
    with self.assertRaisesRegex(ValueError, "Class 10 has 5 examples.* = 6"):
      data.tasks_from_arrays(x, y, SPEC)

  @parameterized.parameters(np.nan, np.inf, -np.inf, 1e300)
  def test_values_that_are_not_finite_are_located(self, value):
    x, y = _numbered([9, 9, 9])
    x = x.astype(np.float64)
    x[13, 1] = value
    with self.assertRaisesRegex(ValueError, r"finite.*x\[13, 1\]="):
      data.tasks_from_arrays(x, y, SPEC)

  def test_x_and_y_must_have_the_same_length(self):
    x, y = _numbered([9, 9, 9])
    with self.assertRaisesRegex(ValueError, r"27 examples.*shape \(26,\)"):
      data.tasks_from_arrays(x, y[:-1], SPEC)

  def test_one_hot_labels_are_rejected(self):
    x, y = _numbered([9, 9, 9])
    with self.assertRaisesRegex(ValueError, r"one label.*shape \(27, 31\)"):
      data.tasks_from_arrays(x, np.eye(31, dtype=int)[y.astype(int)], SPEC)

  @parameterized.parameters(({},), (5,), (None,))
  def test_other_types_of_spec_are_rejected(self, spec):
    with self.assertRaisesRegex(TypeError, "`spec` must be a tfmeta.TaskSpec"):
      data.tasks_from_arrays(*_numbered([9]), spec)

  def test_types_are_checked(self):
    x, y = _numbered([9, 9, 9])
    with self.assertRaisesRegex(TypeError, "`x` must be uint8.*dtype complex"):
      data.tasks_from_arrays(x.astype(complex), y, SPEC)
    # Read as token ids, pixels would keep their scale of 0 to 255.
    with self.assertRaisesRegex(
      TypeError, "Images in `x` must be uint8.*int64"
    ):
      data.tasks_from_arrays(_images().astype(int), np.arange(60) % 5, SPEC)
    with self.assertRaisesRegex(ValueError, "at most 32 bits.*4294967296"):
      data.tasks_from_arrays(x.astype(int) + 2**32, y, SPEC)
    with self.assertRaisesRegex(TypeError, "`y` must hold labels.*float32"):
      data.tasks_from_arrays(x, y.astype(np.float32), SPEC)
    with self.assertRaisesRegex(TypeError, "`y` must hold labels.*object"):
      data.tasks_from_arrays(x, ["a", None, *range(25)], SPEC)

  def test_negative_seeds_are_rejected(self):
    with self.assertRaisesRegex(ValueError, "`seed`.*seed=-1"):
      data.tasks_from_arrays(*_numbered([9] * 3), SPEC, seed=-1)


class RegressionTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.spec = data.TaskSpec(shots=3, query_shots=4)
    self.x = np.random.default_rng(0).normal(size=[5, 8, 2])
    self.y = self.x[..., :1] * np.arange(1, 6)[:, np.newaxis, np.newaxis]

  def test_a_task_is_one_function_and_its_examples_differ(self):
    seen = set()
    tasks = data.tasks_from_arrays(self.x, self.y, self.spec)
    for inputs, query_y in _take(tasks, 60):
      x = np.concatenate([inputs["support_x"], inputs["query_x"]])
      y = np.concatenate([inputs["support_y"], query_y])
      factor = np.unique(np.round(y / x[:, :1]))
      self.assertLen(factor, 1)
      self.assertLen(np.unique(x, axis=0), 7)
      seen.add(float(factor[0]))
    self.assertEqual(seen, {1, 2, 3, 4, 5})

  def test_shapes_are_static(self):
    tasks = data.tasks_from_arrays(self.x, self.y, self.spec)
    inputs, query_y = tasks.element_spec
    self.assertEqual(inputs["query_x"], tf.TensorSpec([4, 2], tf.float32))
    self.assertEqual(inputs["support_y"], tf.TensorSpec([3, 1], tf.float32))
    self.assertEqual(query_y, tf.TensorSpec([4, 1], tf.float32))

  def test_axes_must_agree(self):
    with self.assertRaisesRegex(
      ValueError, r"\[functions, examples\].*\(5, 7, 1\)"
    ):
      data.tasks_from_arrays(self.x, self.y[:, :7], self.spec)

  def test_too_few_examples_are_rejected(self):
    with self.assertRaisesRegex(ValueError, "6 examples.* = 7"):
      data.tasks_from_arrays(self.x[:, :6], self.y[:, :6], self.spec)

  def test_targets_must_be_finite(self):
    self.y[2, 3, 0] = np.nan
    with self.assertRaisesRegex(ValueError, r"y\[2, 3, 0\]=nan"):
      data.tasks_from_arrays(self.x, self.y, self.spec)


if __name__ == "__main__":
  absltest.main()
