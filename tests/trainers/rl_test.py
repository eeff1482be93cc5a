"""Tests of trainers.rl: its flags, a whole run, and a run that is killed."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from absl import flags as absl_flags
from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from trainers import rl
from trainers.run import command_line
from trainers.run import flags
from trainers.run.policies import configuration
from trainers.run.policies import training

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
  *("--horizon=5", "--episodes=3", "--hidden=4", "--meta_batch_size=2"),
  *("--steps_per_epoch=2", "--validation_tasks=2", "--eval_tasks=2"),
  *("--optimizer=adam", "--eval_steps=1"),
)


def parse(*arguments):
  """Returns the configuration that flags make."""
  values = absl_flags.FlagValues()
  flags.define_options(rl.options(), rl.PRESETS, rl.SOURCE, values)
  values(["program", *arguments])
  return rl.read(values)


def run_quietly(*arguments):
  """Runs a trainer, and returns its result and what it printed."""
  printed = io.StringIO()
  with (
    contextlib.redirect_stdout(printed),
    contextlib.redirect_stderr(io.StringIO()),
  ):
    result = training.run(parse(*arguments))
  return result, printed.getvalue()


class FlagsTest(parameterized.TestCase):
  def test_every_preset_is_a_run(self):
    for name in rl.PRESETS:
      config = parse(f"--preset={name}")
      learner, own = configuration.LEARNERS[config.learner]
      self.assertTrue(hasattr(tfmeta.rl, learner))
      self.assertLen(config.own, len(own))

  def test_the_command_line_overrides_a_preset(self):
    config = parse("--preset=maml_navigation", "--hidden=8,8")
    self.assertEqual(config.hidden, [8, 8])
    self.assertEqual(config.inner_learning_rate, 0.5)

  @parameterized.parameters(
    ("--learner=maml", "--num_particles=3"),
    ("--learner=fomaml", "--first_order"),
    ("--learner=reptile", "--max_divergence=0.1"),
    ("--learner=maml", "--learning_rate=0.1"),
    ("--learner=maml", "--credit_decay=0.5"),
    ("--learner=promp", "--curvature_episodes=2"),
    ("--learner=emaml", "--temperature=2"),
    ("--strategy=none", "--tpu=somewhere"),
  )
  def test_flags_without_an_effect_are_refused(self, chosen, unused):
    with self.assertRaisesRegex(ValueError, "no effect here.*Received: --"):
      parse(chosen, unused)

  @parameterized.parameters(
    "--episodes=1",
    "--horizon=0",
    "--hidden=a",
    "--workdir=",
    "--optimizer=adam --learning_rate=0",
    "--optimizer=adam --learning_rate=inf",
    "--discount=nan",
    "--seed=-1",
    "--seed=2147483648",
  )
  def test_wrong_values_are_refused(self, arguments):
    with self.assertRaisesRegex(ValueError, "Received: "):
      parse(*arguments.split())

  @parameterized.parameters(
    ("maml", {}, "trust_region"),
    ("reptile", {}, "sgd"),
    ("promp", {}, "adam"),
    ("bmaml", {"meta_loss": "chaser"}, "adam"),
    ("bmaml", {"meta_loss": "return"}, "trust_region"),
    ("maml", {"optimizer": "adam"}, "adam"),
  )
  def test_optimizer_follows_the_learner(self, learner, options, expected):
    config = configuration.PolicyConfiguration(learner=learner, **options)
    self.assertEqual(config.resolved_optimizer, expected)

  @parameterized.parameters(*configuration.LEARNERS)
  def test_all_learners_can_be_built(self, name):
    config = parse(f"--learner={name}", "--hidden=4", "--horizon=3")
    learner = training.build(config)
    self.assertIsInstance(
      learner, getattr(tfmeta.rl, configuration.LEARNERS[name][0])
    )
    self.assertEqual(learner.later_step_factor, 0.5)

  def test_mistakes_are_one_sentence(self):
    for arguments, words in (
      (("--optimizer=trust_region", "--learner=promp"), "TrustRegion"),
      (("--sampling_credit",), "log_likelihood"),
      (("--discount=2",), "discount"),
      (("--later_step_factor=0",), "later_step_factor"),
      (("--hidden=0",), "hidden"),
      (("--learner=promp", "--divergence_penalty=-1"), "divergence_penalty"),
      (("--inner_learning_rate=1e30",), "smaller learning rate"),
    ):
      values = absl_flags.FlagValues()
      flags.define_options(rl.options(), rl.PRESETS, rl.SOURCE, values)
      folder = tempfile.mkdtemp()
      values(["program", *SMALL, *arguments, f"--workdir={folder}"])
      errors = io.StringIO()
      with (
        contextlib.redirect_stderr(errors),
        absltest.mock.patch.object(absl_flags, "FLAGS", values),
        absltest.mock.patch.object(rl.absl_flags, "FLAGS", values),
        absltest.mock.patch.object(
          command_line.absl_flags, "FLAGS", _with_verbosity(values)
        ),
      ):
        code = command_line.attempt(rl.main, ["program"])
      self.assertEqual(code, 1)
      last = errors.getvalue().strip().splitlines()[-1]
      self.assertRegex(last, f"^error: .*{words}")


def _with_verbosity(values):
  absl_flags.DEFINE_integer("verbosity", -1, "", flag_values=values)
  values["verbosity"].present = 0
  return values


class RunTest(absltest.TestCase):
  def test_runs_to_the_end_and_writes_everything(self):
    folder = pathlib.Path(tempfile.mkdtemp()) / "run"
    arguments = [*SMALL, "--epochs=2", f"--workdir={folder}"]
    result, printed = run_quietly(*arguments)
    written = json.loads((folder / "result.json").read_text())
    self.assertEqual(written, json.loads(json.dumps(result)))
    self.assertLen(written["returns"], 2)
    self.assertEqual(set(written["baselines"]), {"joint", "random"})
    self.assertLen(written["history"]["val_return"], 2)
    self.assertEqual(written["updates"], 4)
    for name in ("maml", "joint", "random", "saved_model", "tasks.png"):
      self.assertIn(name, printed)
    for name in ("learning_curve.png", "tasks.png"):
      picture = tf.io.decode_png((folder / name).read_bytes())
      self.assertGreater(np.std(picture), 10)
    learner = keras.saving.load_model(folder / "best.keras")
    tasks = learner.environment.tasks("test", seed=0).batch(2).take(1)
    measured = tfmeta.rl.evaluate(learner, tasks, steps=1)
    np.testing.assert_allclose(measured.means, written["returns"], rtol=1e-5)
    served = tf.saved_model.load(folder / "saved_model")
    self.assertIn("adapt", served.signatures)

  def test_a_full_disk_and_a_lost_worker_are_errors_of_the_user(self):
    full = tf.errors.ResourceExhaustedError(None, None, "disk is full\nmore")
    lost = tf.errors.UnavailableError(None, None, "gone")
    workers = configuration.PolicyConfiguration(strategy="multi_worker")
    for config, error, expected, words in (
      (parse(*SMALL), full, OSError, "disk is full$"),
      (workers, lost, ConnectionError, "Start all of them again"),
    ):
      config = dataclasses.replace(config, workdir=tempfile.mkdtemp())
      with (
        absltest.mock.patch.object(training, "train", side_effect=error),
        absltest.mock.patch.object(training.strategies, "make"),
        absltest.mock.patch.object(
          training.workers, "is_chief", return_value=True
        ),
        self.assertRaisesRegex(expected, words),
      ):
        training.run(config)

  def test_a_killed_run_resumes_to_the_same_bits(self):
    folder = pathlib.Path(tempfile.mkdtemp())
    arguments = [*SMALL, "--epochs=4", "--nobaselines"]
    killed = [*arguments, f"--workdir={folder / 'killed'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
      [sys.executable, "-m", "trainers.rl", *killed],
      cwd=ROOT,
      env=environment,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    while not any((folder / "killed" / "checkpoints").glob("epoch-*")):
      self.assertIsNone(process.poll(), "The run has ended before the kill.")
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    self.assertFalse((folder / "killed" / "result.json").exists())
    (folder / "whole").mkdir()
    with contextlib.redirect_stderr(io.StringIO()):
      resumed, whole = (
        training.train(parse(*killed), folder / name)["learner"][0]
        for name in ("killed", "whole")
      )
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
      np.testing.assert_array_equal(a, b)


if __name__ == "__main__":
  absltest.main()
