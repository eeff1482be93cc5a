"""Tests the messages of commands for mistakes of their users."""

import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl import flags as absl_flags
from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

from trainers import __main__ as trainers_main
from trainers import anil
from trainers import evaluate
from trainers import maml
from trainers.run import command_line
from trainers.run import flags
from trainers.run import learner as learners
from trainers.run import tasks
from trainers.run import training

ROOT = pathlib.Path(__file__).parents[2]
COMMANDS = (
  "trainers.anil",
  "trainers.bmaml",
  "trainers.emaml",
  "trainers.evaluate",
  "trainers.fine_tuning",
  "trainers.fomaml",
  "trainers.imaml",
  "trainers.launch",
  "trainers.leo",
  "trainers.maml",
  "trainers.maml_plus_plus",
  "trainers.meta_sgd",
  "trainers.platipus",
  "trainers.pretrain",
  "trainers.proto_net",
  "trainers.reptile",
  "trainers.rl",
)


# A command, what it is given, and a part of what it then says.
MISTAKES = (
  (
    "trainers.launch",
    "--",
    "python",
    "-m",
    "trainers.maml",
    "add --strategy=multi_worker to its command. Received: python -m",
  ),
  (
    "trainers.evaluate",
    "--workdir=~no_such_user/x",
    "home of a user who does not exist here. Received: workdir='~no_such_user",
  ),
  (
    "trainers.rl",
    "--num_particles=3",
    "error: `num_particles` would have no effect here: --learner=maml",
  ),
  ("trainers.maml", "--ways=many", "--ways=many"),
  ("trainers.maml", "ways=5", "Flags must begin with --. Received: ways=5"),
  (
    "trainers.maml",
    "--preset=mnist",
    "should be one of <mini_imagenet_5way_1shot",
  ),
  (
    "trainers.maml",
    "--dataset=sinusoid",
    "--filters=8",
    "error: `filters` would have no",
  ),
  (
    "trainers.maml",
    "--normalization=per_step_running",
    "<transductive|support_stats",
  ),
  (
    "trainers.maml",
    "--strategy=parameter_server",
    "use --strategy=multi_worker",
  ),
  (
    "trainers.pretrain",
    "--data_dir=/x",
    "error: `data_dir` would have no effect",
  ),
  ("trainers.evaluate", "--tasks=0", "0 is not a positive integer"),
  (
    "trainers.evaluate",
    "--workdir=trainer",
    "which does not exist. Did you mean trainers?",
  ),
  ("trainers.maml", "--inner_step=3", "Did you mean: inner_steps"),
  (
    "trainers.launch",
    "--workers=2",
    "The command of a worker must follow after --",
  ),
)

# Runs commands that end before TensorFlow loads, each in a fork of one process,
# which has loaded what all of them share.
FORKS = """
import json, os, runpy, sys, tempfile
from trainers.run import command_line
found = []
for command in json.loads(sys.argv[1]):
  with tempfile.TemporaryFile() as output:
    child = os.fork()
    if not child:
      os.dup2(output.fileno(), sys.stderr.fileno())
      sys.argv = command
      runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    _, status = os.waitpid(child, 0)
    output.seek(0)
    said = output.read().decode()
    found.append([os.waitstatus_to_exitcode(status), said])
print(json.dumps(found))
"""


