"""Tests how the benchmark of embeddings compares its contenders."""

import pathlib
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import flagsaver
import numpy as np

from benchmarks import embeddings
import tfmeta


class NearestMeanTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir())
    self.enterContext(
      flagsaver.flagsaver(
        dataset=str(self.folder), ways=2, shots=1, test_tasks=20
      )
    )

  def write(self, split, center, directions):
    """Writes classes that differ in their direction from `center` only."""
    lengths = np.linspace(0.1, 4, 20)[:, np.newaxis]
    values = np.concatenate([center + lengths * d for d in directions])
    classes = np.repeat(np.arange(len(directions)), len(lengths))
    tfmeta.data.write_embeddings(split, self.folder, values, classes)

  def test_centering_subtracts_the_mean_of_the_training_embeddings(self):
    center = np.array([5.0, 5.0, 0.0])
    directions = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    self.write("train", center, [*directions, *-directions])
    # The mean of the test embeddings is another one.
    self.write("test", center, directions)
    centered = embeddings.test_nearest_mean(centered=True)
    plain = embeddings.test_nearest_mean()
    self.assertEqual(centered["accuracy"], 1.0)
    self.assertLess(plain["accuracy"], 0.95)
    self.assertLen(plain["per_task"], 20)


class ChoiceTest(absltest.TestCase):
  def test_settings_are_chosen_on_validation_tasks_only(self):
    made = []

    def make(options, updates):
      made.append((options["rate"], updates))
      return made[-1]

    def evaluate(learner, tasks):
      rate, updates = learner
      tested.append((tasks, rate, updates))
      # The better a setting is in validation, the worse it is in the test.
      mean = rate if tasks == "validation" else -rate
      return types.SimpleNamespace(
        mean=mean, to_dict=lambda: {"accuracy": mean}
      )

    tested = []
    with (
      flagsaver.flagsaver(updates=100, choosing_updates=10),
      mock.patch.object(embeddings, "held_out_tasks", lambda split: split),
      mock.patch.object(tfmeta, "evaluate", evaluate),
    ):
      choices = [{"rate": rate} for rate in (float("nan"), 3, 2)]
      found = embeddings.test_best(make, choices)
    self.assertEqual(
      found, {"options": {"rate": 3}, "validation": 3, "accuracy": -3}
    )
    self.assertEqual(made[1:], [(3, 10), (2, 10), (3, 100)])
    self.assertEqual([t for t in tested if t[0] == "test"], [("test", 3, 100)])


class ReportTest(absltest.TestCase):
  def test_differences_are_between_equal_tasks(self):
    runs = {
      "LEO": {"per_task": [0.5, 0.9, 0.7]},
      "shifted": {"per_task": [0.4, 0.8, 0.6]},
      "of an earlier version": {"accuracy": 0.5},
    }
    (found,) = embeddings.differences(runs, "LEO").items()
    self.assertEqual(found[0], "shifted")
    self.assertAlmostEqual(found[1]["accuracy"], 0.1)
    # The tasks differ by 0.4, and the contenders always by 0.1.
    self.assertLess(found[1]["interval"], 1e-6)

  def test_results_of_other_settings_are_not_mixed(self):
    file = self.create_tempfile(content='{"updates": 3, "runs": {"a": 1}}')
    path = pathlib.Path(file)
    settings = {"updates": 3, "ways": 5}
    self.assertEqual(embeddings.kept_runs(path, settings), {"a": 1})
    with self.assertRaisesRegex(ValueError, "`updates` must be 3.*updates=4"):
      embeddings.kept_runs(path, {"updates": 4})


if __name__ == "__main__":
  absltest.main()
