import pathlib
import tempfile

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from trainers.run import class_folders
from trainers.run import configuration
from trainers.run import tasks


class ClassFoldersTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def names(self, split, **values):
    config = configuration.Configuration(
      "MAML",
      dataset=str(self.folder / "data"),
      workdir=str(self.folder / "run"),
      **values,
    )
    folder = class_folders.folder_of(config, split)
    return sorted(path.name for path in folder.iterdir() if path.is_dir())

  def make(self, *names):
    for name in names:
      (self.folder / "data" / name).mkdir(parents=True)

  def test_classes_are_divided_without_overlap_and_always_alike(self):
    self.make(*[f"class_{i}" for i in range(30)], ".hidden")
    divided = [self.names(split) for split in class_folders.SPLITS]
    self.assertEqual([len(names) for names in divided], [18, 6, 6])
    self.assertLen(set().union(*divided), 30)
    self.assertEqual([self.names(s) for s in class_folders.SPLITS], divided)

  def test_every_split_has_enough_classes_for_a_task(self):
    self.make(*map(str, range(15)))
    divided = [self.names(split) for split in class_folders.SPLITS]
    self.assertEqual([len(names) for names in divided], [5, 5, 5])

  def test_links_of_another_division_do_not_stay(self):
    self.make(*map(str, range(21)))
    self.assertLen(self.names("test"), 5)
    self.assertLen(self.names("test", ways=7), 7)
    self.assertLen(self.names("train", ways=7), 7)

  def test_a_division_in_part_is_refused(self):
    self.make("train/a", "test/c")
    with self.assertRaisesRegex(ValueError, "which has train, test"):
      self.names("train")

  def test_validation_may_be_called_val(self):
    self.make("train/a", "val/b", "test/c")
    self.assertEqual(self.names("validation"), ["b"])
    self.assertEqual(self.names("test"), ["c"])

  def test_without_test_classes_one_half_of_val_serves(self):
    self.make("train/a", *[f"val/{i}" for i in range(10)])
    self.assertEqual(self.names("train"), ["a"])
    halves = self.names("validation"), self.names("test")
    self.assertEqual([len(half) for half in halves], [5, 5])
    self.assertLen(set().union(*halves), 10)
    with self.assertRaisesRegex(ValueError, "12 .* validation and test"):
      self.names("test", ways=6)

  def test_a_division_that_is_there_is_taken(self):
    self.make("train/a", "train/b", "validation/c", "test/d")
    self.assertEqual(self.names("train"), ["a", "b"])
    self.assertEqual(self.names("test"), ["d"])

  def test_too_few_classes_are_counted(self):
    self.make(*map(str, range(14)))
    with self.assertRaisesRegex(
      ValueError, "at least 15 class folders.*has 14"
    ):
      self.names("train")


class NamesTest(absltest.TestCase):
  def test_names_are_those_of_the_classes_in_the_first_task(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for number in range(8):
      for split in ("train", "validation", "test"):
        made = folder / "data" / split / f"class_{number}"
        made.mkdir(parents=True)
        for image in range(4 + number % 3):
          pixels = np.full([2, 2, 1], 10 * number, np.uint8)
          (made / f"{image}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    config = configuration.Configuration(
      "MAML",
      dataset=str(folder / "data"),
      workdir=str(folder / "run"),
      ways=3,
      query_shots=2,
      size=2,
      channels=1,
    )
    names = tasks.class_names(config, "test")
    found = tasks.evaluation_tasks(config, "test", 1)
    ((inputs, _),) = found.unbatch().as_numpy_iterator()
    pixels = np.round(255 * inputs["support_x"][:, 0, 0, 0]).astype(int)
    for label, pixel in zip(inputs["support_y"], pixels, strict=True):
      self.assertEqual(names[label], f"class_{pixel // 10}")
    self.assertIsNone(
      tasks.class_names(
        configuration.Configuration("MAML", workdir="x"), "test"
      )
    )


if __name__ == "__main__":
  absltest.main()
