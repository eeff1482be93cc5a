import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfmeta import data
from tfmeta.data import splits
from tfmeta.data.imagenet import mapped_images

SPEC = data.TaskSpec(ways=2, shots=1, query_shots=2)
SIZES = {"mini_imagenet": (64, 16, 20), "tiered_imagenet": (351, 97, 160)}


def setUpModule():
  tfds.disable_progress_bar()


def _write(root, split, name, count=3, size=(84, 84)):
  """Images of one class, each of one grey, told by its class and number."""
  lists = splits.read("mini_imagenet")
  known = sorted(set().union(*lists.values()))
  (root / split / name).mkdir(parents=True)
  for number in range(count):
    grey = known.index(name) * 2 + number if name in known else 0
    image = tf.fill([*size, 3], tf.constant(grey % 256, tf.uint8))
    path = root / split / name / f"{number}.png"
    path.write_bytes(tf.io.encode_png(image).numpy())


class ListsTest(parameterized.TestCase):
  @parameterized.parameters(*SIZES.items())
  def test_splits_are_of_the_published_sizes_and_share_no_class(
    self, name, sizes
  ):
    lists = [splits.read(name)[split] for split in splits.SPLITS]
    self.assertEqual(tuple(map(len, lists)), sizes)
    self.assertLen(set().union(*lists), sum(sizes))


class ImageNetTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.manual, self.data = root / "manual", root / "data"
    self.classes = splits.read("mini_imagenet")

  def fill(self, **options):
    for split, name in (("train", "train"), ("validation", "val")):
      for label in self.classes[split][:3]:
        _write(self.manual, name, label, **options)

  def tasks(self, split, draw=data.mini_imagenet, **options):
    options = {"manual_dir": self.manual, **options}
    return draw(split, SPEC, data_dir=self.data, **options)

  def greys(self, split, **options):
    """The grey of each image of the first tasks, and its label."""
    for inputs, query_y in self.tasks(split, **options).take(10):
      x = tf.concat([inputs["support_x"], inputs["query_x"]], 0).numpy()
      self.assertEqual(x.shape, (6, 84, 84, 3))
      np.testing.assert_array_equal(x, x[:, :1, :1, :1] * np.ones_like(x))
      y = tf.concat([inputs["support_y"], query_y], 0).numpy()
      yield np.round(x[:, 0, 0, 0] * 255).astype(int), y

  def test_tasks_are_of_the_classes_of_the_split(self):
    self.fill()
    known = sorted(set().union(*self.classes.values()))
    for split in ("train", "validation"):
      own = {known.index(name) for name in self.classes[split][:3]}
      allowed = {c: {2 * c + i for i in range(3)} for c in own}
      for greys, labels in self.greys(split):
        for way in range(2):
          seen = {*greys[labels == way]}
          self.assertLen(seen, 3)
          self.assertIn(seen, allowed.values())

  def test_once_prepared_the_files_are_needed_no_more(self):
    self.fill()
    first = [greys.tolist() for greys, _ in self.greys("train")]
    other = {"manual_dir": None, "memory_limit": 0}
    mapped = [greys.tolist() for greys, _ in self.greys("train", **other)]
    self.assertEqual(first, mapped)
    mapped_images.mapped.cache_clear()  # As in another process.
    with mock.patch.object(mapped_images, "_write") as write:
      self.tasks("train")
    write.assert_not_called()

  def test_images_are_scaled_to_84_by_84(self):
    self.fill(size=(100, 60))
    self.assertLen(list(self.greys("train")), 10)

  def test_tfds_can_load_it_by_name(self):
    self.fill()
    self.tasks("train")
    examples = tfds.load("mini_imagenet", split="train", data_dir=self.data)
    self.assertLen(list(examples), 9)

  def test_tiered_imagenet_is_read_likewise(self):
    names = splits.read("tiered_imagenet")["test"][:2]
    for name in names:
      _write(self.manual, "test", name)
    tasks = self.tasks("test", data.tiered_imagenet)
    self.assertEqual(tasks.element_spec[0]["query_x"].shape, (4, 84, 84, 3))

  def test_a_class_of_another_split_is_refused(self):
    self.fill()
    _write(self.manual, "train", self.classes["test"][0])
    with self.assertRaisesRegex(ValueError, "'train' alone, such as n0153"):
      self.tasks("train")
    self.assertFalse((self.data / "mini_imagenet" / "1.0.0").exists())

  def test_what_is_no_image_is_named(self):
    self.fill()
    broken = self.manual / "train" / self.classes["train"][1] / "1.png"
    broken.write_bytes(b"nothing")
    with self.assertRaisesRegex(ValueError, str(broken)):
      self.tasks("train")

  def test_folders_without_images_are_named(self):
    self.fill()
    for file in self.manual.glob("val/*/*"):
      file.unlink()
    with self.assertRaisesRegex(ValueError, "val must hold.*no images"):
      self.tasks("train")

  def test_of_two_that_prepare_at_once_both_go_on(self):
    self.fill()
    self.tasks("train")  # The other one's.
    answers = mock.Mock(side_effect=[False, True])
    builder = tfds.builder("mini_imagenet", data_dir=self.data)
    with mock.patch.object(type(builder), "is_prepared", answers):
      with mock.patch.object(
        type(builder), "download_and_prepare", side_effect=FileExistsError
      ):
        self.assertLen(self.tasks("train").element_spec, 2)

  def test_what_is_written_in_part_does_not_stay(self):
    self.fill()
    with mock.patch.object(np, "save", side_effect=OSError("disk full")):
      with self.assertRaisesRegex(OSError, "disk full"):
        self.tasks("train")
    rows = self.data / "mini_imagenet" / "1.0.0" / "rows"
    self.assertEqual([f.name for f in rows.iterdir()], ["train_images.npy"])
    self.assertLen(list(self.greys("train")), 10)

  def test_without_files_the_layouts_are_listed(self):
    with self.assertRaisesRegex(FileNotFoundError, "mini-imagenet-cache-train"):
      self.tasks("train")
    self.manual.mkdir()
    with self.assertRaisesRegex(FileNotFoundError, "there is nothing in"):
      self.tasks("train")
    (self.manual / "notes.txt").write_text("nothing")
    with self.assertRaisesRegex(FileNotFoundError, "mini-imagenet-cache-train"):
      self.tasks("train")

  def test_a_split_that_was_not_there_is_named(self):
    self.fill()
    with self.assertRaisesRegex(FileNotFoundError, "no split 'test'.*train, v"):
      self.tasks("test")

  def test_data_that_cannot_be_written_to_are_read_all_the_same(self):
    self.fill()
    expected = [greys.tolist() for greys, _ in self.greys("train")]
    rows = self.data / "mini_imagenet" / "1.0.0" / "rows"
    for file in rows.iterdir():
      file.unlink()
    mapped_images.mapped.cache_clear()
    with mock.patch.object(os, "access", return_value=False):
      found = [greys.tolist() for greys, _ in self.greys("train")]
    self.assertEqual(found, expected)
    self.assertEmpty(list(rows.iterdir()))


if __name__ == "__main__":
  absltest.main()
