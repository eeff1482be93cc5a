import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
from PIL import Image
import tensorflow as tf

import tfmeta
from trainers import evaluate
from trainers.run import configuration
from trainers.run import learner as learners
from trainers.run import strategies
from trainers.run import tasks
from trainers.run import training
from trainers.run import workdir

KEYS = {
  "trainer", "dataset", "split", "ways", "shots", "query_shots", "tasks",
  "interval", "before_adaptation", "seed", "seconds", "versions", "command",
  "normalization", "inner_steps", "by_step",
}  # fmt: skip

TINY = {
  "dataset": "sinusoid",
  "ways": None,
  "shots": 3,
  "query_shots": 3,
  "hidden": [4],
  "meta_batch_size": 2,
  "steps_per_epoch": 2,
  "epochs": 1,
  "validation_tasks": 2,
  "eval_tasks": 4,
}

MAML_PLUS_PLUS = {"first_order_epochs": 1, "steps_per_epoch": 2}

PARTICLES = {"num_particles": 2}

REPTILE = {
  "own": {"inner_optimizer": "adam", "support_batch_size": 2},
  "optimizer": "sgd",
  "learning_rate_decay": "linear",
  "train_shots": 5,
}

# Three epochs, of which two are kept, at a rate that changes the weights.
MAML = {
  "inner_steps": 2,
  "epochs": 3,
  "keep_best": 2,
  "learning_rate": 0.1,
}


def make(folder, algorithm, **values):
  return configuration.Configuration(
    algorithm, workdir=str(folder), **{**TINY, **values}
  )


def run_quietly(config):
  with contextlib.redirect_stdout(io.StringIO()) as out:
    with contextlib.redirect_stderr(io.StringIO()) as err:
      result = training.run(config)
  return result, out.getvalue() + err.getvalue()


def evaluate_quietly(folder, **kwargs):
  with contextlib.redirect_stdout(io.StringIO()):
    return evaluate.run(folder, **kwargs)


class RunTestCase(parameterized.TestCase):
  """Checks of the files that a run leaves behind."""

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
      self.enterContext(tempfile.TemporaryDirectory()), "run"
    )

  def assert_everything_is_written(self, folder, algorithm, result, printed):
    self.assertContainsSubset(KEYS | {"mse"}, result)
    self.assertEqual(result["trainer"], algorithm)
    self.assertEqual(result["tasks"], 4)
    self.assertIsNone(result["ways"])
    written = json.loads((folder / "result.json").read_text())
    self.assertEqual(written, result)
    self.assert_is_picture(folder / "learning_curve.png")
    self.assert_is_picture(folder / "tasks.png")
    self.assertRegex(printed, r"epoch 1/\d")
    self.assertIn("result.json", printed)
    self.assertTrue(os.listdir(folder / "logs"))
    served = tf.saved_model.load(str(folder / "saved_model"))
    self.assertContainsSubset(["serving_default", "adapt"], served.signatures)
    learner = keras.models.load_model(folder / "best.keras")
    self.assertIsInstance(learner, getattr(tfmeta, algorithm))
    learns_rates = algorithm in ("MetaSGD", "MAMLPlusPlus")
    self.assertEqual("learned_rates.png" in printed, learns_rates)
    if learns_rates:
      self.assert_is_picture(folder / "learned_rates.png")
      self.assertTrue(os.listdir(folder / "logs" / "learned_rates"))

  def assert_is_picture(self, path):
    with Image.open(path) as image:
      self.assertGreater(min(image.size), 300)
      self.assertGreater(np.std(np.asarray(image.convert("L"))), 5.0)


