"""Tests an environment in which only what MAML needs is installed."""

import os
import subprocess
import sys
import tempfile

from absl.testing import absltest
import source_tree

OPTIONAL = (
  "matplotlib",
  "tensorboard",
  "tensorflow_datasets",
  "tensorflow_probability",
  "tf_keras",
)


def run_program(folder, *missing):
  """Returns the lines that train_on_arrays.py prints without some modules."""
  done = subprocess.run(
    [
      sys.executable,
      str(source_tree.ROOT / "tests/repository/train_on_arrays.py"),
      folder,
      *missing,
    ],
    cwd=source_tree.ROOT,
    env={
      **os.environ,
      "PYTHONPATH": str(source_tree.ROOT),
      "TF_CPP_MIN_LOG_LEVEL": "3",
    },
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise AssertionError(done.stderr)
  return done.stdout.splitlines()


class MissingPackagesTest(absltest.TestCase):
  def test_maml_trains_and_bmaml_names_the_package_that_it_lacks(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    maml, bmaml = run_program(folder, *OPTIONAL)
    self.assertEqual(maml, "MAML: trained, saved and exported.")
    self.assertIn("pip install tensorflow-probability tf-keras", bmaml)

  def test_with_all_packages_both_train(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    maml, bmaml = run_program(folder)
    self.assertEqual(maml, "MAML: trained, saved and exported.")
    self.assertEqual(bmaml, "BMAML: trained.")


if __name__ == "__main__":
  absltest.main()
