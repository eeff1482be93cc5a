import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow as tf

from tfmeta.core import keras_internals
from tfmeta.core import threads

INTRA = "TF_NUM_INTRAOP_THREADS"

# Threads can be set only before TensorFlow starts.
PROGRAM = """
import tensorflow as tf
import tfmeta

print(tfmeta.configure(tasks=8))
print(tf.config.threading.get_intra_op_parallelism_threads())
tf.constant(1.0) + 1.0
print(tfmeta.configure(tasks=8))
"""

LATE = """
import tensorflow as tf
import tfmeta

tf.constant(1.0) + 1.0
print(tfmeta.configure(verbose=False))
print(tf.config.threading.get_intra_op_parallelism_threads())
"""


def run(program, **environment):
  own = {k: v for k, v in os.environ.items() if k != INTRA}
  return subprocess.run(
    [sys.executable, "-c", program],
    env={**own, **environment},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.splitlines()


class CoresTest(parameterized.TestCase):
  @parameterized.parameters(
    (2, 8, 1),  # Each of two tasks at a time has one core.
    (1, 8, 1),
    (8, 2, 4),  # Fewer tasks than cores: all cores are used.
    (64, 32, 7),  # At most ten tasks run at a time.
    (8, 1, 8),
    (4, None, 1),
  )
  def test_each_task_in_work_has_cores_of_its_own(self, count, tasks, each):
    set_threads = self.enterContext(
      mock.patch.object(tf.config.threading, "set_intra_op_parallelism_threads")
    )
    self.enterContext(
      mock.patch.object(
        tf.config.threading,
        "get_intra_op_parallelism_threads",
        return_value=0,
      )
    )
    self.enterContext(mock.patch.dict(os.environ, clear=True))
    self.enterContext(
      mock.patch.object(os, "sched_getaffinity", return_value=range(count))
    )
    threads.configure(tasks=tasks, verbose=False)
    set_threads.assert_called_once_with(each)


class ConfigureTest(absltest.TestCase):
  def test_a_program_gets_the_threads_that_the_line_says(self):
    first, found, second = run(PROGRAM)
    each = -(-threads.cores() // threads.tasks_at_once(8))
    self.assertIn(f"threads of an operation: {each}.", first)
    self.assertEqual(int(found), each)
    self.assertIn(f"threads of an operation: {each}, as set before.", second)

  def test_the_environment_comes_first(self):
    first, found, _ = run(PROGRAM, **{INTRA: "3"})
    self.assertIn("threads of an operation: 3, as set before.", first)
    self.assertEqual(int(found), 0)

  def test_after_the_start_of_tensorflow_nothing_changes(self):
    line, found = run(LATE)
    self.assertIn("TensorFlow has started: call `tfmeta.configure`", line)
    self.assertEqual(int(found), 0)

  def test_says_that_onednn_is_off(self):
    for on in (True, False):
      with mock.patch.object(keras_internals, "uses_onednn", return_value=on):
        line = threads.configure(verbose=False)
      said = "oneDNN is off" in line
      self.assertEqual(said, not on and threads.is_x86())

  def test_tasks_must_be_a_positive_integer(self):
    with self.assertRaisesRegex(ValueError, "`tasks` must be"):
      threads.configure(tasks=0)


if __name__ == "__main__":
  absltest.main()
