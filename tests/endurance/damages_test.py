"""Tests that the endurance test sees what goes wrong."""

import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.endurance import damages
from tests.endurance import runs


class Files:
  """Files whose reader raises or returns what it is given."""

  def __init__(self, found):
    self.found, self.expected = found, ("names", "content")

  def read(self, path):
    if isinstance(self.found, Exception):
      raise self.found
    return self.found

  def judge(self, found):
    return damages._Files.judge(self, found)


class DamagesTest(parameterized.TestCase):
  def test_damages_change_a_file_and_depend_on_the_seed_alone(self):
    content = np.random.default_rng(0).bytes(3000)
    made = [
      damages.damaged(content, np.random.default_rng(seed))
      for seed in [*range(50), *range(50)]
    ]
    self.assertEqual(made[:50], made[50:])
    self.assertGreater(len({*made}), 40)
    self.assertLess(made.count(content), 10)
    self.assertEqual({len(one) > len(content) for one in made}, {True, False})

  @parameterized.parameters(
    (ValueError("It is damaged."), "refused"),
    (FileNotFoundError("It is gone."), "refused"),
    (ValueError(""), "error"),
    (KeyError("name"), "error"),
    (MemoryError(), "error"),
    (("names", "content"), "same"),
    (("names", "other"), "changed"),
    (("fewer names", "content"), "wrong"),
  )
  def test_outcomes(self, found, word):
    self.assertEqual(damages.outcome(Files(found), None), word)


class RunsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    (self.folder / "checkpoints").mkdir()
    self.write([1.0, 2.0], seconds=1.0)

  def write(self, weights, seconds, loss=0.5):
    path = self.folder / "checkpoints" / "epoch-00002.npz"
    np.savez(path, variable_0=weights, note=np.array(str(seconds)))
    path.with_name(f"{path.name}.sha256").touch()
    result = {"seconds": seconds, "history": {"loss": [loss]}}
    (self.folder / "result.json").write_text(json.dumps(result))

  def differences(self, expected):
    found = runs.fingerprints(self.folder)
    return runs.differences(expected, found, self.folder)

  def test_differences_are_named_and_clocks_are_none(self):
    expected = runs.fingerprints(self.folder)
    self.write([1.0, 2.0], seconds=2.0)
    self.assertEmpty(self.differences(expected))
    self.write(np.nextafter([1.0, 2.0], 3.0), seconds=1.0)
    self.assertEqual(self.differences(expected), ["epoch-00002.npz/variable_0"])
    self.write([1.0, 2.0], seconds=1.0, loss=0.4)
    (self.folder / "unfinished_x").touch()
    self.assertEqual(
      self.differences(expected), ["result.json", "left behind: unfinished_x"]
    )
    (self.folder / "result.json").unlink()
    self.assertIn("result.json", self.differences(expected))
    self.assertEqual(runs.finished_epochs(self.folder), 2)


if __name__ == "__main__":
  absltest.main()
