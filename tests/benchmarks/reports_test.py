import json
import pathlib
import subprocess
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

  def test_machine_names_the_processor_and_its_vector_instructions(self):
    info = "processor : 0\nmodel name : Fast 9\nflags : sse avx2 avx512f ht\n"
    path = self.create_tempfile("cpuinfo", info).full_path
    with mock.patch.object(reports, "_CPU_INFO", pathlib.Path(path)):
      found = reports.machine()
    self.assertEqual(found["processor"], "Fast 9 avx2 avx512f")
    self.assertGreater(found["cpus"], 0)

  def test_commit_ends_in_dirty_after_a_change(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    self.assertIsNone(reports.commit(root))
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    (root / "a.txt").write_text("1")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
      subprocess.run([*git, *arguments], check=True)
    clean = reports.commit(root)
    self.assertRegex(clean, "^[0-9a-f]{7,}$")
    (root / "a.txt").write_text("2")
    self.assertEqual(reports.commit(root), f"{clean}-dirty")


if __name__ == "__main__":
  absltest.main()
