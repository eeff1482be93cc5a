"""Tests the paths that users give on the command line."""

import os

from absl.testing import absltest
from absl.testing import parameterized

from trainers.run import configuration
from trainers.run import paths


class LocalTest(parameterized.TestCase):
  def test_expands_the_home_of_the_user(self):
    home = os.path.expanduser("~")
    self.assertEqual(paths.local("x", "~/runs/a"), f"{home}/runs/a")
    self.assertEqual(paths.local("x", "runs/a~b"), "runs/a~b")

  @parameterized.parameters("gs://bucket/run", "s3://bucket", "hdfs://a:1/b")
  def test_refuses_addresses(self, path):
    with self.assertRaisesRegex(ValueError, f"`x` .* this machine.*{path}"):
      paths.local("x", path)

  def test_refuses_the_home_of_a_user_who_does_not_exist(self):
    with self.assertRaisesRegex(ValueError, "`x` .*home.*'~no_such_user/a'"):
      paths.local("x", "~no_such_user/a")

  @parameterized.parameters("workdir", "data_dir", "manual_dir")
  def test_paths_of_a_configuration(self, name):
    given = {"workdir": "run", name: "~/there"}
    config = configuration.Configuration("MAML", **given)
    self.assertEqual(getattr(config, name), os.path.expanduser("~/there"))
    with self.assertRaisesRegex(ValueError, f"`{name}`.*Received"):
      configuration.Configuration("MAML", **{**given, name: "gs://there"})


if __name__ == "__main__":
  absltest.main()
