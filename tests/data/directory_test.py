import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta import data

SPEC = data.TaskSpec(ways=2, shots=1, query_shots=2)


def _folder(test):
  return pathlib.Path(test.enterContext(tempfile.TemporaryDirectory()))


def _write(file, value, shape=(6, 5, 3)):
  image = tf.fill(shape, tf.constant(value, tf.uint8))
  file.write_bytes(tf.io.encode_png(image).numpy())


class DirectoryTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = _folder(self)
    for number, name in enumerate(["ant", "bee", "cow"]):
      (self.folder / name).mkdir()
      for copy in range(4):
        _write(self.folder / name / f"{copy}.png", number * 60 + copy)

  def _tasks(self, **kwargs):
    kwargs = {"size": (6, 5), **kwargs}
    return data.tasks_from_directory(self.folder, SPEC, **kwargs)

  def test_each_folder_is_a_class(self):
    for inputs, query_y in self._tasks().take(20).as_numpy_iterator():
      x = np.concatenate([inputs["support_x"], inputs["query_x"]])
      y = np.concatenate([inputs["support_y"], query_y])
      values = np.round(x[:, 0, 0, 0] * 255)
      self.assertLen(np.unique(values), 6)
      self.assertLen(np.unique([y, values // 60], axis=1).T, 2)

  @parameterized.parameters(
    dict(size=8, channels=1, expected=(8, 8, 1)),
    dict(size=(3, 4), channels=3, expected=(3, 4, 3)),
  )
  def test_images_have_the_requested_size_and_channels(
    self, size, channels, expected
  ):
    inputs, _ = self._tasks(size=size, channels=channels).element_spec
    self.assertEqual(inputs["query_x"].shape, (4, *expected))

  def test_scaling_preserves_a_constant_color(self):
    inputs, _ = next(iter(self._tasks(size=(3, 9))))
    one = inputs["support_x"][0]
    np.testing.assert_array_equal(one, tf.broadcast_to(one[0, 0], one.shape))

  def test_grayscale_images_can_be_read_as_color(self):
    _write(self.folder / "ant" / "5.png", 7, shape=(6, 5, 1))
    self.assertEqual(self._tasks().element_spec[1].shape, (4,))

  def test_images_beyond_the_memory_limit_give_the_same_tasks(self):
    in_memory = self._tasks().take(3).as_numpy_iterator()
    in_file = self._tasks(memory_limit=0).take(3).as_numpy_iterator()
    for one, other in zip(in_memory, in_file, strict=True):
      tf.nest.map_structure(np.testing.assert_array_equal, one, other)

  def test_other_files_are_ignored(self):
    (self.folder / ".git").mkdir()
    (self.folder / "README").write_text("about")
    (self.folder / "ant" / "Thumbs.db").write_bytes(b"x")
    (self.folder / "ant" / "._0.png").write_bytes(b"x")
    next(iter(self._tasks()))

  def test_a_missing_folder_is_named(self):
    with self.assertRaisesRegex(FileNotFoundError, "path=.*nowhere"):
      data.tasks_from_directory(self.folder / "nowhere", SPEC)

  def test_a_folder_without_folders_is_named(self):
    with self.assertRaisesRegex(ValueError, "ant holds no folders"):
      data.tasks_from_directory(self.folder / "ant", SPEC)

  def test_an_empty_class_is_named(self):
    (self.folder / "dog").mkdir()
    with self.assertRaisesRegex(ValueError, "Class 'dog' has 0 examples"):
      self._tasks()

  def test_a_single_class_is_too_few(self):
    lone = _folder(self)
    (self.folder / "ant").rename(lone / "ant")
    with self.assertRaisesRegex(ValueError, "1 class, fewer than the 2 ways"):
      data.tasks_from_directory(lone, SPEC)

  def test_an_unreadable_image_is_named(self):
    (self.folder / "bee" / "9.jpg").write_bytes(b"no image")
    with self.assertRaisesRegex(
      ValueError, r"bee.9\.jpg is not a readable JPEG"
    ):
      self._tasks()

  def test_arguments_are_checked(self):
    with self.assertRaisesRegex(ValueError, "`channels` must be one of 1, 3"):
      self._tasks(channels=4)
    for size in (0, (8, 0), (8.0, 8)):
      with self.assertRaisesRegex(ValueError, "`size` must be an integer of"):
        self._tasks(size=size)
    with self.assertRaisesRegex(ValueError, r"one integer or \(height, width"):
      self._tasks(size=(8, 8, 3))
    with self.assertRaisesRegex(ValueError, "`ways` must be set"):
      data.tasks_from_directory(self.folder, data.TaskSpec())


if __name__ == "__main__":
  absltest.main()
