import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfmeta import data
from tfmeta.data import splits
from tfmeta.data.imagenet import mapped_images

SPEC = data.TaskSpec(ways=2, shots=1, query_shots=2)
CLASSES = splits.read_classes("mini_imagenet")


def setUpModule():
  tfds.disable_progress_bar()


def _write(folder, names):
  """Writes three images of each class; image i of class c has gray 9 c + i."""
  for number, name in enumerate(names):
    (folder / name).mkdir(parents=True)
    for i in range(3):
      image = tf.fill([84, 84, 3], tf.constant(9 * number + i, tf.uint8))
      content = tf.io.encode_png(image).numpy()
      (folder / name / f"{i}.png").write_bytes(content)


class PreparedTest(absltest.TestCase):
  """Tests that share data prepared from three classes in two splits."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls.manual, cls.data = root / "manual", root / "data"
    # The validation classes come last, so that their grays differ.
    names = CLASSES["train"][:3] + CLASSES["validation"][:3]
    _write(cls.manual / "all", names)
    for folder, members in (("train", names[:3]), ("val", names[3:])):
      (cls.manual / folder).mkdir()
      for name in members:
        path = cls.manual / "all" / name
        path.rename(cls.manual / folder / name)
    (cls.manual / "all").rmdir()
    cls.tasks("train")

  @classmethod
  def tasks(cls, split, **options):
    options = {"manual_dir": cls.manual, **options}
    return data.mini_imagenet(split, SPEC, data_dir=cls.data, **options)

  def grays(self, split, **options):
    """Yields the gray of each image of the first tasks, and its label."""
    for inputs, query_y in self.tasks(split, **options).take(10):
      x = tf.concat([inputs["support_x"], inputs["query_x"]], 0).numpy()
      self.assertEqual(x.shape, (6, 84, 84, 3))
      np.testing.assert_array_equal(x, x[:, :1, :1, :1] * np.ones_like(x))
      y = tf.concat([inputs["support_y"], query_y], 0).numpy()
      yield np.round(x[:, 0, 0, 0] * 255).astype(int), y

  def test_tasks_have_the_classes_of_the_split(self):
    for split, numbers in (("train", (0, 1, 2)), ("validation", (3, 4, 5))):
      allowed = [{9 * c, 9 * c + 1, 9 * c + 2} for c in numbers]
      for grays, labels in self.grays(split):
        for way in range(2):
          self.assertIn({*grays[labels == way]}, allowed)

  def test_images_have_the_classes_of_the_split(self):
    x, names = data.mini_imagenet_images(
      "validation", data_dir=self.data, manual_dir=self.manual
    )
    expected = np.repeat(CLASSES["validation"][:3], 3)
    self.assertEqual(names.tolist(), expected.tolist())
    self.assertEqual(x.shape, (9, 84, 84, 3))
    grays = [27, 28, 29, 36, 37, 38, 45, 46, 47]
    np.testing.assert_array_equal(x[:, 40, 40, 0], grays)

  def test_images_are_scaled_to_a_size(self):
    for size in (42, 20):
      x, _ = data.mini_imagenet_images("train", size=size, data_dir=self.data)
      self.assertEqual((x.shape, x.dtype), ((9, size, size, 3), np.uint8))
      grays = [0, 1, 2, 9, 10, 11, 18, 19, 20]
      np.testing.assert_array_equal(x[:, 5, 5, 0], grays)

  def test_a_size_above_84_is_rejected(self):
    with self.assertRaisesRegex(ValueError, "from 1 to 84. Received: size=85"):
      data.mini_imagenet_images("train", size=85, data_dir=self.data)

  def test_prepared_data_needs_no_files(self):
    first = [grays.tolist() for grays, _ in self.grays("train")]
    options = {"manual_dir": None, "memory_limit": 0}
    mapped = [grays.tolist() for grays, _ in self.grays("train", **options)]
    self.assertEqual(first, mapped)
    # The cache is empty in a new process.
    mapped_images.read.cache_clear()
    with mock.patch.object(mapped_images, "_write") as write:
      self.tasks("train")
    write.assert_not_called()

  def test_processes_that_prepare_at_once_all_continue(self):
    # Another process has prepared the data when the own attempt has failed.
    answers = mock.Mock(side_effect=[False, True])
    builder = tfds.builder("mini_imagenet", data_dir=self.data)
    with mock.patch.object(type(builder), "is_prepared", answers):
      with mock.patch.object(
        type(builder), "download_and_prepare", side_effect=FileExistsError
      ) as prepare:
        self.assertLen(self.tasks("train").element_spec, 2)
    prepare.assert_called_once()

  def test_a_missing_split_is_named(self):
    with self.assertRaisesRegex(FileNotFoundError, "no split 'test'.*train, v"):
      self.tasks("test")

  def test_an_unknown_split_is_rejected(self):
    with self.assertRaisesRegex(ValueError, "`split` must be one of 'train'"):
      self.tasks("val")


class FilesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.manual, self.data = root / "manual", root / "data"

  def tasks(self, name, split):
    load = getattr(data, name)
    return load(split, SPEC, data_dir=self.data, manual_dir=self.manual)

  def test_tiered_imagenet_has_its_own_classes(self):
    names = splits.read_classes("tiered_imagenet")["test"][:2]
    _write(self.manual / "test", names)
    tasks = self.tasks("tiered_imagenet", "test")
    self.assertEqual(tasks.element_spec[0]["query_x"].shape, (4, 84, 84, 3))

  def test_without_files_the_layouts_are_listed(self):
    def check(message):
      with self.assertRaisesRegex(FileNotFoundError, message):
        self.tasks("mini_imagenet", "train")

    check("mini-imagenet-cache-train")
    self.manual.mkdir()
    check("holds no files to read")
    (self.manual / "notes.txt").write_text("text")
    check("mini-imagenet-cache-train")

  def test_the_default_folder_is_that_of_tfds(self):
    folder = self.data / "downloads" / "manual"
    _write(folder / "train", CLASSES["train"][:2])
    tasks = data.mini_imagenet("train", SPEC, data_dir=self.data)
    self.assertEqual(tasks.element_spec[1].shape, (4,))


if __name__ == "__main__":
  absltest.main()
