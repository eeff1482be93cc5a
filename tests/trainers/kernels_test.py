import os
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized

NAMES = (
  "TF_ENABLE_ONEDNN_OPTS",
  "TF_NUM_INTRAOP_THREADS",
  "TF_NUM_INTEROP_THREADS",
)

PROGRAM = """
from trainers.run import kernels

kernels.prepare(8)

import tensorflow as tf
from tfmeta.core import keras_internals

print(
  tf.config.threading.get_intra_op_parallelism_threads(),
  keras_internals.uses_onednn(),
)
"""


class KernelsTest(parameterized.TestCase):
  @parameterized.parameters(("", True), ("0", False))
  def test_onednn_is_on_unless_the_environment_says_otherwise(self, given, on):
    environment = {k: v for k, v in os.environ.items() if k not in NAMES}
    if given:
      environment["TF_ENABLE_ONEDNN_OPTS"] = given
    done = subprocess.run(
      [sys.executable, "-c", PROGRAM],
      env=environment,
      capture_output=True,
      text=True,
      check=True,
    )
    threads, found = done.stdout.split()[-2:]
    self.assertGreater(int(threads), 0)
    self.assertEqual(found, str(on))


if __name__ == "__main__":
  absltest.main()
