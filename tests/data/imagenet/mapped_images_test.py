import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfmeta.data.imagenet import mapped_images

SHAPE = (4, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, [6, *SHAPE], np.uint8)
CLASSES = ["ant", "ant", "bee", "bee", "cow", "cow"]


def _prepare(folder):
  """Writes a TFDS data set with one split and returns its folder."""
  tfds.disable_progress_bar()
  examples = tf.data.Dataset.from_tensor_slices(
    {"image": IMAGES, "class": CLASSES}
  )
  tfds.dataset_builders.store_as_tfds_dataset(
    name="animals",
    version="1.0.0",
    features=tfds.features.FeaturesDict(
      {
        "image": tfds.features.Image(shape=SHAPE, encoding_format="png"),
        "class": tfds.features.Text(),
      }
    ),
    split_datasets={"train": examples},
    data_dir=folder,
    disable_shuffling=True,
  )
  return pathlib.Path(folder, "animals", "1.0.0")


class MappedImagesTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.folder = _prepare(folder)
    cls.rows = cls.folder / "rows"

  def setUp(self):
    super().setUp()
    # Each test is the first process that reads the data.
    mapped_images.read.cache_clear()
    for file in self.rows.glob("*"):
      file.unlink()

  def read(self):
    return mapped_images.read(str(self.folder), "train", SHAPE)

  def check(self):
    images, classes = self.read()
    self.assertIsInstance(images, np.memmap)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(classes, CLASSES)

  def test_images_and_classes_are_in_the_order_of_the_data_set(self):
    self.check()

  def test_the_array_is_written_once(self):
    self.check()
    mapped_images.read.cache_clear()
    with mock.patch.object(mapped_images, "_write") as write:
      self.check()
    write.assert_not_called()

  def test_a_partly_written_file_is_removed(self):
    with mock.patch.object(np, "save", side_effect=OSError("disk full")):
      with self.assertRaisesRegex(OSError, "disk full"):
        self.read()
    files = [file.name for file in self.rows.iterdir()]
    self.assertEqual(files, ["train_images.npy"])
    self.check()

  def test_a_folder_without_write_access_is_read(self):
    with mock.patch.object(os, "access", return_value=False):
      self.check()
    self.assertEmpty(list(self.rows.iterdir()))

  def test_a_wrong_number_of_images_is_rejected(self):
    builder = mock.Mock()
    builder.info.splits = {"train": mock.Mock(num_examples=7)}
    examples = {"image": IMAGES, "class": CLASSES}
    dataset = tf.data.Dataset.from_tensor_slices(examples)
    builder.as_dataset.return_value = dataset
    with mock.patch.object(tfds, "builder_from_directory") as open_builder:
      open_builder.return_value = builder
      with self.assertRaisesRegex(OSError, "must hold 7 images.*Received: 6"):
        self.read()
    self.assertEmpty(list(self.rows.iterdir()))


if __name__ == "__main__":
  absltest.main()
