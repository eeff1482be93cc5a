"""Tests that pre-training writes embeddings that LEO can train on."""

import contextlib
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import keras
import numpy as np
from PIL import Image
import tensorflow as tf

import tfmeta
from trainers.run import configuration
from trainers.run import data_sets
from trainers.run import pretraining
from trainers.run import progress
from trainers.run import training
from trainers.run import workdir

CLASSES = 8
OPTIONS = {
  "data_dir": None,
  "filters": 4,
  "epochs": 2,
  "batch_size": 32,
  "learning_rate": 0.01,
  "seed": 0,
}
LEO = {
  "ways": 3,
  "query_shots": 3,
  "train_query_shots": 3,
  "inner_steps": 1,
  "task_map": "map",
  "inner_loss_reduction": "sum",
  "meta_batch_size": 2,
  "steps_per_epoch": 2,
  "epochs": 1,
  "validation_tasks": 2,
  "eval_tasks": 4,
}


class PretrainingTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    few = dict.fromkeys(data_sets.SPLITS, CLASSES)
    self.enterContext(mock.patch.object(data_sets, "_GLYPH_CLASSES", few))
    self.folder = pathlib.Path(
      self.enterContext(tempfile.TemporaryDirectory()), "run"
    )
    self.enterContext(contextlib.redirect_stdout(io.StringIO()))
    self.enterContext(contextlib.redirect_stderr(io.StringIO()))

  def test_embeddings_are_those_of_the_backbone_and_leo_takes_them(self):
    pretraining.run("glyphs", self.folder, **OPTIONS)
    written = json.loads((self.folder / "pretrain.json").read_text())
    self.assertEqual(written["classes"], CLASSES)
    self.assertLen(written["history"]["val_accuracy"], 2)
    backbone = keras.models.load_model(self.folder / "backbone.keras")
    images = data_sets.images_by_class("glyphs", "test")
    self.assertEqual(images.dtype, np.uint8)
    expected = backbone.predict(
      images.reshape(-1, 28, 28, 1) / np.float32(255), verbose=0
    )
    spec = tfmeta.TaskSpec(ways=3, shots=1, query_shots=2)
    folder = self.folder / "embeddings"
    tasks = tfmeta.data.embeddings("test", spec, seed=0, data_dir=folder)
    inputs, _ = next(iter(tasks))
    for row in inputs["support_x"]:
      gaps = np.abs(expected - row).max(axis=1)
      self.assertLess(gaps.min(), 1e-4)
    self.train_leo(folder)

  def test_a_rate_that_is_not_positive_is_refused(self):
    for rate in (0.0, -1.0, float("nan")):
      with self.assertRaisesRegex(ValueError, "Received: learning_rate="):
        pretraining.run(
          "glyphs", self.folder, **{**OPTIONS, "learning_rate": rate}
        )

  def test_a_loss_gone_nan_leaves_no_embeddings_and_no_checkpoint(self):
    with self.assertRaisesRegex(ArithmeticError, "NaN or inf at update"):
      pretraining.run(
        "glyphs", self.folder, **{**OPTIONS, "learning_rate": 1e30}
      )
    self.assertFalse((self.folder / "embeddings").exists())
    self.assertEmpty(list((self.folder / "checkpoints").iterdir()))

  def test_a_stopped_run_ends_as_one_never_stopped(self):
    stopped = self.folder.with_name("stopped")
    with mock.patch.object(
      progress.Progress, "on_epoch_end", side_effect=KeyboardInterrupt
    ):
      with self.assertRaises(KeyboardInterrupt):
        pretraining.run("glyphs", stopped, **OPTIONS)
    self.assertTrue((stopped / "checkpoints" / "epoch-00001.npz").exists())
    again = pretraining.run("glyphs", stopped, **OPTIONS)
    whole = pretraining.run("glyphs", self.folder, **OPTIONS)
    self.assertEqual(again["history"]["loss"], whole["history"]["loss"])
    for split in ("train", "val", "test"):
      read = [
        (folder / "embeddings" / f"{split}_embeddings.pkl").read_bytes()
        for folder in (stopped, self.folder)
      ]
      self.assertEqual(*read)

  def test_checkpoints_of_other_values_are_not_taken(self):
    other = pretraining.Pretraining(
      "glyphs", str(self.folder), **{**OPTIONS, "filters": 8}
    )
    with workdir.claim(other) as folder:
      (folder / "pretrain.json").touch()
    with self.assertRaisesRegex(ValueError, "filters is 8 there and 4 here"):
      pretraining.run("glyphs", self.folder, **OPTIONS)

  def test_one_process_at_a_time(self):
    self.folder.mkdir()
    with workdir.locked(self.folder):
      with self.assertRaisesRegex(ValueError, "Another process is using"):
        pretraining.run("glyphs", self.folder, **OPTIONS)

  def test_leo_says_that_it_takes_embeddings(self):
    run = configuration.Configuration("LEO", workdir=str(self.folder), **LEO)
    with self.assertRaisesRegex(ValueError, "trainers.pretrain.*'glyphs'"):
      training.run(run)

  def train_leo(self, folder):
    workdir = self.folder.with_name("leo")
    own = {"num_latents": 4, "finetuning_steps": 1}
    result = training.run(
      configuration.Configuration(
        "LEO", own=own, dataset=str(folder), workdir=str(workdir), **LEO
      )
    )
    self.assertEqual(result["tasks"], 4)
    for key in ("nll", "brier", "ece", "selective_accuracy"):
      self.assertIn(key, result)
    served = tf.saved_model.load(str(workdir / "saved_model")).signatures
    self.assertContainsSubset(["adapt", "predict_samples"], served)
    with Image.open(workdir / "calibration.png") as image:
      self.assertGreater(min(image.size), 300)

  def test_validation_is_on_other_images_of_the_same_classes(self):
    # Classes of 10 and 5 images, which need not lie side by side.
    labels = np.array([0] * 5 + [1] * 5 + [0] * 5)
    train, validation = pretraining.held_out(labels, 0.2)
    self.assertEqual(train.tolist(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12])
    self.assertEqual(validation.tolist(), [9, 13, 14])

  def test_backbones_have_their_layers(self):
    for backbone, kind, widths in (
      ("conv4", tfmeta.layers.MaxPooling2D, [4]),
      ("conv4_stride", type(None), [4]),
      ("resnet12", keras.layers.Add, [4, 10, 20, 40]),
    ):
      config = pretraining.Pretraining(
        "glyphs", str(self.folder), **OPTIONS, backbone=backbone
      )
      network = pretraining.classifier_of((16, 16, 3), 5, config, steps=1)
      self.assertEqual(network.output_shape, (None, 5))
      pools = [x for x in network.layers if isinstance(x, kind)]
      self.assertLen(pools, 0 if backbone == "conv4_stride" else 4)
      found = {x.filters for x in network.layers if hasattr(x, "filters")}
      self.assertEqual(sorted(found), widths)

  def test_photographs_are_mirrored_and_drawings_are_not(self):
    images = np.zeros([200, 1, 2, 1], np.uint8)
    images[:, 0, 1, 0] = np.arange(1, 201)
    for dataset, least, most in (
      ("mini_imagenet", 60, 140),
      ("glyphs", 0, 0),
    ):
      mirrored = []
      for x, labels in self.batches(dataset, images, start=0):
        first, second = np.round(255 * x.numpy()[:, 0, :, 0]).astype(int).T
        np.testing.assert_array_equal(first + second, labels + 1)
        mirrored += [set(labels.numpy()[first > 0])]
      epochs = [set().union(*mirrored[i : i + 4]) for i in (0, 4)]
      for epoch in epochs:
        self.assertBetween(len(epoch), least, most)
      self.assertEqual(epochs[0] == epochs[1], dataset == "glyphs")

  def test_a_resumed_run_reads_what_it_would_have_read(self):
    images = np.arange(400, dtype=np.uint16).astype(np.uint8)
    images = images.reshape(200, 1, 2, 1)
    whole = list(self.batches("mini_imagenet", images, start=0))
    resumed = list(self.batches("mini_imagenet", images, start=1))
    self.assertLen(resumed, 4)
    for one, other in zip(whole[4:], resumed, strict=True):
      np.testing.assert_array_equal(one[0], other[0])
      np.testing.assert_array_equal(one[1], other[1])

  def batches(self, dataset, images, start):
    """Returns batches of 50 in two epochs."""
    config = pretraining.Pretraining(
      dataset, str(self.folder), **{**OPTIONS, "batch_size": 50}
    )
    labels = np.arange(len(images))
    examples = tf.constant(images), tf.constant(labels)
    return pretraining.batches(examples, labels, config, start=start)

  def test_an_unknown_data_set_is_named(self):
    with self.assertRaisesRegex(ValueError, "Received: dataset='letters'"):
      pretraining.run("letters", self.folder, **OPTIONS)


if __name__ == "__main__":
  absltest.main()
