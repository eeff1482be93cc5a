"""Tests of the images that pre-training reads, and that none leak."""

import contextlib
import dataclasses
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import keras
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

import tfmeta
from tfmeta.data import splits
from trainers.run import labeled_images
from trainers.run import pretraining

OPTIONS = {
  "filters": 4,
  "epochs": 1,
  "batch_size": 8,
  "learning_rate": 0.01,
  "seed": 0,
}
LISTS = splits.read_classes("mini_imagenet")
# The gray of the images of a class tells it from the others.
GRAYS = {
  name: 20 + 30 * number
  for number, name in enumerate([*LISTS["train"][:5], *LISTS["validation"][:2]])
}


def setUpModule():
  tfds.disable_progress_bar()


class MiniImagenetTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    for split, count in (("train", 5), ("validation", 2)):
      for name in LISTS[split][:count]:
        path = cls.root / "files" / split / name
        path.mkdir(parents=True)
        for number in range(5):
          image = Image.new("RGB", (84, 84), (GRAYS[name],) * 3)
          image.save(path / f"{number}.jpg")

  def make(self, **options):
    options = {"held_out_classes": 2, **options}
    return pretraining.Pretraining(
      "mini_imagenet",
      str(self.root / self.id()),
      data_dir=str(self.root / "data"),
      manual_dir=str(self.root / "files"),
      **OPTIONS,
      **options,
    )

  def run_quietly(self, config):
    values = dataclasses.asdict(config)
    with contextlib.redirect_stdout(io.StringIO()):
      with contextlib.redirect_stderr(io.StringIO()):
        pretraining.run(**values)
    return pathlib.Path(config.workdir)

  def test_held_out_classes_validate_and_the_validation_classes_test(self):
    found = labeled_images.read(self.make())
    names = {split: {*images.classes} for split, images in found.items()}
    self.assertEqual(names["test"], {*LISTS["validation"][:2]})
    self.assertLen(names["validation"], 2)
    self.assertEqual(
      names["train"], {*LISTS["train"][:5]} - names["validation"]
    )
    for values, classes in found.values():
      self.assertEqual(values.shape, (5 * len({*classes}), 84, 84, 3))
      grays = np.array([GRAYS[name] for name in classes])
      self.assertLess(np.abs(values[:, 40, 40, 0] - grays).max(), 4)

  def test_a_smaller_choice_is_within_a_larger_one(self):
    classes = np.array(LISTS["train"])
    few, many = (
      labeled_images.held_out_classes(
        classes, self.make(held_out_classes=count)
      )
      for count in (6, 12)
    )
    self.assertLen({*few}, 6)
    self.assertContainsSubset(few, many)
    # The lists are sorted by meaning, so the last ones would all be alike.
    self.assertNotEqual(many, sorted(LISTS["train"])[-12:])

  def test_nothing_of_a_held_out_class_is_trained_on(self):
    with mock.patch.object(
      pretraining, "batches", wraps=pretraining.batches
    ) as batches:
      folder = self.run_quietly(self.make(size=20, backbone="conv4_stride"))
    (images, labels), chosen = batches.call_args.args[:2]
    grays = images.numpy()[:, 10, 10, 0]
    written = json.loads((folder / "pretrain.json").read_text())
    self.assertEqual(written["classes"], 3)
    self.assertEqual(written["settings"]["held_out_classes"], 2)
    found = {}
    for split in ("train", "validation", "test"):
      _, found[split] = tfmeta.data.read_embeddings(
        split, folder / "embeddings"
      )
    trained_on = [GRAYS[name] for name in found["train"]]
    self.assertLess(np.abs(grays - np.array(trained_on)).max(), 4)
    self.assertLen(chosen, 12)
    self.assertLen({*labels.numpy()}, 3)
    self.assertEmpty({*found["train"]} & {*found["validation"]})
    self.assertEqual({*found["test"]}, {*LISTS["validation"][:2]})
    backbone = keras.models.load_model(folder / "backbone.keras")
    self.assertEqual(backbone.input_shape, (None, 20, 20, 3))
    self.assertEqual(backbone.output_shape, (None, 2 * 2 * 4))

  def test_too_many_held_out_classes_are_refused(self):
    with self.assertRaisesRegex(
      ValueError, "2 of the 5 training.*Received: held_out_classes=4"
    ):
      labeled_images.read(self.make(held_out_classes=4))

  def test_missing_test_classes_are_named_before_training(self):
    config = self.make(held_out_classes=0)
    with self.assertRaisesRegex(ValueError, "`held_out_classes` must be above"):
      self.run_quietly(config)
    self.assertEmpty(list(pathlib.Path(config.workdir).iterdir()))

  def test_a_size_above_that_of_the_files_is_refused(self):
    with self.assertRaisesRegex(ValueError, "Received: size=96"):
      labeled_images.read(self.make(size=96))


class FlagsTest(absltest.TestCase):
  def test_flags_that_a_data_set_does_not_use_are_refused(self):
    for dataset, flag in (
      ("glyphs", "size"),
      ("glyphs", "data_dir"),
      ("omniglot", "held_out_classes"),
      ("omniglot", "manual_dir"),
    ):
      message = f"the data set '{dataset}' does.*Received: --{flag}=30"
      with self.assertRaisesRegex(ValueError, message):
        labeled_images.check_used(dataset, {flag: 30})

  def test_flags_that_a_data_set_uses_pass(self):
    labeled_images.check_used("mini_imagenet", {"size": 42, "manual_dir": "/x"})
    labeled_images.check_used("glyphs", {})


if __name__ == "__main__":
  absltest.main()
