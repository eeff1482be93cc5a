"""Tests that two workers train a policy to the weights of one process."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from unittest import mock

from absl import flags as absl_flags
from absl.testing import absltest
import numpy as np

import tfmeta
from trainers import rl
from trainers.run import flags
from trainers.run.policies import training

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 240.0  # Seconds, on a machine busy with other things.

SMALL = (
  *("--horizon=4", "--episodes=4", "--hidden=3", "--meta_batch_size=4"),
  *("--steps_per_epoch=2", "--epochs=1", "--validation_tasks=2"),
  *("--eval_tasks=2", "--eval_steps=1", "--nobaselines"),
)

# Ten iterations solve so small a system beyond its rank, where rounding decides
# the direction. The trainer has no flag for them.
ITERATIONS = {"cg_iterations": 2}
PROGRAM = f"""
import runpy
import tfmeta
tfmeta.rl.TrustRegion.__init__.__kwdefaults__.update({ITERATIONS})
runpy.run_module("trainers.rl", run_name="__main__", alter_sys=True)
"""


def parse(*arguments):
  values = absl_flags.FlagValues()
  flags.define_options(rl.options(), rl.PRESETS, rl.SOURCE, values)
  values(["program", *SMALL, *arguments])
  return rl.read(values)


def variables(folder):
  with np.load(folder / "checkpoints" / "epoch-00001.npz") as arrays:
    return {k: arrays[k] for k in arrays if k != "note"}


class WorkersTest(absltest.TestCase):
  def start(self, folder):
    """Starts the launcher of two workers, in a session of its own."""
    command = ["-m", "trainers.launch", "--workers=2", "--restarts=0", "--"]
    trainer = [sys.executable, "-c", PROGRAM, *SMALL]
    process = subprocess.Popen(
      [sys.executable, *command, *trainer]
      + ["--strategy=multi_worker", f"--workdir={folder}"],
      cwd=ROOT,
      env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )
    self.addCleanup(self.end, process)
    return process

  def end(self, process):
    try:
      os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
      pass
    process.communicate()

  def test_two_workers_equal_one_process(self):
    # Sums that leave out a worker, or weight it wrongly, end elsewhere.
    parent = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    together, alone = parent / "together", parent / "alone"
    process = self.start(together)
    defaults = tfmeta.rl.TrustRegion.__init__.__kwdefaults__
    with mock.patch.dict(defaults, ITERATIONS):
      training.train(parse(f"--workdir={alone}"), alone)
    _, said = process.communicate(timeout=PATIENCE)
    self.assertEqual(process.returncode, 0, said)
    expected, found = variables(alone), variables(together)
    self.assertEqual(expected.keys(), found.keys())
    for name, value in expected.items():
      np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


if __name__ == "__main__":
  absltest.main()