def run_commands(commands):
  """Returns the exit code and the standard error of each command."""
  ended = subprocess.run(
    [sys.executable, "-c", FORKS, json.dumps(commands)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    timeout=240,
    check=True,
  )
  return json.loads(ended.stdout)


def parse(trainer, *arguments):
  values = absl_flags.FlagValues()
  flags.define(trainer, values)
  values(["program", *arguments])
  return flags.read(trainer, values)


class ProcessTest(absltest.TestCase):
  def test_these_are_all_commands(self):
    found = [
      f"trainers.{path.stem}"
      for path in (ROOT / "trainers").glob("[!_]*.py")
      if "__main__" in path.read_text(encoding="utf-8")
    ]
    self.assertCountEqual(found, COMMANDS)

  def test_the_package_lists_its_commands(self):
    found = [f"trainers.{name}" for name in trainers_main.commands()]
    self.assertCountEqual(found, COMMANDS)
    self.assertTrue(all(trainers_main.commands().values()))

  def test_a_flag_that_does_not_exist_is_named(self):
    ended = run_commands([[name, "--no_such_flag=1"] for name in COMMANDS])
    for name, (code, said) in zip(COMMANDS, ended, strict=True):
      with self.subTest(name):
        self.assertEqual(code, 1)
        self.assertIn("Unknown command line flag 'no_such_flag'", said)
        self.assertNotIn("Traceback", said)

  def test_help_that_is_not_read_to_its_end_is_no_error(self):
    process = subprocess.Popen(
      [sys.executable, "-m", "trainers.maml", "--help"],
      cwd=ROOT,
      # Less than the help, so that it cannot be written at once.
      stdout=subprocess.PIPE,
      pipesize=4096,
      stderr=subprocess.PIPE,
      text=True,
    )
    process.stdout.readline()
    process.stdout.close()
    self.assertNotIn("Traceback", process.stderr.read())
    process.stderr.close()
    self.assertEqual(process.wait(), command_line.UNREAD)

  def test_a_wrong_value_is_one_sentence(self):
    ended = run_commands([[name, *given] for name, *given, _ in MISTAKES])
    for (name, *_, sentence), (code, said) in zip(MISTAKES, ended, strict=True):
      with self.subTest(name, sentence=sentence):
        self.assertEqual(code, 1)
        self.assertIn(sentence, said)
        self.assertNotIn("Traceback", said)


class AttemptTest(absltest.TestCase):
  """Tests of mistakes that are found after TensorFlow has loaded."""

  def setUp(self):
    super().setUp()
    if not absl_flags.FLAGS.is_parsed():
      absl_flags.FLAGS(["program"])
    self.folder = pathlib.Path(
      self.enterContext(tempfile.TemporaryDirectory()), "run"
    )

  def attempt(self, main):
    with contextlib.redirect_stderr(io.StringIO()) as err:
      code = command_line.attempt(main, ["program"])
    self.assertNotIn("Traceback", err.getvalue())
    self.assertEqual(err.getvalue().count("\n"), 1, err.getvalue())
    return code, err.getvalue()

  def attempt_run(self, trainer, *arguments):
    config = parse(trainer, *arguments, f"--workdir={self.folder}")
    return self.attempt(lambda _: training.run(config))

  def test_a_layer_that_does_not_exist_is_named_beside_those_that_do(self):
    code, said = self.attempt_run(anil.TRAINER, "--adapted=block_4,head")
    self.assertEqual(code, 1)
    self.assertIn("block_4", said)
    for layer in ("conv_0", "norm_3", "head"):
      self.assertIn(layer, said)
    self.assertEmpty(list(self.folder.iterdir()))

  def test_layers_that_the_help_names_exist(self):
    (adapted,) = [o for o in anil.TRAINER.options if o.name == "adapted"]
    named = adapted.help.partition("For images: ")[2].partition(". ")[0]
    config = parse(anil.TRAINER, f"--adapted={named.replace(', ', ',')}")
    elements = tasks.evaluation_tasks(config, "test", 1).element_spec
    learner = learners.build(config, elements)
    found = {v.path.split("/")[0] for v in learner.model.trainable_variables}
    self.assertCountEqual(learner.adapted, found)

  def test_a_missing_package_ends_a_run_before_it_has_begun(self):
    for name in ("matplotlib", "tensorboard"):
      with mock.patch.dict(sys.modules, {name: None}):
        code, said = self.attempt_run(maml.TRAINER)
      self.assertEqual(code, 1)
      self.assertRegex(said, rf"^error: .*{name}.*tfmeta\[trainers\]")
      self.assertFalse(self.folder.exists())

  def test_a_disk_that_is_full_for_tensorboard_is_one_sentence(self):
    def main(_):
      with training.errors_of_users(None):
        raise tf.errors.ResourceExhaustedError(
          None,
          None,
          "{{function_node __wrapped__WriteSummary_device_/job:a/CPU:0}} "
          "/run/logs/events; No space left on device\n\tFailed to flush",
        )

    _, said = self.attempt(main)
    self.assertEqual(
      said,
      "error: No space left on device: /run/logs/events. Free some space and "
      "start the run again.\n",
    )

  def test_evaluating_a_folder_without_a_run_says_so(self):
    code, said = self.attempt(lambda _: evaluate.run(self.folder, tasks=1))
    self.assertEqual(code, 1)
    self.assertIn("This folder holds no run", said)

  def test_a_damaged_learner_is_said_to_be_damaged(self):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    path = pathlib.Path(self.create_tempdir().full_path, "best.keras")
    model.save(path)
    self.assertLen(learners.load(path).weights, 2)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 255
    for damaged in (whole[:2000], whole[:50], bytes(changed)):
      path.write_bytes(damaged)
      code, said = self.attempt(lambda _: learners.load(path))
      self.assertEqual(code, 1)
      self.assertRegex(said, "A .keras file is damaged.*Received: .*best.keras")

  def test_evaluating_a_run_of_another_kind_says_so(self):
    self.folder.mkdir()
    for values in ({"dataset": "glyphs"}, {"algorithm": "A", "horizon": 9}):
      (self.folder / "flags.json").write_text(json.dumps(values))
      code, said = self.attempt(lambda _: evaluate.run(self.folder, tasks=1))
      self.assertEqual(code, 1)
      self.assertRegex(said, "must be the folder of .*(dataset|horizon)$")


class NormalizationTest(absltest.TestCase):
  """Tests of the flags for the statistics and the layers of normalization."""

  def build(self, *arguments):
    config = parse(maml.TRAINER, "--ways=2", "--filters=2", *arguments)
    found = tasks.evaluation_tasks(config, "test", 1)
    learner = learners.build(config, found.element_spec)
    ((inputs, _),) = list(found.unbatch())
    return learner, inputs

  def normalizes(self, learner):
    return any(
      isinstance(layer, keras.layers.BatchNormalization)
      for layer in learner.model.layers
    )

  def test_statistics_of_the_model_leave_the_network_as_it_is(self):
    learner, inputs = self.build("--normalization=none")
    self.assertEqual(learner.normalization, "none")
    self.assertTrue(self.normalizes(learner))
    weights = learner.adapt(inputs["support_x"], inputs["support_y"])
    all_outputs = learner.predict_with(weights, inputs["query_x"])
    first = learner.predict_with(weights, inputs["query_x"][:1])
    np.testing.assert_allclose(all_outputs[:1], first, rtol=1e-4, atol=1e-5)

  def test_a_network_may_have_no_normalization(self):
    learner, _ = self.build("--network_normalization=none")
    self.assertEqual(learner.normalization, "none")
    self.assertFalse(self.normalizes(learner))

  def test_by_default_the_network_normalizes_by_the_queries(self):
    learner, _ = self.build()
    self.assertEqual(learner.normalization, "transductive")
    self.assertTrue(self.normalizes(learner))


if __name__ == "__main__":
  absltest.main()
