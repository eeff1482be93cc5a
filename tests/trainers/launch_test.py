"""Tests runs of several processes: their weights, and faults of a worker."""

import contextlib
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from unittest import mock

from absl import flags as absl_flags
from absl.testing import absltest
import numpy as np

from trainers import launch
from trainers import maml
from trainers.run import command_line
from trainers.run import flags
from trainers.run import training

ROOT = pathlib.Path(__file__).parents[2]
EPOCHS = 6
PATIENCE = 240.0  # Seconds, on a machine busy with other things.

TRAINER = [
  "--dataset=sinusoid",
  "--hidden=8",
  "--shots=3",
  "--query_shots=3",
  "--meta_batch_size=4",
  "--steps_per_epoch=8",
  "--steps_per_execution=1",
  f"--epochs={EPOCHS}",
  "--validation_tasks=4",
  "--eval_tasks=4",
]
WORKERS = [
  "trainers.launch",
  "--workers=2",
  "--",
  sys.executable,
  "-m",
  "trainers.maml",
  *TRAINER,
  "--strategy=multi_worker",
]


def start(folder, module, **variables):
  """Starts a process that runs a module, in a session of its own."""
  return subprocess.Popen(
    [sys.executable, "-m", *module, f"--workdir={folder}"],
    cwd=ROOT,
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )


def variables(folder):
  path = folder / "checkpoints" / f"epoch-{EPOCHS:05d}.npz"
  with np.load(path) as arrays:
    return {k: arrays[k] for k in arrays if k != "note"}


class LaunchTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.parent = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def start(self, *arguments, **variables):
    process = start(*arguments, **variables)
    # Workers belong to the session, so a failed test leaves none behind.
    self.addCleanup(self.end, process)
    return process

  def end(self, process):
    try:
      os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
      pass
    process.communicate()

  def finish(self, process):
    _, said = process.communicate(timeout=PATIENCE)
    self.assertEqual(process.returncode, 0, said)
    return said

  def kill_worker(self, process, number, folder, epochs):
    """Kills a worker once so many epochs are finished."""
    said = ""
    while f"worker {number} is process" not in said:
      line = process.stderr.readline()
      self.assertTrue(line, said)
      said += line
    deadline = time.monotonic() + PATIENCE
    while self.finished(folder) < epochs:
      self.assertIsNone(process.poll(), said)
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.001)
    found = re.findall(rf"worker {number} is process (\d+)", said)
    os.kill(int(found[-1]), signal.SIGKILL)

  def run_here(self, folder, *arguments):
    """Runs the trainer in this process and returns exit code and output."""
    values = absl_flags.FlagValues()
    flags.define(maml.TRAINER, values)
    values(["program", *TRAINER, *arguments, f"--workdir={folder}"])
    config = flags.read(maml.TRAINER, values)
    if not absl_flags.FLAGS.is_parsed():
      absl_flags.FLAGS(["program"])
    with contextlib.redirect_stdout(io.StringIO()):
      with contextlib.redirect_stderr(io.StringIO()) as err:
        code = command_line.attempt(
          lambda _: training.run(config) and None, ["program"]
        )
    return code, err.getvalue()

  def finished(self, folder):
    marks = sorted((folder / "checkpoints").glob("epoch-*.npz.sha256"))
    return int(marks[-1].name[6:11]) if marks else 0

  def test_killed_workers_cost_nothing_but_time(self):
    killed, whole, single = (
      self.parent / name for name in ("killed", "whole", "single")
    )
    process = self.start(killed, WORKERS)
    self.kill_worker(process, 1, killed, 1)
    # A killed run may leave such a file, which one of the workers removes.
    (killed / "checkpoints" / "unfinished_epoch-00002.npz").touch()
    self.kill_worker(process, 0, killed, 3)
    said = self.finish(process)
    self.assertIn("worker 0 was killed (SIGKILL); 2 restarts are left", said)
    self.assertRegex(said, "Resuming after [345] of 6 epochs")
    process = self.start(whole, WORKERS)
    code, said = self.run_here(single)
    self.assertIsNone(code, said)
    self.finish(process)
    expected = variables(whole)
    for name, value in variables(killed).items():
      np.testing.assert_array_equal(value, expected[name], err_msg=name)
    # Two processes compute the same weights as one.
    for name, value in variables(single).items():
      np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)
    results = [
      json.loads((folder / "result.json").read_text())["per_task"]
      for folder in (whole, single)
    ]
    np.testing.assert_allclose(*results, rtol=1e-4)

  def test_a_worker_that_never_comes_is_reported(self):
    addresses = [f"127.0.0.1:{port}" for port in launch.free_ports(2)]
    configuration = {
      "cluster": {"worker": addresses},
      "task": {"type": "worker", "index": 0},
    }
    with mock.patch.dict(os.environ, TF_CONFIG=json.dumps(configuration)):
      code, said = self.run_here(
        self.parent / "alone", "--strategy=multi_worker", "--startup_seconds=1"
      )
    self.assertEqual(code, 1)
    self.assertIn("error: Not all of the 2 workers have started within 1", said)
    self.assertNotIn("Traceback", said)

  def test_a_mistake_is_not_tried_again(self):
    process = self.start(self.parent / "wrong", [*WORKERS, "--ways=1"])
    _, said = process.communicate(timeout=PATIENCE)
    self.assertEqual(process.returncode, 1)
    self.assertEqual(said.count("worker 0 is process"), 1)
    self.assertIn("error: `ways` must be at least 2", said)


