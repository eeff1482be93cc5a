import sys
from unittest import mock

from absl.testing import absltest

from trainers.run import packages


class PackagesTest(absltest.TestCase):
  def test_what_is_installed_is_accepted(self):
    packages.check_installed("matplotlib", "tensorboard")

  def test_a_missing_package_is_named_with_its_extra(self):
    for name in ("matplotlib", "tensorboard"):
      with mock.patch.dict(sys.modules, {name: None}):
        with self.assertRaisesRegex(
          ImportError, rf"with {name}, .*'tfmeta\[trainers\]'.*Received"
        ):
          packages.check_installed("matplotlib", "tensorboard")


if __name__ == "__main__":
  absltest.main()
