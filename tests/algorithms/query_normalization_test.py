"""Tests learners that were trained transductively and then asked for one query.

Weights are random: the statistics that normalize queries do not depend on how
good they are.
"""

import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.algorithms import query_normalization

SINGLE = tfmeta.EVALUATION.replace(normalization="support_stats")
LEARNERS = {
  "maml": tfmeta.MAML,
  "fomaml": tfmeta.FOMAML,
  "anil": tfmeta.ANIL,
  "meta_sgd": tfmeta.MetaSGD,
  "reptile": tfmeta.Reptile,
  "maml_plus_plus": tfmeta.MAMLPlusPlus,
  "platipus": lambda *args, **kwargs: tfmeta.PLATIPUS(
    *args, num_samples=2, **kwargs
  ),
  "emaml": lambda *args, **kwargs: tfmeta.EMAML(
    *args, num_particles=2, **kwargs
  ),
  "bmaml": lambda *args, **kwargs: tfmeta.BMAML(
    *args, num_particles=2, **kwargs
  ),
}


def _network(normalization="batch"):
  layer = {
    "batch": tfmeta.layers.BatchNormalization,
    "layer": tfmeta.layers.LayerNormalization,
  }[normalization]
  return keras.Sequential(
    [
      keras.Input((4,)),
      keras.layers.Dense(5),
      layer(),
      keras.layers.Activation("relu"),
      keras.layers.Dense(3),
    ]
  )


def _learner(name, **kwargs):
  keras.utils.set_random_seed(0)
  return LEARNERS[name](
    _network(), inner_steps=2, inner_learning_rate=0.1, **kwargs
  )


def _task():
  random = np.random.default_rng(0)
  x, query_x = random.normal(size=(2, 6, 4)).astype("float32")
  return tf.constant(x), tf.constant([0, 1, 2] * 2), tf.constant(query_x)


def _batch(*task):
  names = ("support_x", "support_y", "query_x")
  return {k: v[tf.newaxis] for k, v in zip(names, task, strict=True)}


class ContextTest(parameterized.TestCase):
  @parameterized.parameters(*LEARNERS)
  def test_predicts_like_a_learner_made_for_single_queries(self, name):
    # This catches statistics of the queries, and algorithms that do not pass
    # their context on.
    *support, query_x = _task()
    trained = _learner(name)
    # MAML++ has other variables without a slot for each step.
    learned = {} if name == "maml_plus_plus" else trained.get_weights()
    weights = trained.adapt(*support, SINGLE)
    found = trained.predict_with(weights, query_x, SINGLE)
    for i in range(2):
      np.testing.assert_allclose(
        trained.predict_with(weights, query_x[i : i + 1], SINGLE),
        found[i : i + 1],
        atol=1e-6,
      )
    if learned:
      made = _learner(name, normalization="support_stats")
      made.set_weights(learned)
      expected = made.predict_with(made.adapt(*support), query_x)
      np.testing.assert_allclose(found, expected, atol=1e-6)

  def test_call_takes_the_context(self):
    learner = _learner("maml")
    *support, query_x = _task()
    weights = learner.adapt(*support, SINGLE)
    np.testing.assert_allclose(
      learner(_batch(*support, query_x), context=SINGLE)[0],
      learner.predict_with(weights, query_x, SINGLE),
      atol=1e-6,
    )

  def test_weights_that_hold_statistics_use_them(self):
    # This catches predictions that need the context a second time.
    *support, query_x = _task()
    for name in ("maml", "emaml"):
      learner = _learner(name)
      weights = learner.adapt(*support, SINGLE)
      expected = learner.predict_with(weights, query_x, SINGLE)
      np.testing.assert_allclose(
        learner.predict_with(weights, query_x), expected, atol=1e-6
      )
      model = learner.to_model(weights)
      for i in range(2):
        np.testing.assert_allclose(
          model(query_x[i : i + 1]), expected[i : i + 1], atol=1e-6
        )


class ExportTest(parameterized.TestCase):
  def exported(self, learner, **kwargs):
    """Returns the signatures of the exported learner."""
    folder = self.create_tempdir().full_path
    learner.export(folder, **kwargs)
    return tf.saved_model.load(folder).signatures

  def test_answers_single_queries_with_support_statistics(self):
    learner = _learner("maml")
    *support, query_x = _task()
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      served = self.exported(learner, normalization="support_stats")
    expected = learner.predict_with(
      learner.adapt(*support, SINGLE), query_x, SINGLE
    )
    weights = served["adapt"](support_x=support[0], support_y=support[1])
    one = query_x[:1]
    outputs = served["predict"](query_x=one, **weights)["outputs"]
    np.testing.assert_allclose(outputs, expected[:1], atol=1e-6)
    outputs = served["serving_default"](**_batch(*support, one))["outputs"]
    np.testing.assert_allclose(outputs[0], expected[:1], atol=1e-6)

  def test_says_what_single_queries_cost(self):
    learner = _learner("maml_plus_plus")
    *support, query_x = _task()
    own = "per_step_transductive"
    with self.assertWarnsRegex(UserWarning, f"'{own}' normalizes queries by"):
      served = self.exported(learner)
    expected = learner.predict_with(learner.adapt(*support), query_x)
    outputs = served["serving_default"](**_batch(*support, query_x))["outputs"]
    np.testing.assert_allclose(outputs[0], expected, atol=1e-6)

  def test_is_silent_where_queries_cost_nothing_or_were_chosen(self):
    layer = _network("layer")
    for learner, chosen in (
      (_learner("maml"), "transductive"),
      (_learner("maml", normalization="support_stats"), None),
      (tfmeta.MAML(layer), None),
      (tfmeta.MAML(layer), "support_stats"),
      (tfmeta.MAML(layer, normalization="transductive"), None),
    ):
      with warnings.catch_warnings():
        warnings.simplefilter("error")
        query_normalization.warn_of_single_queries(learner, chosen)

  def test_refuses_what_would_be_another_learner(self):
    class OwnPrediction(tfmeta.MAML):
      def predict_with(self, weights, x, context=tfmeta.EVALUATION):
        return super().predict_with(weights, x)

    class OwnAdaptation(OwnPrediction):
      takes_weights = True

    folder = self.create_tempdir().full_path
    for learner, kwargs, sentence in (
      (_learner("maml"), {"normalization": "none"}, "must be one of"),
      (
        _learner("maml", normalization="none"),
        {"normalization": "support_stats"},
        "of a transductive learner only",
      ),
      (
        OwnPrediction(_network()),
        {"normalization": "support_stats"},
        "OwnPrediction does not say that its methods use their context",
      ),
      (
        _learner("maml"),
        {"normalization": "support_stats", "format": "onnx"},
        "that a SavedModel",
      ),
    ):
      with self.assertRaisesRegex(ValueError, sentence):
        learner.export(folder, **kwargs)
    context = query_normalization.context_for(
      OwnAdaptation(_network()), "support_stats"
    )
    self.assertEqual(context, SINGLE)


if __name__ == "__main__":
  absltest.main()
