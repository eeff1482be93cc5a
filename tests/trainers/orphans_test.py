import os
import signal
import subprocess
import sys

from absl.testing import absltest

from trainers.run import orphans

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


class GuardTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.guard = orphans.Guard()
    self.addCleanup(self.guard.close)

  def start(self):
    process = subprocess.Popen(SLEEP, start_new_session=True)
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    return process

  def test_what_is_on_the_list_ends_with_the_guard(self):
    listed, other = self.start(), self.start()
    self.guard.add(listed.pid)
    self.guard.close()
    self.assertEqual(listed.wait(20), -signal.SIGKILL)
    self.assertIsNone(other.poll())

  def test_what_has_ended_is_off_the_list(self):
    # The number may belong to another process afterwards.
    process = self.start()
    self.guard.add(process.pid)
    self.guard.end(process.pid)
    self.assertEqual(process.wait(20), -signal.SIGKILL)
    with self.assertRaises(ProcessLookupError):
      os.kill(process.pid, 0)
    self.guard.end(process.pid)
    self.guard.close()

  def test_a_signal_to_the_group_leaves_the_guard_alone(self):
    self.assertNotEqual(os.getpgid(self.guard.process.pid), os.getpgrp())

  def test_a_killed_guard_does_not_stop_the_launcher(self):
    self.guard.process.kill()
    self.guard.process.wait()
    process = self.start()
    self.guard.add(process.pid)
    self.guard.end(process.pid)
    self.assertEqual(process.wait(20), -signal.SIGKILL)


if __name__ == "__main__":
  absltest.main()