class RunTest(RunTestCase):
  # Where `auto` would vectorize a large graph, tasks are mapped: vectorizing it
  # takes longer than everything else, and is not the subject here.
  @parameterized.parameters(
    ("FOMAML", {"learning_rate_decay": "cosine", "clipvalue": 1.0}),
    ("ANIL", {"own": {"first_order": True}}),
    ("MetaSGD", {"steps_per_execution": 2, "jit_compile": True}),
    ("IMAML", {"own": {"cg_iterations": 2}}),
    (
      "MAMLPlusPlus",
      {"inner_steps": 2, "own": MAML_PLUS_PLUS, "task_map": "map"},
    ),
    ("Reptile", REPTILE),
    (
      "PLATIPUS",
      {
        "own": {"num_samples": 2},
        "dataset": "sinusoid_or_line",
        "task_map": "map",
      },
    ),
    ("EMAML", {"own": PARTICLES}),
    (
      "BMAML",
      {"own": PARTICLES, "inner_learning_rate": 0.001, "task_map": "map"},
    ),
  )
  def test_runs_to_the_end_and_writes_everything(self, algorithm, values):
    result, printed = run_quietly(make(self.folder, algorithm, **values))
    self.assert_everything_is_written(self.folder, algorithm, result, printed)

  def test_figures_that_are_not_finite_cost_no_file(self):
    config = make(
      self.folder,
      "FOMAML",
      inner_steps=0,
      eval_inner_steps=200,
      inner_learning_rate=1e3,
    )
    _, printed = run_quietly(config)
    written = json.loads((self.folder / "result.json").read_text())
    self.assertIsNone(written["mse"])
    self.assertIsInstance(written["before_adaptation"], float)
    self.assertRegex(printed, "null in .*result.json: mse")
    self.assert_is_picture(self.folder / "learning_curve.png")
    self.assert_is_picture(self.folder / "tasks.png")
    self.assertTrue(os.listdir(self.folder / "saved_model"))

  def test_images(self):
    values = {"dataset": "glyphs", "ways": 3, "shots": 1, "filters": 2}
    result, printed = run_quietly(make(self.folder, "FOMAML", **values))
    self.assertContainsSubset(
      KEYS | {"accuracy", "nearest_neighbour", "nll", "ece"}, result
    )
    self.assertEqual(result["ways"], 3)
    self.assertEqual(result["normalization"], "transductive")
    self.assert_is_exported_for_single_queries(result, printed)
    self.assert_is_picture(self.folder / "tasks.png")
    self.assert_is_picture(self.folder / "calibration.png")
    self.assertTrue(os.listdir(self.folder / "logs" / "test"))
    for key in ("val_brier_score", "val_expected_calibration_error"):
      self.assertIn(key, result["history"])

  def assert_is_exported_for_single_queries(self, result, printed):
    # This catches an export whose queries normalize each other, and a figure
    # that is not that of the export.
    exported = result["exported"]
    self.assertEqual(exported["normalization"], "support_stats")
    self.assertIn("exported with normalization 'support_stats'", printed)
    later = evaluate_quietly(
      self.folder, tasks=4, queries_at_once=1, normalization="support_stats"
    )
    self.assertAlmostEqual(exported["accuracy"], later["accuracy"], places=5)
    served = tf.saved_model.load(str(self.folder / "saved_model")).signatures
    x = tf.random.stateless_uniform([3, 28, 28, 1], [0, 0])
    weights = served["adapt"](support_x=x, support_y=tf.range(3))
    one, all_ = (
      served["predict"](query_x=query_x, **weights)["outputs"]
      for query_x in (x[:1] / 2, x / 2)
    )
    np.testing.assert_allclose(one, all_[:1], atol=1e-5)


