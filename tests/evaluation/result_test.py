import json
import math

from absl.testing import absltest
import numpy as np

from tfmeta import evaluation


def make_result(**changes):
  """Returns the result of two tasks, before and after one step."""
  values = {
    "learner": "MAML",
    "metric": "accuracy",
    "per_task": np.array([[0.2, 0.8], [0.4, 1.0]]),
    "after_steps": (0, 1),
    "nll_per_task": np.array([[1.4, 0.4], [1.8, 0.6]]),
    "brier_per_task": np.array([[0.8, 0.2], [0.8, 0.2]]),
    "ece": np.array([0.3, 0.1]),
    "reliability": np.array([[0, 0.0, 0], [150, 140.0, 135]]),
    "selective_accuracy": np.linspace(1.0, 0.9, 10),
    "nearest_neighbour": np.array([0.4, 0.6]),
    "ways": 5,
    "support_size": 5,
    "query_size": 75,
    "normalization": "transductive",
    "transductive": True,
  }
  return evaluation.EvaluationResult(**{**values, **changes})


def make_regression(**changes):
  return make_result(
    metric="mse",
    nll_per_task=None,
    brier_per_task=None,
    ece=None,
    reliability=None,
    selective_accuracy=None,
    nearest_neighbour=None,
    ways=None,
    support_size=10,
    query_size=10,
    normalization="none",
    transductive=False,
    **changes,
  )


class EvaluationResultTest(absltest.TestCase):
  def test_mean_and_interval_are_measured_after_adaptation(self):
    result = make_result()
    self.assertAlmostEqual(result.mean, 0.9)
    # s = sqrt(0.02), n = 2.
    self.assertAlmostEqual(result.interval, 1.96 * math.sqrt(0.02 / 2))

  def test_sizes_are_reported_per_class(self):
    self.assertEqual((make_result().shots, make_result().query_shots), (1, 15))
    regression = make_regression()
    self.assertEqual((regression.shots, regression.query_shots), (10, 10))

  def test_dict_has_the_metrics_at_its_top_level(self):
    found = make_result().to_dict()
    self.assertEqual(found["tasks"], 2)
    self.assertEqual(found["steps"], 1)
    self.assertAlmostEqual(found["accuracy"], 0.9)
    self.assertAlmostEqual(found["before_adaptation"], 0.3)
    self.assertAlmostEqual(found["nearest_neighbour"], 0.5)
    self.assertAlmostEqual(found["ece"], 0.1)
    self.assertEqual(found["per_task"], [0.8, 1.0])
    self.assertLen(found["by_step"], 2)
    self.assertAlmostEqual(found["by_step"][0]["nll"], 1.6)
    self.assertEqual(found["nll_per_task"], [0.4, 0.6])
    # s = sqrt(0.02), n = 2, and no spread at all.
    self.assertAlmostEqual(found["nll_interval"], 1.96 * math.sqrt(0.02 / 2))
    self.assertAlmostEqual(found["brier_interval"], 0.0)

  def test_dict_survives_json(self):
    found = make_result().to_dict()
    self.assertEqual(json.loads(json.dumps(found)), found)

  def test_unknown_interval_of_one_task_is_null_in_json(self):
    result = make_result(
      per_task=np.array([[0.2, 0.8]]),
      nll_per_task=np.array([[1.6, 0.5]]),
      brier_per_task=np.array([[0.8, 0.2]]),
      nearest_neighbour=np.array([0.4]),
    )
    text = json.dumps(result.to_dict(), allow_nan=False)
    self.assertIsNone(json.loads(text)["interval"])
    self.assertIn("80.00% ± ?", str(result))

  def test_regression_has_mse_and_no_probabilities(self):
    found = make_regression().to_dict()
    self.assertAlmostEqual(found["mse"], 0.9)
    for absent in ("accuracy", "nll", "ece", "nearest_neighbour"):
      self.assertNotIn(absent, found)

  def test_text_has_a_line_per_step(self):
    lines = str(make_result()).splitlines()
    self.assertEqual(
      lines[0], "MAML on 2 tasks: 5 ways, 1 shot, 15 queries per class"
    )
    self.assertIn("'transductive': a prediction depends on", lines[1])
    self.assertEqual(
      lines[3].split(), "0 30.00% ± 19.60% 1.600 0.800 0.300".split()
    )
    self.assertEqual(
      lines[4].split(), "1 90.00% ± 19.60% 0.500 0.200 0.100".split()
    )
    # The fifth of ten values between 1.0 and 0.9.
    self.assertEqual(
      lines[5], "on the most confident half of the queries: 95.56%"
    )
    self.assertEqual(lines[6], "nearest neighbor in pixels: 50.00% ± 19.60%")

  def test_sizes_that_no_class_shares_evenly_are_those_of_a_task(self):
    uneven = make_result(ways=3, support_size=7, query_size=5)
    self.assertIn(
      "3 ways, 7 support examples, 5 queries per task\n", str(uneven)
    )
    uneven = make_result(ways=3, support_size=6, query_size=6, of_classes=False)
    self.assertIn(
      "3 ways, 6 support examples, 6 queries per task\n", str(uneven)
    )
    one = make_result(per_task=np.array([[0.2, 0.8]]))
    self.assertStartsWith(str(one), "MAML on 1 task: 5 ways")

  def test_text_of_a_regression(self):
    lines = str(make_regression()).splitlines()
    self.assertIn("does not depend", lines[1])
    self.assertEqual(lines[-1].split(), "1 0.9000 ± 0.1960".split())


if __name__ == "__main__":
  absltest.main()
