"""Tests that trainers take the flags of all rows."""

import importlib

from absl import flags as absl_flags
from absl.testing import absltest
from absl.testing import parameterized

from benchmarks.shared import reproduction_rows
from trainers.run import flags


class RowsTest(parameterized.TestCase):
  @parameterized.named_parameters(
    (row.name, row) for row in reproduction_rows.ROWS
  )
  def test_its_trainer_takes_its_flags(self, row):
    trainer = importlib.import_module(f"trainers.{row.trainer}").TRAINER
    values = absl_flags.FlagValues()
    flags.define(trainer, values)
    _, _, *given = row.command(3, "runs/mine")
    values(["trainer", *given])
    config = flags.read(trainer, values)
    self.assertEqual((config.seed, config.workdir), (3, "runs/mine"))
    self.assertEqual(config.is_regression, row.regression)

  def test_names_are_unique(self):
    names = [row.name for row in reproduction_rows.ROWS]
    self.assertLen(set(names), len(names))

  def test_a_figure_has_a_source(self):
    for row in reproduction_rows.ROWS:
      self.assertEqual(row.published is None, not row.source, row.name)


if __name__ == "__main__":
  absltest.main()
