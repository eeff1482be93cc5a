"""Tests runs that fit a head on the features of a pre-trained body."""

import contextlib
import io
import json
import pathlib
import tempfile

from absl import flags as absl_flags
from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

import tfmeta
from trainers import evaluate
from trainers import fine_tuning
from trainers.run import flags
from trainers.run import learner as learners
from trainers.run import tasks
from trainers.run import training


def parse(*arguments):
  values = absl_flags.FlagValues()
  flags.define(fine_tuning.TRAINER, values)
  values(["program", *arguments])
  return flags.read(fine_tuning.TRAINER, values)


class FineTuningTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
      self.enterContext(tempfile.TemporaryDirectory()), "run"
    )
    self.body = self.folder.with_name("backbone.keras")
    self.enterContext(contextlib.redirect_stdout(io.StringIO()))
    self.enterContext(contextlib.redirect_stderr(io.StringIO()))

  def save_body(self, size=28):
    keras.utils.set_random_seed(0)
    shape = (size, size, 1)
    network = tfmeta.models.conv4(shape, ways=3, filters=2)
    body = keras.Model(network.input, network.layers[-1].input)
    body.save(self.body)
    return body

  def config(self, *arguments):
    return parse(
      f"--workdir={self.folder}",
      f"--body_from={self.body}",
      "--ways=2",
      "--query_shots=2",
      "--eval_tasks=2",
      "--inner_steps=3",
      *arguments,
    )

  def build(self, config):
    elements = tasks.evaluation_tasks(config, "test", 1).element_spec
    return learners.build(config, elements)

  def test_without_epochs_a_run_only_evaluates(self):
    body = self.save_body()
    result = training.run(self.config())
    self.assertEqual((result["tasks"], result["epochs"]), (2, 0))
    self.assertEqual(result["head"], "linear")
    written = json.loads((self.folder / "result.json").read_text())
    self.assertEqual(written, result)
    self.assertFalse((self.folder / "learning_curve.png").exists())
    self.assertTrue((self.folder / "tasks.png").exists())
    learner = keras.models.load_model(self.folder / "best.keras")
    self.assertIsInstance(learner, tfmeta.FineTuning)
    for own, given in zip(learner.model.weights, body.weights, strict=False):
      np.testing.assert_array_equal(own, given)
    again = evaluate.run(self.folder, tasks=2)
    self.assertEqual(again["accuracy"], result["accuracy"])

  @parameterized.parameters(
    ("linear", keras.layers.Dense), ("cosine", tfmeta.layers.CosineDense)
  )
  def test_the_head_is_the_one_that_the_flag_names(self, head, layer):
    self.save_body()
    learner = self.build(self.config(f"--head={head}"))
    self.assertIsInstance(learner.model.layers[-1], layer)
    self.assertEqual(learner.normalization, "none")
    trained = learner.model.trainable_variables
    self.assertLen(trained, len(learner.model.layers[-1].weights))

  def test_epochs_train_the_body_further(self):
    body = self.save_body()
    config = self.config(
      "--epochs=1",
      "--steps_per_epoch=1",
      "--meta_batch_size=1",
      "--validation_tasks=1",
      "--task_map=map",
    )
    learner, _ = training.train(config, self.folder)
    kernel, head = learner.model.weights[0], learner.model.layers[-1]
    self.assertGreater(np.abs(kernel - body.weights[0]).max(), 1e-6)
    np.testing.assert_array_equal(
      head.kernel, self.build(config).model.layers[-1].kernel
    )

  def test_a_body_that_does_not_exist_is_named(self):
    with self.assertRaisesRegex(ValueError, "trainers.pretrain.*not a file"):
      self.build(self.config())

  def test_a_body_for_other_images_is_refused(self):
    self.save_body(size=32)
    with self.assertRaisesRegex(ValueError, r"\(28, 28, 1\).*\(32, 32, 1\)"):
      self.build(self.config())

  def test_a_regression_is_refused(self):
    self.save_body()
    config = parse("--dataset=sinusoid", f"--body_from={self.body}")
    with self.assertRaisesRegex(ValueError, "must have classes.*sinusoid"):
      self.build(config)

  def test_embeddings_need_no_body(self):
    for split in ("train", "validation", "test"):
      values = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
      tfmeta.data.write_embeddings(
        split, self.folder, values, np.repeat(np.arange(3), 4)
      )
    few = ("--ways=2", "--query_shots=2", f"--dataset={self.folder}")
    learner = self.build(parse(*few))
    self.assertEqual(learner.model.layers[-1].kernel.shape, (5, 2))
    for flag in ("--body_from=x", "--epochs=3"):
      with self.assertRaisesRegex(ValueError, "would have no effect"):
        parse(*few, flag)

  def test_flags_of_training_and_of_the_network_are_refused(self):
    for flag in ("--learning_rate=0.1", "--steps_per_epoch=3", "--filters=8"):
      with self.assertRaisesRegex(ValueError, "would have no effect"):
        parse(flag)
    parse("--epochs=2", "--learning_rate=0.1", "--final_learning_rate=0.01")


if __name__ == "__main__":
  absltest.main()
