import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest

from trainers.run import settings
from trainers.run import workdir

HOLD = """
import sys
from trainers.run import settings, workdir
with workdir.claim(settings.Settings("MAML", workdir=sys.argv[1])):
  print("held", flush=True)
  sys.stdin.read()
"""


class WorkdirTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    parent = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(parent, "deep", "run")
    self.settings = settings.Settings(
      "ANIL", own={"adapted": ["head"]}, workdir=str(self.folder)
    )

  def claim(self, **changes):
    with workdir.claim(dataclasses.replace(self.settings, **changes)):
      pass

  def claim_and_work(self):
    self.claim()
    (self.folder / "checkpoints").mkdir()
    (self.folder / "checkpoints" / "epoch-00001.npz").touch()

  def test_notes_all_settings_and_is_opened_again_with_them(self):
    self.claim()
    self.claim()
    values = workdir.read_settings(self.folder)
    self.assertEqual(values["own"], {"adapted": ["head"]})
    self.assertEqual(values["ways"], 5)
    self.assertEqual(settings.Settings(**values).shots, 1)

  def test_refuses_another_algorithm(self):
    self.claim_and_work()
    with self.assertRaisesRegex(
      ValueError, "algorithm is 'ANIL' there and 'MAML' here"
    ):
      self.claim(algorithm="MAML")

  def test_refuses_other_settings_and_names_them(self):
    self.claim_and_work()
    with self.assertRaisesRegex(
      ValueError, r"adapted is \['head'\] there and \['last'\] here; shots is 1"
    ):
      self.claim(shots=5, own={"adapted": ["last"]})
    self.assertEqual(workdir.read_settings(self.folder)["shots"], 1)

  def test_settings_may_be_put_right_before_the_first_epoch_is_done(self):
    self.claim(shots=500)
    self.claim(shots=5)
    self.assertEqual(workdir.read_settings(self.folder)["shots"], 5)

  def test_a_run_that_was_refused_leaves_nothing(self):
    with self.assertRaisesRegex(ValueError, "wrong"):
      with workdir.claim(self.settings):
        raise ValueError("wrong")
    self.assertEmpty(list(self.folder.iterdir()))

  def test_a_wrong_start_takes_nothing_from_a_run(self):
    self.claim()
    with self.assertRaisesRegex(ValueError, "wrong"):
      with workdir.claim(self.settings):
        raise ValueError("wrong")
    self.assertTrue((self.folder / workdir.FLAGS).exists())

  def test_data_may_have_moved_and_more_tasks_be_evaluated(self):
    self.claim()
    self.claim(data_dir="/elsewhere", eval_tasks=1000)

  def test_refuses_a_folder_of_something_else(self):
    self.folder.mkdir(parents=True)
    (self.folder / "thesis.tex").touch()
    with self.assertRaisesRegex(ValueError, "something else.*'thesis.tex'"):
      self.claim()
    self.assertFalse((self.folder / workdir.FLAGS).exists())

  def test_damaged_flags_are_named(self):
    self.claim()
    (self.folder / workdir.FLAGS).write_text("{")
    with self.assertRaisesRegex(ValueError, "flags.json is damaged"):
      self.claim()

  def test_one_process_at_a_time_and_a_killed_one_does_not_count(self):
    command = [sys.executable, "-c", HOLD, str(self.folder)]
    root = pathlib.Path(__file__).parents[2]
    with subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as other:
      other.stdout.readline()
      with self.assertRaisesRegex(ValueError, "Another process"):
        self.claim()
      other.kill()
    self.claim()

  def test_a_file_is_replaced_whole_or_not_at_all(self):
    self.claim()
    path = self.folder / workdir.RESULT
    workdir.write_json(path, {"accuracy": 0.5})
    with self.assertRaises(ValueError):
      workdir.write_json(path, {"accuracy": float("nan")})
    self.assertEqual(json.loads(path.read_text()), {"accuracy": 0.5})
    self.assertEmpty(list(self.folder.glob("unfinished*")))

  def test_a_folder_without_a_run_is_named(self):
    with self.assertRaisesRegex(ValueError, "There is no run in this folder"):
      workdir.read_settings(self.folder)


if __name__ == "__main__":
  absltest.main()
