import json
import pathlib
from unittest import mock

from absl.testing import absltest

from benchmarks.shared import reports


class ReportsTest(absltest.TestCase):
  def test_command_leaves_out_hidden_flags_only(self):
    given = ["program", "--updates=5", "--data_dir=/home/me", "--output=x"]
    with mock.patch("sys.argv", given):
      self.assertEqual(
        reports.command("active", hide=("--data_dir", "--output")),
        "python -m benchmarks.active --updates=5",
      )
      self.assertEqual(
        reports.command("active"),
        "python -m benchmarks.active " + " ".join(given[1:]),
      )

  def test_write_creates_the_folder(self):
    path = pathlib.Path(self.create_tempdir().full_path) / "new" / "a.json"
    reports.write(path, {"mse": 0.5})
    self.assertEqual(json.loads(path.read_text()), {"mse": 0.5})


if __name__ == "__main__":
  absltest.main()
