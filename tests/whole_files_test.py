import os
import pathlib
from unittest import mock

from absl.testing import absltest

from tfmeta import whole_files


class WholeFilesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path, "file.json")

  def test_an_error_leaves_the_file_before(self):
    self.path.write_text("before")
    with self.assertRaises(KeyError):
      with whole_files.replacing(self.path) as temporary:
        temporary.write_text("half")
        raise KeyError
    self.assertEqual(self.path.read_text(), "before")
    self.assertEqual(os.listdir(self.path.parent), ["file.json"])

  def test_content_and_name_reach_the_disk_in_this_order(self):
    # A power cut after the rename must not leave an empty file.
    calls = []
    with (
      mock.patch.object(whole_files, "flush", lambda path: calls.append(path)),
      mock.patch.object(os, "replace", lambda *paths: calls.append("replace")),
    ):
      with whole_files.replacing(self.path) as temporary:
        temporary.write_text("content")
    self.assertEqual(calls, [temporary, "replace", self.path.parent])

  def test_what_a_killed_process_left_is_written_over(self):
    for _ in range(2):
      with whole_files.replacing(self.path) as temporary:
        temporary.write_text("content")
      temporary.write_text("of a killed process")
    self.assertLen(os.listdir(self.path.parent), 2)

  def test_processes_that_share_a_file_have_their_own_temporary_ones(self):
    with whole_files.replacing(self.path, shared=True) as temporary:
      temporary.write_text("content")
      with mock.patch.object(os, "getpid", lambda: -1):
        with whole_files.replacing(self.path, shared=True) as other:
          other.write_text("content")
    self.assertNotEqual(temporary, other)
    self.assertEqual(os.listdir(self.path.parent), ["file.json"])


if __name__ == "__main__":
  absltest.main()
