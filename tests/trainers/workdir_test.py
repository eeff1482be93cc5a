import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

from trainers.run import configuration
from trainers.run import workdir

HOLD = """
import sys
from trainers.run import configuration, workdir
with workdir.claim(configuration.Configuration("MAML", workdir=sys.argv[1])):
  print("held", flush=True)
  sys.stdin.read()
"""


class WorkdirTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    parent = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(parent, "deep", "run")
    self.config = configuration.Configuration(
      "ANIL", own={"adapted": ["head"]}, workdir=str(self.folder)
    )

  def claim(self, **changes):
    with workdir.claim(dataclasses.replace(self.config, **changes)):
      pass

  def claim_and_work(self):
    self.claim()
    (self.folder / "checkpoints").mkdir(exist_ok=True)
    (self.folder / "checkpoints" / "epoch-00001.npz").touch()

  def test_writes_the_configuration_and_is_entered_again_with_it(self):
    self.claim()
    self.claim()
    values = workdir.read_configuration(self.folder)
    self.assertEqual(values["own"], {"adapted": ["head"]})
    self.assertEqual(values["ways"], 5)
    self.assertEqual(configuration.Configuration(**values).shots, 1)

  def test_refuses_another_algorithm(self):
    self.claim_and_work()
    with self.assertRaisesRegex(
      ValueError, "algorithm is 'ANIL' there and 'MAML' here"
    ):
      self.claim(algorithm="MAML")

  def test_refuses_another_configuration_and_names_the_differences(self):
    self.claim_and_work()
    with self.assertRaisesRegex(
      ValueError, r"adapted is \['head'\] there and \['last'\] here; shots is 1"
    ):
      self.claim(shots=5, own={"adapted": ["last"]})
    self.assertEqual(workdir.read_configuration(self.folder)["shots"], 1)

  def test_the_configuration_may_change_before_the_first_epoch_is_done(self):
    self.claim(shots=500)
    self.claim(shots=5)
    self.assertEqual(workdir.read_configuration(self.folder)["shots"], 5)

  def test_a_run_that_failed_at_once_leaves_nothing(self):
    with self.assertRaisesRegex(ValueError, "wrong"):
      with workdir.claim(self.config):
        raise ValueError("wrong")
    self.assertEmpty(list(self.folder.iterdir()))

  def test_a_wrong_start_removes_nothing_of_a_run(self):
    self.claim()
    with self.assertRaisesRegex(ValueError, "wrong"):
      with workdir.claim(self.config):
        raise ValueError("wrong")
    self.assertTrue((self.folder / workdir.FLAGS).exists())

  def test_data_may_move_and_the_number_of_test_tasks_may_change(self):
    self.claim()
    self.claim(data_dir="/elsewhere", eval_tasks=1000)

  def test_refuses_a_folder_with_other_files(self):
    self.folder.mkdir(parents=True)
    (self.folder / "thesis.tex").touch()
    with self.assertRaisesRegex(ValueError, "other files.*'thesis.tex'"):
      self.claim()
    self.assertFalse((self.folder / workdir.FLAGS).exists())

  def write(self, **changes):
    """Rewrites `flags.json` as an earlier version would have written it."""
    values = json.loads((self.folder / workdir.FLAGS).read_text())
    del values["network_normalization"]
    (self.folder / workdir.FLAGS).write_text(json.dumps({**values, **changes}))

  def test_resumes_a_run_of_an_earlier_version(self):
    self.claim_and_work()
    self.write()
    self.claim()

  def test_a_network_of_an_earlier_version_keeps_its_normalization(self):
    self.claim_and_work()
    self.write(normalization="none")
    values = workdir.read_configuration(self.folder)
    self.assertEqual(values["network_normalization"], "none")
    self.assertIsNone(values["normalization"])
    self.claim(network_normalization="none")

  def test_rates_of_a_platipus_of_an_earlier_version_are_not_scaled(self):
    self.claim_and_work()
    self.write(own={"initial_shift_rate": 0.25, "kl_weight": 0.1})
    own = workdir.read_configuration(self.folder)["own"]
    self.assertEqual(
      own,
      {
        "initial_prior_rate": 2**-7,
        "initial_posterior_rate": 2**-7,
        "kl_weight": 0.1,
      },
    )

  def test_the_old_flag_of_such_a_network_is_refused_with_the_difference(self):
    self.claim_and_work()
    self.write(normalization="none")
    # The old flag now means something else, and the difference is named.
    with self.assertRaisesRegex(
      ValueError,
      "network_normalization is 'none' there and 'batch' here; normalization "
      "is None there and 'none' here",
    ):
      self.claim(normalization="none")

  @parameterized.parameters(
    b"{",
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"7",
    b'"MAML"',
    b'{"own": []}',
    b'{"own": null}',
    b"[" * 100_000,
  )
  def test_damaged_flags_are_named_if_the_copy_is_damaged_too(self, content):
    self.claim_and_work()
    (self.folder / workdir.FLAGS).write_bytes(content)
    self.claim()  # The copy serves, and the file is written again.
    self.assertEqual(
      workdir.read_configuration(self.folder)["own"], {"adapted": ["head"]}
    )
    for name in (workdir.FLAGS, workdir._COPY):
      (self.folder / name).write_bytes(content)
    with self.assertRaisesRegex(ValueError, "flags_copy.json is damaged"):
      self.claim()

  def test_lost_flags_do_not_cost_the_run(self):
    self.claim_and_work()
    (self.folder / workdir.FLAGS).unlink()
    with self.assertRaisesRegex(ValueError, "belongs to another run: ways"):
      self.claim(ways=7)
    self.claim()
    self.assertTrue((self.folder / workdir.FLAGS).exists())

  def test_one_process_at_a_time_and_a_killed_one_does_not_count(self):
    command = [sys.executable, "-c", HOLD, str(self.folder)]
    root = pathlib.Path(__file__).parents[2]
    with subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as other:
      other.stdout.readline()
      # Twice, because the first attempt must not clear what the lock says.
      said = f"Another process .*: process {other.pid} on .* since 20"
      for _ in range(2):
        with self.assertRaisesRegex(ValueError, said):
          self.claim()
      other.kill()
    self.claim()

  def test_a_file_is_replaced_whole_or_not_at_all(self):
    self.claim()
    path = self.folder / workdir.RESULT
    workdir.write_json(path, {"accuracy": 0.5})
    with self.assertRaises(TypeError):
      workdir.write_json(path, {"accuracy": object()})
    self.assertEqual(json.loads(path.read_text()), {"accuracy": 0.5})
    self.assertEmpty(list(self.folder.glob("unfinished*")))

  def test_figures_that_are_not_finite_are_null_and_named(self):
    self.claim()
    path = self.folder / workdir.RESULT
    history = {"loss": (1.0, float("inf")), "steps": 3}
    wrong = workdir.write_json(path, {"mse": float("nan"), "history": history})
    self.assertEqual(wrong, ["mse", "history.loss[1]"])
    self.assertEqual(
      json.loads(path.read_text()),
      {"mse": None, "history": {"loss": [1.0, None], "steps": 3}},
    )

  def test_a_folder_without_a_run_is_named(self):
    with self.assertRaisesRegex(ValueError, "This folder holds no run"):
      workdir.read_configuration(self.folder)


if __name__ == "__main__":
  absltest.main()
