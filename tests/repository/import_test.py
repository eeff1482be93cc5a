"""Tests what `import tfmeta` loads: little more than Keras does."""

import os
import subprocess
import sys

from absl.testing import absltest
import source_tree

# Packages that tfmeta or its trainers load where they use them.
LOADED_WHERE_USED = (
  "absl.testing",
  "matplotlib",
  "tensorboard",
  "tensorflow_datasets",
  "tensorflow_probability",
  "tf_keras",
  "torch",
)
# TensorFlow loads absl.testing, and Keras 3.15 loads matplotlib where it is
# installed. They are forgotten before tfmeta is imported, so that the list
# shows what tfmeta itself loads.
PRINT_LOADED = f"""
import sys
import keras

names = {LOADED_WHERE_USED}
for module in [*sys.modules]:
  if any(module == n or module.startswith(n + ".") for n in names):
    del sys.modules[module]
import tfmeta
print(*[n for n in names if n in sys.modules], sep=",")
"""


def run_python(program):
  """Runs `program` in a process of its own, in the root of the repository."""
  return subprocess.run(
    [sys.executable, "-c", program],
    cwd=source_tree.ROOT,
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    capture_output=True,
    text=True,
    check=False,
  )


class ImportTest(absltest.TestCase):
  def test_loads_no_package_before_it_is_used(self):
    done = run_python(PRINT_LOADED)
    self.assertEqual(done.stdout, "\n", done.stderr)

  def test_says_nothing(self):
    done = run_python("import tfmeta")
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(done.stdout, "")

  def test_refuses_another_backend_of_keras_with_a_remedy(self):
    done = run_python(
      "import keras; keras.backend.backend = lambda: 'jax'; import tfmeta"
    )
    self.assertNotEqual(done.returncode, 0)
    self.assertIn("KERAS_BACKEND=tensorflow", done.stderr.splitlines()[-1])


if __name__ == "__main__":
  absltest.main()
