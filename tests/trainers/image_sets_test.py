"""Tests runs on miniImageNet, from files that the test makes."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from tfmeta.data import splits
from trainers.run import configuration
from trainers.run import training


def setUpModule():
  tfds.disable_progress_bar()


class ImageSetsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    random = np.random.default_rng(0)
    lists = splits.read_classes("mini_imagenet")
    for split, folder in (("train", "train"), ("validation", "val")):
      for name in lists[split][:2]:
        path = self.root / "files" / folder / name
        path.mkdir(parents=True)
        for number in range(3):
          noise = random.integers(0, 256, [90, 90, 3], np.uint8)
          Image.fromarray(noise).save(path / f"{number}.jpg")

  def make(self, **options):
    return configuration.Configuration(
      "FOMAML",
      dataset="mini_imagenet",
      data_dir=str(self.root / "data"),
      manual_dir=str(self.root / "files"),
      workdir=str(self.root / "run"),
      ways=2,
      query_shots=2,
      train_query_shots=2,
      filters=2,
      meta_batch_size=2,
      steps_per_epoch=1,
      epochs=1,
      validation_tasks=1,
      eval_tasks=2,
      **options,
    )

  def run_quietly(self, configuration):
    with contextlib.redirect_stdout(io.StringIO()):
      with contextlib.redirect_stderr(io.StringIO()):
        return training.run(configuration)

  def test_what_has_no_test_classes_is_measured_on_the_others(self):
    result = self.run_quietly(self.make(eval_split="validation"))
    self.assertEqual((result["split"], result["tasks"]), ("validation", 2))
    self.assertTrue((self.root / "run" / "tasks.png").exists())

  def test_missing_test_classes_are_named_before_training(self):
    with self.assertRaisesRegex(FileNotFoundError, "no split 'test'"):
      self.run_quietly(self.make())
    self.assertFalse((self.root / "run").exists())

  def test_another_size_is_refused(self):
    with self.assertRaisesRegex(ValueError, "Received: size=28, dataset='mini"):
      self.make(size=28)


if __name__ == "__main__":
  absltest.main()