class FinishedRunTest(RunTestCase):
  """Tests of the workdir of one finished run of MAML."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    parent = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.finished = pathlib.Path(parent, "run")
    cls.result, cls.printed = run_quietly(make(cls.finished, "MAML", **MAML))

  def setUp(self):
    super().setUp()
    shutil.copytree(self.finished, self.folder)

  def test_it_has_written_everything(self):
    self.assert_everything_is_written(
      self.finished, "MAML", self.result, self.printed
    )

  def test_it_is_evaluated_anew_and_not_trained(self):
    config = make(self.folder, "MAML", **MAML, eval_tasks=5)
    again, printed = run_quietly(config)
    self.assertEqual(again["per_task"][:4], self.result["per_task"])
    self.assertEqual(again["seconds"], self.result["seconds"])
    self.assertNotIn("epoch 1/3", printed)
    self.assertIn("All 3 epochs are finished", printed)
    later = evaluate_quietly(self.folder, tasks=4)
    self.assertEqual(later["per_task"], self.result["per_task"])

  def test_it_is_evaluated_with_other_numbers_of_queries(self):
    one = evaluate_quietly(self.folder, tasks=4, query_shots=1)
    self.assertEqual((self.result["query_shots"], one["query_shots"]), (3, 1))
    path = self.folder / "evaluation_test_4_query_shots_1.json"
    self.assertEqual(json.loads(path.read_text()), one)

  def test_the_best_epochs_vote(self):
    one, two = [
      evaluate_quietly(self.folder, tasks=4, ensemble=n) for n in (1, 2)
    ]
    self.assertEqual((one["members"], two["members"]), (1, 2))
    self.assertNotEqual(one["per_task"], two["per_task"])
    with self.assertRaisesRegex(ValueError, "keep_best.*Received: ensemble=3"):
      evaluate.run(self.folder, tasks=4, ensemble=3)


class TrainTest(absltest.TestCase):
  """Tests of the training alone, without evaluation and plots."""

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
      self.enterContext(tempfile.TemporaryDirectory()), "run"
    )

  def make(self, algorithm, **values):
    return make(self.folder, algorithm, **values)

  def train(self, config):
    """Trains and returns the final weights and the checkpoint."""
    with contextlib.redirect_stderr(io.StringIO()):
      with workdir.claim(config) as folder:
        learner, checkpoint = training.train(
          config, folder, strategies.make(config)
        )
    return learner.get_weights(), checkpoint

  def test_a_stopped_run_goes_on_to_the_same_weights(self):
    # The schedule belongs to the whole run, not to the epochs that are left.
    whole = self.make("Reptile", **{**REPTILE, "epochs": 2})
    expected, first = self.train(whole)
    for path in (self.folder / "checkpoints").glob("*-00002*"):
      path.unlink()
    weights, again = self.train(whole)
    for value, other in zip(weights, expected, strict=True):
      np.testing.assert_array_equal(value, other)
    self.assertEqual(again.history["loss"], first.history["loss"])
    self.assertEqual(again.history["seconds"][0], first.history["seconds"][0])

  def test_mirrored_strategy_trains_alike(self):
    expected, _ = self.train(self.make("FOMAML"))
    self.folder = self.folder.with_name("mirrored")
    weights, _ = self.train(self.make("FOMAML", strategy="mirrored"))
    for value, other in zip(weights, expected, strict=True):
      np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)

  def test_the_seed_decides_weights_and_training_tasks_only(self):
    def start(seed):
      config = self.make("FOMAML", seed=seed)
      training_tasks = tasks.training_tasks(config)
      test_tasks = tasks.evaluation_tasks(config, "test", 2)
      learner = learners.build(config, test_tasks.element_spec)
      sampled = [next(iter(found))[1] for found in (training_tasks, test_tasks)]
      return learner.get_weights()[0], *sampled

    first, again, other = start(0), start(0), start(1)
    for values in zip(first, again, strict=True):
      np.testing.assert_array_equal(*values)
    same = [
      np.array_equal(*values) for values in zip(first, other, strict=True)
    ]
    self.assertEqual(same, [False, False, True])

  def test_a_loss_gone_nan_ends_the_run_and_keeps_what_was_written(self):
    bad = self.make("MAML", inner_learning_rate=1e30, inner_steps=3)
    with self.assertRaisesRegex(
      tfmeta.callbacks.DivergenceError,
      r"loss .* update 1 of epoch 1.*last_good\.keras",
    ):
      self.train(bad)
    kept = keras.models.load_model(self.folder / "last_good.keras")
    for value in kept.get_weights():
      self.assertTrue(np.isfinite(value).all())
    values = workdir.read_configuration(self.folder)
    self.assertEqual(values["inner_steps"], 3)

  def test_an_unknown_data_set_and_a_missing_folder_are_named(self):
    for name in ("mnist", "/no/such/folder"):
      with self.assertRaisesRegex(ValueError, f"Received: dataset='{name}'"):
        self.train(self.make("MAML", dataset=name, ways=5))

  def test_values_out_of_range_are_named(self):
    for name in (
      "steps_per_epoch",
      "eval_tasks",
      "meta_batch_size",
      "learning_rate",
    ):
      with self.assertRaisesRegex(ValueError, f"Received: {name}=0"):
        self.make("MAML", **{name: 0})
    with self.assertRaisesRegex(ValueError, "Received: epochs=-1"):
      self.make("MAML", epochs=-1)
    with self.assertRaisesRegex(ValueError, "at least 2. Received: ways=1"):
      self.make("MAML", ways=1)
    file = self.folder.with_name("file")
    file.write_text("")
    with self.assertRaisesRegex(
      ValueError, "must be a folder.*which is a file"
    ):
      self.train(dataclasses.replace(self.make("MAML"), workdir=str(file)))
    with self.assertRaisesRegex(ValueError, "workdir"):
      dataclasses.replace(self.make("MAML"), workdir="")


if __name__ == "__main__":
  absltest.main()
