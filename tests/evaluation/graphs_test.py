"""Tests that the graph of an evaluation is kept, and when it is not."""

import gc
import weakref

from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.evaluation import graphs


class Recorder(tfmeta.MAML):
  """A MAML that counts how often its inner loop is traced."""

  traces = 0

  def adaptation_path(self, support_x, support_y, context=tfmeta.EVALUATION):
    self.traces += 1
    return super().adaptation_path(support_x, support_y, context)


class Secret(tfmeta.MAML):
  """A MAML that does not tell its configuration."""

  def get_config(self):
    raise NotImplementedError


def make(cls):
  keras.utils.set_random_seed(0)
  model = tfmeta.models.mlp((2,), outputs=3, hidden=(4,))
  return cls(model, inner_learning_rate=0.1, task_map="map")


def dataset(shots=2):
  random = np.random.default_rng(0)
  x, q = (
    random.normal(size=(2, 3 * n, 2)).astype("float32") for n in (shots, 4)
  )
  y, z = (
    np.tile(np.arange(3 * n, dtype="int32") % 3, (2, 1)) for n in (shots, 4)
  )
  inputs = {"support_x": x, "support_y": y, "query_x": q}
  return tf.data.Dataset.from_tensors((inputs, z))


class EvaluateTest(absltest.TestCase):
  def test_the_graph_is_kept_until_something_changes(self):
    learner = make(Recorder)
    data = dataset()
    results = [tfmeta.evaluate(learner, data).nll for _ in range(2)]
    np.testing.assert_array_equal(*results)
    self.assertEqual(learner.traces, 1)
    for variable in learner.model.trainable_variables:
      variable.assign(2 * variable)
    changed = tfmeta.evaluate(learner, data).nll
    self.assertFalse(np.allclose(changed, results[0]))
    self.assertEqual(learner.traces, 1)
    learner.inner_learning_rate *= 2
    faster = tfmeta.evaluate(learner, data).nll
    self.assertAlmostEqual(faster[0], changed[0], places=5)
    self.assertNotAlmostEqual(faster[1], changed[1], places=3)
    tfmeta.evaluate(learner, dataset(shots=3))
    tfmeta.evaluate(learner, data, queries_at_once=5)
    self.assertEqual(learner.traces, 4)

  def test_a_learner_with_a_graph_is_freed_and_saved(self):
    learner = make(tfmeta.MAML)
    tfmeta.evaluate(learner, dataset())
    path = self.create_tempfile("learner.keras").full_path
    learner.save(path)
    keras.models.load_model(path)
    reference = weakref.ref(learner)
    del learner
    gc.collect()
    self.assertIsNone(reference())


class KeptTest(absltest.TestCase):
  def test_an_unknown_configuration_is_traced_each_time(self):
    learner, traced = make(Secret), []
    for _ in range(2):
      graphs.kept(learner, (), lambda: traced.append(1))
    self.assertLen(traced, 2)


if __name__ == "__main__":
  absltest.main()
