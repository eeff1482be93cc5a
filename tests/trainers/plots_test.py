import importlib
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
from PIL import Image

from trainers.run import configuration
from trainers.run import plots


class PlotsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_they_can_be_imported_without_matplotlib(self):
    with mock.patch.dict(sys.modules, {"matplotlib": None}):
      importlib.reload(plots)

  def test_a_learning_curve_has_a_part_for_each_measure(self):
    widths = []
    for names in (["loss"], ["loss", "accuracy"]):
      history = {f"{p}{n}": [3.0, 2.0] for p in ("", "val_") for n in names}
      plots.plot_learning_curve(self.folder, history)
      with Image.open(self.folder / plots.LEARNING_CURVE) as image:
        widths.append(image.width)
    self.assertEqual(widths[1], 2 * widths[0])

  def test_embeddings_are_not_shown(self):
    (self.folder / "train_embeddings.pkl").touch()
    config = configuration.Configuration(
      "LEO", dataset=str(self.folder), workdir="run"
    )
    plots.plot_tasks(self.folder, config, learner=None)
    self.assertFalse((self.folder / plots.TASKS).exists())

  def test_a_regression_has_no_calibration(self):
    measured = mock.Mock(reliability=None)
    plots.plot_calibration(self.folder, measured)
    self.assertEmpty(list(self.folder.iterdir()))

  def test_a_learner_without_learned_rates_has_no_plot_of_them(self):
    plots.plot_learned_rates(self.folder, learner=object())
    self.assertEmpty(list(self.folder.iterdir()))

  def test_long_names_of_classes_are_cut(self):
    self.assertEqual(plots._short("n0153282"), "n0153282")
    self.assertEqual(plots._short("n01532829"), "n015328…")

  def test_examples_are_sorted_by_class_and_cut_to_the_shortest(self):
    order = plots._by_class(np.array([1, 0, 1, 0, 1]), 3)
    np.testing.assert_array_equal(order, [[1, 3], [0, 2]])


if __name__ == "__main__":
  absltest.main()
