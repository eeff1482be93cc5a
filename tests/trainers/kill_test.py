import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
EPOCHS = 6
PATIENCE = 240.0  # Seconds, on a machine busy with other things.

FLAGS = [
  "--query_shots=3",
  "--meta_batch_size=4",
  f"--epochs={EPOCHS}",
  "--learning_rate_decay=cosine",
  "--validation_tasks=4",
  "--eval_tasks=4",
]
SINUSOID = [
  "trainers.maml",
  "--dataset=sinusoid",
  "--hidden=8",
  "--shots=3",
  "--steps_per_epoch=40",
  "--steps_per_execution=20",
]
# Adam's second moments, which persist from task to task, and convolutions.
IMAGES = [
  "trainers.reptile",
  "--filters=2",
  "--ways=3",
  "--inner_steps=2",
  "--eval_inner_steps=3",
  "--steps_per_epoch=4",
]


class KillTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.parent = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def start(self, folder, trainer=SINUSOID, **kwargs):
    """The same command each time, as a process of its own."""
    command = [sys.executable, "-m", *trainer, *FLAGS]
    return subprocess.Popen(
      [*command, f"--workdir={folder}"],
      cwd=ROOT,
      env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      **kwargs,
    )

  def finish(self, process):
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err

  def kill_at(self, folder, name, *, trainer=SINUSOID, delay=0.0):
    """Starts the run and kills it once a file is there, and a moment later."""
    process = self.start(folder, trainer)
    deadline = time.monotonic() + PATIENCE
    while not (folder / "checkpoints" / name).exists():
      self.assertIsNone(process.poll(), "The run ended before it was killed.")
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    self.finish(process)

  def variables(self, folder):
    path = folder / "checkpoints" / f"epoch-{EPOCHS:05d}.npz"
    with np.load(path) as arrays:
      return {k: arrays[k] for k in arrays if k != "note"}

  def test_killed_and_out_of_disk_a_run_ends_as_one_never_stopped(self):
    stopped, whole = self.parent / "stopped", self.parent / "whole"
    self.kill_at(stopped, "epoch-00001.npz.sha256")
    self.kill_at(stopped, "epoch-00003.npz.sha256", delay=0.02)
    self.fill_disk(stopped)
    code, _, said = self.finish(self.start(stopped))
    self.assertEqual(code, 0, said)
    self.assertRegex(said, "Going on after [345] of 6 epochs")
    code, _, said = self.finish(self.start(whole))
    self.assertEqual(code, 0, said)
    self.assert_same_variables(stopped, whole)

  def test_killed_on_images_a_run_ends_as_one_never_stopped(self):
    stopped, whole = self.parent / "stopped", self.parent / "whole"
    self.kill_at(stopped, "epoch-00002.npz.sha256", trainer=IMAGES, delay=0.02)
    for folder in (stopped, whole):
      # The last epoch tells; what comes after it is seen on the sinusoids.
      last = f"epoch-{EPOCHS:05d}.npz.sha256"
      self.kill_at(folder, last, trainer=IMAGES)
    self.assert_same_variables(stopped, whole)

  def assert_same_variables(self, stopped, whole):
    expected, found = self.variables(whole), self.variables(stopped)
    self.assertSameElements(expected, found)
    for name, value in expected.items():
      np.testing.assert_array_equal(found[name], value, err_msg=name)

  def fill_disk(self, folder):
    """A start for which no file may grow beyond a few kilobytes."""
    before = self.saved(folder)
    limit = (4000, resource.RLIM_INFINITY)
    process = self.start(
      folder,
      preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    code, _, said = self.finish(process)
    self.assertEqual(code, 1)
    self.assertNotIn("Traceback", said)
    self.assertRegex(said.splitlines()[-1], "^error: .* too large")
    self.assertContainsSubset(before, self.saved(folder))

  def saved(self, folder):
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    return {name for name in names if name.endswith(".sha256")}


if __name__ == "__main__":
  absltest.main()
