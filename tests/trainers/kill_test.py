"""Tests runs that are killed, or that run out of disk, and then resume.

Each kill needs a process of its own. The run that they are compared with, which
is never stopped, is computed in this process.
"""

import contextlib
import io
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time

# The processes that are killed have as many threads. Must come before
# TensorFlow, which reads it once.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

from absl import flags as absl_flags
from absl.testing import absltest
import numpy as np

from tfmeta.core import keras_internals
from trainers import maml
from trainers import reptile
from trainers.run import command_line
from trainers.run import flags
from trainers.run import strategies
from trainers.run import training
from trainers.run import workdir

ROOT = pathlib.Path(__file__).parents[2]
EPOCHS = 6
PATIENCE = 240.0  # Seconds, on a machine that is busy with other things.

FLAGS = [
  "--query_shots=3",
  "--meta_batch_size=4",
  f"--epochs={EPOCHS}",
  "--learning_rate_decay=cosine",
  "--validation_tasks=4",
  "--eval_tasks=4",
]
SINUSOID = [
  *FLAGS,
  "--dataset=sinusoid",
  "--hidden=8",
  "--shots=3",
  "--steps_per_epoch=40",
  "--steps_per_execution=20",
]
# Adam's second moments, which persist from task to task, and convolutions.
IMAGES = [
  *FLAGS,
  "--filters=2",
  "--ways=3",
  "--inner_steps=2",
  "--eval_inner_steps=3",
  "--steps_per_epoch=4",
]


def configuration_of(trainer, arguments, folder):
  values = absl_flags.FlagValues()
  flags.define(trainer, values)
  values(["program", *arguments, f"--workdir={folder}"])
  return flags.read(trainer, values)


def variables(folder):
  path = folder / "checkpoints" / f"epoch-{EPOCHS:05d}.npz"
  with np.load(path) as arrays:
    return {k: arrays[k] for k in arrays if k != "note"}


class KillTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    parent = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.stopped, self.whole = parent / "stopped", parent / "whole"

  def start(self, trainer, arguments):
    """Starts the same command each time, in a process of its own."""
    module = f"trainers.{trainer.name}"
    process = subprocess.Popen(
      [
        *(sys.executable, "-m", module),
        *arguments,
        f"--workdir={self.stopped}",
      ],
      cwd=ROOT,
      env={
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Trainers turn oneDNN on, whose sums differ from those of this process
        # if it has oneDNN off.
        "TF_ENABLE_ONEDNN_OPTS": str(int(keras_internals.uses_onednn())),
      },
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    # A failed test leaves no process behind.
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    return process

  def kill_at(self, process, name, *, delay=0.0):
    """Kills the run once a file is there, and a moment later."""
    deadline = time.monotonic() + PATIENCE
    while not (self.stopped / "checkpoints" / name).exists():
      self.assertIsNone(process.poll(), "The run ended before it was killed.")
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)

  def train(self, trainer, arguments, folder):
    """Trains in this process, without what comes after the last epoch."""
    config = configuration_of(trainer, arguments, folder)
    with contextlib.redirect_stderr(io.StringIO()) as err:
      with workdir.claim(config):
        training.train(config, folder, strategies.make(config))
    return err.getvalue()

  def test_killed_and_out_of_disk_a_run_ends_as_one_never_stopped(self):
    process = self.start(maml.TRAINER, SINUSOID)
    self.kill_at(process, "epoch-00001.npz.sha256")
    process = self.start(maml.TRAINER, SINUSOID)
    self.kill_at(process, "epoch-00003.npz.sha256", delay=0.02)
    self.fill_disk()
    process = self.start(maml.TRAINER, SINUSOID)
    self.train(maml.TRAINER, SINUSOID, self.whole)
    _, said = process.communicate(timeout=PATIENCE)
    self.assertEqual(process.returncode, 0, said)
    self.assertRegex(said, "Resuming after [345] of 6 epochs")
    self.assert_same_variables()

  def test_killed_on_images_a_run_ends_as_one_never_stopped(self):
    process = self.start(reptile.TRAINER, IMAGES)
    self.kill_at(process, "epoch-00002.npz.sha256", delay=0.02)
    self.train(reptile.TRAINER, IMAGES, self.whole)
    said = self.train(reptile.TRAINER, IMAGES, self.stopped)
    self.assertRegex(said, "Resuming after [2345] of 6 epochs")
    self.assert_same_variables()

  def assert_same_variables(self):
    expected, found = variables(self.whole), variables(self.stopped)
    self.assertSameElements(expected, found)
    for name, value in expected.items():
      np.testing.assert_array_equal(found[name], value, err_msg=name)

  def fill_disk(self):
    """Starts the run while no file may grow beyond a few kilobytes."""
    before = self.saved()
    config = configuration_of(maml.TRAINER, SINUSOID, self.stopped)
    if not absl_flags.FLAGS.is_parsed():
      absl_flags.FLAGS(["program"])
    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.redirect_stderr(io.StringIO()) as err:
      try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, most))
        code = command_line.attempt(lambda _: training.run(config), ["program"])
      finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, most))
    said = err.getvalue()
    self.assertEqual(code, 1)
    self.assertNotIn("Traceback", said)
    self.assertRegex(said.splitlines()[-1], "^error: .* too large")
    self.assertContainsSubset(before, self.saved())

  def saved(self):
    names = {path.name for path in (self.stopped / "checkpoints").iterdir()}
    return {name for name in names if name.endswith(".sha256")}


if __name__ == "__main__":
  absltest.main()