SLEEP = "import time; time.sleep(60)"


class LauncherTest(absltest.TestCase):
  """Tests the launcher with workers that are no trainers, which start fast."""

  def launch(self, program, *arguments):
    """Starts the launcher, with one program for both workers."""
    process = subprocess.Popen(
      [sys.executable, "-m", "trainers.launch", *arguments, "--"]
      + [sys.executable, "-c", program],
      cwd=ROOT,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    return process

  def workers(self, process):
    """Returns the numbers of the two processes that were started last."""
    numbers = [0, 0]
    while not all(numbers):
      line = process.stderr.readline()
      self.assertTrue(line)
      if found := re.search(r"worker (\d) is process (\d+)", line):
        numbers[int(found[1])] = int(found[2])
    for number in numbers:
      self.addCleanup(self.end, number)
    return numbers

  def end(self, number):
    with contextlib.suppress(ProcessLookupError):
      os.kill(number, signal.SIGKILL)

  def assert_gone(self, numbers):
    deadline = time.monotonic() + 20
    for number in numbers:
      while self.is_running(number):
        self.assertLess(time.monotonic(), deadline, "a worker is left behind")
        time.sleep(0.01)

  def is_running(self, number):
    try:
      status = pathlib.Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
      return False
    return status.rpartition(")")[2].split()[0] != "Z"

  def test_several_signals_leave_no_worker(self):
    for pause in (0, 0.02, 0.1):
      process = self.launch(SLEEP)
      workers = self.workers(process)
      for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(pause)
      process.communicate(timeout=PATIENCE)
      self.assertNotEqual(process.returncode, 0)
      self.assert_gone(workers)

  def test_a_killed_launcher_leaves_no_worker(self):
    process = self.launch(SLEEP)
    workers = self.workers(process)
    process.kill()
    self.assert_gone(workers)

  def test_a_crash_is_a_reason_to_start_again(self):
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    process = self.launch(crash, "--restarts=1", "--grace_seconds=1")
    _, said = process.communicate(timeout=PATIENCE)
    self.assertEqual(process.returncode, 128 + signal.SIGSEGV)
    self.assertIn("was killed (SIGSEGV); 1 restart is left", said)
    self.assertEqual(said.count("worker 0 is process"), 2)

  def test_a_suspended_worker_is_started_again(self):
    process = self.launch(SLEEP, "--restarts=1", "--grace_seconds=0.5")
    first = self.workers(process)
    os.kill(first[1], signal.SIGSTOP)
    self.workers(process)
    self.assert_gone(first)

  def test_a_worker_that_goes_on_in_time_is_left_alone(self):
    program = "import time; time.sleep(3)"
    process = self.launch(program, "--grace_seconds=4")
    _, worker = self.workers(process)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(worker, signal.SIGCONT)
    _, said = process.communicate(timeout=PATIENCE)
    self.assertEqual(process.returncode, 0)
    self.assertNotIn("was killed", said)


if __name__ == "__main__":
  absltest.main()
