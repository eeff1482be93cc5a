import pathlib
import pickle
import tempfile

from absl.testing import absltest
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfmeta.data import splits
from tfmeta.data.imagenet import builders

CLASSES = splits.read_classes("mini_imagenet")


def setUpModule():
  tfds.disable_progress_bar()


class BuildersTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.manual, self.data = root / "manual", root / "data"
    for number, name in enumerate(CLASSES["train"][:2]):
      self.write("train", name, 60 * number)

  def write(self, split, name, gray, size=(84, 84)):
    """Writes three images of one class."""
    folder = self.manual / split / name
    folder.mkdir(parents=True)
    for number in range(3):
      image = tf.fill([*size, 3], tf.constant(gray + number, tf.uint8))
      content = tf.io.encode_png(image).numpy()
      (folder / f"{number}.png").write_bytes(content)

  def builder(self):
    return tfds.builder("mini_imagenet", data_dir=self.data)

  def prepare(self):
    config = tfds.download.DownloadConfig(manual_dir=self.manual)
    builder = self.builder()
    builder.download_and_prepare(download_config=config)
    return builder

  def test_tfds_knows_both_builders(self):
    self.assertIsInstance(self.builder(), builders.MiniImagenet)
    builder = tfds.builder("tiered_imagenet", data_dir=self.data)
    self.assertIsInstance(builder, builders.TieredImagenet)
    registered = [n for n in tfds.list_builders() if n.endswith("_imagenet")]
    self.assertContainsSubset(["mini_imagenet", "tiered_imagenet"], registered)

  def test_builders_can_be_pickled(self):
    builder = self.builder()
    copy = pickle.loads(pickle.dumps(builder))
    self.assertIs(type(copy), builders.MiniImagenet)
    self.assertEqual(copy.data_path, builder.data_path)

  def test_tfds_loads_the_images_in_the_order_of_the_files(self):
    # One image has another size.
    name = CLASSES["train"][2]
    self.write("train", name, 120, size=(100, 60))
    self.prepare()
    dataset = tfds.load("mini_imagenet", split="train", data_dir=self.data)
    images, names = [], []
    for example in dataset.as_numpy_iterator():
      images.append(example["image"])
      names.append(example["class"].decode())
    self.assertEqual(names, np.repeat(CLASSES["train"][:3], 3).tolist())
    grays = np.array([0, 1, 2, 60, 61, 62, 120, 121, 122])
    grays = grays[:, np.newaxis, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(images, np.tile(grays, [1, 84, 84, 3]))

  def test_a_class_of_another_split_is_rejected(self):
    self.write("train", CLASSES["test"][0], 0)
    with self.assertRaisesRegex(ValueError, "'train', such as n0153"):
      self.prepare()
    self.assertFalse((self.data / "mini_imagenet" / "1.0.0").exists())

  def test_an_unreadable_image_is_named(self):
    broken = self.manual / "train" / CLASSES["train"][1] / "1.png"
    broken.write_bytes(b"text")
    with self.assertRaisesRegex(ValueError, str(broken)):
      self.prepare()

  def test_folders_without_images_are_named(self):
    (self.manual / "val" / CLASSES["validation"][0]).mkdir(parents=True)
    with self.assertRaisesRegex(ValueError, "val must hold.*no images"):
      self.prepare()

  def test_a_folder_without_splits_is_named(self):
    (self.manual / "train").rename(self.manual / "other")
    with self.assertRaisesRegex(FileNotFoundError, "mini-imagenet-cache-train"):
      self.prepare()


if __name__ == "__main__":
  absltest.main()
