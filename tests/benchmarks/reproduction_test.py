"""Tests that the tables of published figures show the results that are kept."""

import dataclasses
import json
import pathlib

from absl.testing import absltest
from absl.testing import flagsaver
from absl.testing import parameterized

from benchmarks import reproduction
from benchmarks.shared import reproduction_rows
from tests.repository import source_tree

ROWS = {row.name: row for row in reproduction_rows.ROWS}
KEPT = sorted((source_tree.ROOT / reproduction.RESULTS).glob("*/result_*.json"))


class KeptResultsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    results = source_tree.ROOT / reproduction.RESULTS
    self.enter_context(
      absltest.mock.patch.object(reproduction, "RESULTS", results)
    )

  def test_tables_are_those_of_the_kept_results(self):
    page = (source_tree.ROOT / reproduction.PAGE).read_text(encoding="utf-8")
    self.assertEqual(page, reproduction.page_with_tables(page))

  def test_another_figure_would_change_the_tables(self):
    path = KEPT[0]
    row = ROWS[path.parent.name]
    before = reproduction.figures_of(row)["figure"]
    result = json.loads(path.read_text(encoding="utf-8"))
    metric = "mse" if row.regression else "accuracy"
    for point in result["by_step"]:
      point[metric] += 0.1
    with absltest.mock.patch.object(
      reproduction, "kept_results", return_value=[result]
    ):
      self.assertNotEqual(reproduction.figures_of(row)["figure"], before)

  @parameterized.named_parameters(
    (f"{path.parent.name}_{path.stem}", path) for path in KEPT
  )
  def test_result_is_of_its_row(self, path):
    row = ROWS[path.parent.name]
    result = json.loads(path.read_text(encoding="utf-8"))
    command = row.command(result["seed"], "")
    for flag in command[:-1]:
      self.assertIn(flag, result["command"].split())
    self.assertNotIn("per_task", result)
    weights = path.parent / "best.keras"
    if weights.exists() and result["seed"] == 0:
      self.assertEqual(reproduction.digest(weights), result["sha256"])


class RowsTest(parameterized.TestCase):
  @parameterized.parameters(
    # The published accuracy is 98.7 +- 0.4.
    ("omniglot_5way_1shot_maml", 98.1, 0.21, True),
    ("omniglot_5way_1shot_maml", 98.1, 0.19, False),
    ("omniglot_5way_1shot_maml", 99.5, 0.0, True),
    # The published squared error is 0.77 +- 0.11.
    ("sinusoid_10shot_maml", 0.9, 0.03, True),
    ("sinusoid_10shot_maml", 0.9, 0.01, False),
    ("sinusoid_10shot_maml", 0.3, 0.0, True),
    ("sinusoid_10shot_fomaml", 0.3, 0.0, None),
  )
  def test_reached_if_intervals_overlap(self, name, figure, interval, reached):
    row = ROWS[name]
    metric = "mse" if row.regression else "accuracy"
    factor = 1 if row.regression else 100
    point = {metric: figure / factor, "interval": interval / factor}
    result = {
      "by_step": [{"steps": 1, **point}],
      "steps": 1,
      "seconds": 3600,
      "normalization": "none",
      "query_shots": 15,
    }
    with absltest.mock.patch.object(
      reproduction, "kept_results", return_value=[result]
    ):
      found = reproduction.figures_of(row)
    self.assertIs(found["reached"], reached)
    self.assertAlmostEqual(found["figure"], figure)
    self.assertEqual(found["hours"], 1)

  def test_a_row_of_an_ensemble_keeps_the_figures_of_the_ensemble(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    row = dataclasses.replace(ROWS["sinusoid_10shot_maml"], ensemble=5)
    written = folder / f"{row.name}_3" / "result.json"
    written.parent.mkdir()
    written.write_text('{"accuracy": 0.5, "seconds": 7, "per_task": [0.5]}')
    of_ensemble = written.with_name("evaluation_test_1000_ensemble_5.json")
    of_ensemble.write_text('{"accuracy": 0.75}')
    with (
      flagsaver.flagsaver(runs=str(folder)),
      absltest.mock.patch.object(reproduction, "RESULTS", folder),
      absltest.mock.patch.object(reproduction.subprocess, "run") as run,
    ):
      reproduction.run(row, 3)
    evaluated = run.call_args_list[-1].args[0]
    self.assertIn("trainers.evaluate", evaluated)
    self.assertIn("--ensemble=5", evaluated)
    path = folder / row.name / "result_3.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    self.assertEqual(result["accuracy"], 0.75)
    self.assertEqual(result["seconds"], 7)
    self.assertNotIn("per_task", result)

  def test_an_unknown_row_is_named(self):
    with self.assertRaisesRegex(ValueError, "--list.*Received: sinus"):
      reproduction.chosen_rows(["sinusoid_5shot_maml", "sinus"])


if __name__ == "__main__":
  absltest.main()
