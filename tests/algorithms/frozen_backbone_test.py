"""Tests that learners run a frozen backbone once, with the same results."""

import contextlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import frozen_body
from tfmeta.core import keras_internals

WAYS = 3
ROWS = (
  (tfmeta.MAML, {}),
  (tfmeta.FOMAML, {}),
  (tfmeta.ANIL, {}),
  (tfmeta.MetaSGD, {}),
  (tfmeta.MAMLPlusPlus, {}),
  (tfmeta.Reptile, {}),
  (tfmeta.Reptile, {"support_batch_size": 2}),
  (tfmeta.PLATIPUS, {"num_samples": 2}),
  (tfmeta.EMAML, {"num_particles": 2}),
  (tfmeta.BMAML, {"num_particles": 2}),
)
# Passes of the backbone in the graph of one task, whatever the number of inner
# steps and samples: one on the support set and one on the queries. The leader
# of BMAML takes both sets in one, and MAML++ has a graph for each phase.
PASSES = (
  (tfmeta.MAML, 2),
  (tfmeta.EMAML, 2),
  (tfmeta.BMAML, 3),
  (tfmeta.MAMLPlusPlus, 4),
)


def frozen_learner(learner_class, **options):
  keras.utils.set_random_seed(0)
  backbone = keras.Sequential(
    [
      keras.Input((6, 6, 1)),
      keras.layers.Conv2D(2, 3, activation="relu"),
      keras.layers.BatchNormalization(),
      keras.layers.Flatten(),
    ]
  )
  backbone.trainable = False
  head = [keras.layers.Dense(4, "tanh"), keras.layers.Dense(WAYS)]
  model = keras.Sequential([keras.Input((6, 6, 1)), backbone, *head])
  options = {"inner_steps": 3, "inner_learning_rate": 0.1, **options}
  learner = learner_class(model, **options)
  learner.compile(keras.optimizers.SGD(0.1))
  return learner


def tasks():
  random = np.random.default_rng(0)
  x, q = (random.normal(size=(2, 6, 6, 6, 1)).astype("float32") for _ in "xq")
  y = np.tile(np.arange(6, dtype="int32") % WAYS, (2, 1))
  return {"support_x": x, "support_y": y, "query_x": q}, y


def gradients_of(learner, features):
  """Returns the loss of one task, and its gradients."""
  inputs, labels = tf.nest.map_structure(lambda t: tf.constant(t[0]), tasks())
  context = tfmeta.FIRST_STEP
  if features:
    context = context.with_features(
      learner.model, inputs["support_x"], inputs["query_x"]
    )
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(**inputs, query_y=labels, context=context)
  variables = learner.trainable_variables
  gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
  return [loss, *gradients]


class FrozenBackboneTest(parameterized.TestCase):
  @parameterized.parameters(*ROWS)
  def test_meta_gradient_is_the_same(self, learner_class, kwargs):
    found = gradients_of(frozen_learner(learner_class, **kwargs), features=True)
    with mock.patch.object(frozen_body, "parts_of", return_value=None):
      learner = frozen_learner(learner_class, **kwargs)
      expected = gradients_of(learner, features=False)
    for with_cut, without in zip(found, expected, strict=True):
      np.testing.assert_allclose(with_cut, without, rtol=1e-4, atol=1e-6)

  def test_results_of_all_methods_are_the_same(self):
    found = []
    for cut in (True, False):
      uncut = mock.patch.object(frozen_body, "parts_of", return_value=None)
      with contextlib.nullcontext() if cut else uncut:
        learner = frozen_learner(tfmeta.MAML)
        loss = learner.fit(*tasks(), verbose=0).history["loss"]
        data = tf.data.Dataset.from_tensors(tasks())
        result = tfmeta.evaluate(learner, data)
        outputs = learner.predict(tasks()[0], verbose=0)
      found.append(
        [*learner.get_weights(), np.array(loss), outputs, result.nll_per_task]
      )
    for with_cut, without in zip(*found, strict=True):
      np.testing.assert_allclose(with_cut, without, rtol=1e-4, atol=1e-6)

  @parameterized.parameters(*PASSES)
  def test_graph_has_one_pass_for_each_set(self, learner_class, passes):
    learner = frozen_learner(learner_class, task_map="map")
    x, y = tf.nest.map_structure(tf.constant, tasks())
    learner.build_for_fit(tf.TensorSpec(y.shape, y.dtype))
    step = tf.function(lambda: learner.train_step((x, y)), autograph=False)
    graph = step.get_concrete_function().graph
    types = [op.type for op in keras_internals.operations_in(graph)]
    self.assertEqual(types.count("Conv2D"), passes)

  def test_exported_files_adapt_as_the_learner(self):
    learner = frozen_learner(tfmeta.MAML)
    path = self.create_tempdir().full_path
    learner.export(path)
    served = tf.saved_model.load(path).signatures
    inputs, _ = tasks()
    support = {key: tf.constant(inputs[key][0]) for key in inputs}
    queries = support.pop("query_x")
    adapted = served["adapt"](**support)
    outputs = served["predict"](query_x=queries, **adapted)["outputs"]
    expected = learner.predict(inputs, verbose=0)[0]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
  absltest.main()
