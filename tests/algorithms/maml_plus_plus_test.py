"""Tests each ingredient of MAML++, and that it is MAML without them."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import directional
import keras
import numpy as np
import tensorflow as tf

import tfmeta

OFF = {
  "multi_step_epochs": 0,
  "learn_rates": False,
  "adapt_normalization": True,
  "normalization": "transductive",
}
STEPS = {"inner_steps": 2, "inner_learning_rate": 0.3}


def _conv(blocks=2):
  """Builds smooth blocks of convolution, normalization and pooling."""
  keras.utils.set_random_seed(0)
  options = {"dtype": "float64"}
  inputs = x = keras.Input((8, 8, 1), **options)
  for _ in range(blocks):
    x = keras.layers.Conv2D(3, 3, padding="same", **options)(x)
    x = tfmeta.layers.BatchNormalization(**options)(x)
    x = keras.layers.Activation("softplus", **options)(x)
    x = keras.layers.AveragePooling2D(2, **options)(x)
  x = keras.layers.Flatten(**options)(x)
  return keras.Model(inputs, keras.layers.Dense(3, **options)(x))


def _mlp():
  keras.utils.set_random_seed(0)
  return tfmeta.models.mlp(
    (8, 8, 1), outputs=3, hidden=(5,), activation="tanh", dtype="float64"
  )


def _task(seed=0):
  random = np.random.default_rng(seed)
  x = tf.constant(random.normal(size=(2, 6, 8, 8, 1)))
  y = tf.constant([0, 1, 2] * 2)
  return x[0], y, x[1], y


def _batch():
  support_x, support_y, query_x, query_y = (t[None] for t in _task())
  names = ("support_x", "support_y", "query_x")
  inputs = dict(zip(names, (support_x, support_y, query_x), strict=True))
  return inputs, query_y


def _make(model=None, **options):
  return tfmeta.MAMLPlusPlus(
    model or _conv(), dtype="float64", **{**STEPS, **options}
  )


def _maml_with_fixed_normalization():
  return tfmeta.ANIL(
    _conv(),
    adapted=lambda v: "gamma" not in v.path and "beta" not in v.path,
    dtype="float64",
    **STEPS,
  )


def _gradients(learner, variables):
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(*_task())
  return loss, tape.gradient(
    loss, [v.value for v in variables], unconnected_gradients="zero"
  )


def _assert_same_meta_gradient(learner, maml):
  count = len(maml.model.trainable_variables)
  loss, gradients = _gradients(learner, learner.model.trainable_variables)
  expected, others = _gradients(maml, maml.model.trainable_variables)
  np.testing.assert_allclose(loss, expected, rtol=1e-12)
  assert len(gradients) == count
  for a, b in zip(gradients, others, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)


def _trained_on_glyphs(normalization):
  """Returns a learner of a small network after 200 updates."""
  keras.utils.set_random_seed(0)
  inputs = x = keras.Input((28, 28, 1))
  x = keras.layers.Flatten()(keras.layers.AveragePooling2D(2)(x))
  for _ in range(3):
    x = keras.layers.Dense(32)(x)
    x = tfmeta.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.Activation("relu")(x)
  outputs = keras.layers.Dense(5)(x)
  learner = tfmeta.MAMLPlusPlus(
    keras.Model(inputs, outputs),
    inner_steps=5,
    multi_step_epochs=0,
    normalization=normalization,
  )
  learner.compile(keras.optimizers.Adam(3e-3))
  spec = tfmeta.TaskSpec(ways=5, shots=1, query_shots=3)
  data = tfmeta.data.glyphs("train", spec, seed=0).batch(4).take(50).cache()
  learner.fit(data, epochs=4, verbose=0)
  return learner


def _support_losses(learner, split):
  """Returns the support loss before each inner step, `[tasks, steps]`."""
  spec = tfmeta.TaskSpec(ways=5, shots=1, query_shots=1)
  losses = []

  def recording(y, outputs, context):
    losses.append(reduce_support(y, outputs, context))
    return losses[-1]

  reduce_support = learner.reduce_support

  @tf.function(autograph=False)
  def of_task(support_x, support_y):
    losses.clear()
    with mock.patch.object(learner, "reduce_support", recording):
      learner.adaptation_path(support_x, support_y)
    return tf.stack(losses)

  tasks = tfmeta.data.glyphs(split, spec, seed=1).take(60)
  return np.array(
    [of_task(task["support_x"], task["support_y"]) for task, _ in tasks]
  )


class DegenerateTest(parameterized.TestCase):
  @parameterized.parameters(_mlp, _conv)
  def test_without_its_ingredients_it_is_maml(self, net):
    options = {**OFF, "normalization": None if net is _mlp else "transductive"}
    maml = tfmeta.MAML(net(), dtype="float64", **STEPS)
    _assert_same_meta_gradient(_make(net(), **options), maml)

  def test_equal_rates_are_one_rate(self):
    learner = _make(**{**OFF, "learn_rates": True})
    for rate in learner.learned_rates.rates:
      rate.assign(np.full(rate.shape, 0.3))
    maml = tfmeta.MAML(_conv(), dtype="float64", **STEPS)
    _assert_same_meta_gradient(learner, maml)

  def test_normalization_that_is_not_adapted_equals_anil(self):
    learner = _make(**{**OFF, "adapt_normalization": False})
    _assert_same_meta_gradient(learner, _maml_with_fixed_normalization())

  def test_equal_slots_are_one_scale_and_shift(self):
    # The gradients of equal slots add up to the gradient of a single one.
    learner = _make(
      **{
        **OFF,
        "adapt_normalization": False,
        "normalization": "per_step_transductive",
      }
    )
    fixed = _maml_with_fixed_normalization()
    places = learner.slots.places
    own = [learner.model.trainable_variables[place] for place in places]
    _, gradients = _gradients(learner, [*own, *learner.slots.affine])
    _, expected = _gradients(
      fixed, [fixed.model.trainable_variables[place] for place in places]
    )
    last, early = gradients[: len(own)], gradients[len(own) :]
    for a, b, c in zip(last, early, expected, strict=True):
      np.testing.assert_allclose(
        a + np.sum(b, axis=0), c, rtol=1e-9, atol=1e-13
      )

  def test_first_order_epochs_are_fomaml(self):
    options = {**OFF, "first_order_epochs": 1}
    fomaml = tfmeta.FOMAML(_conv(), dtype="float64", **STEPS)
    _assert_same_meta_gradient(_make(**options), fomaml)


class MultiStepLossTest(parameterized.TestCase):
  def test_loss_is_the_weighted_sum_over_steps(self):
    learner = _make(**{**OFF, "multi_step_epochs": 4})
    support_x, support_y, query_x, query_y = _task()
    path = learner.adaptation_path(support_x, support_y)
    losses = [
      np.mean(
        keras.losses.sparse_categorical_crossentropy(
          query_y, learner.predict_with(weights, query_x), from_logits=True
        )
      )
      for weights in path[1:]
    ]
    loss, outputs = learner.task_loss(support_x, support_y, query_x, query_y)
    self.assertAlmostEqual(float(loss), np.mean(losses), places=12)
    np.testing.assert_allclose(
      outputs, learner.predict_with(path[-1], query_x), rtol=1e-12
    )

  def test_schedule_follows_the_optimizer_and_continues_after_a_reload(self):
    schedule = {"multi_step_epochs": 2, "steps_per_epoch": 2}
    learner = _make(_mlp(), **{**OFF, "normalization": None, **schedule})
    learner.compile(keras.optimizers.SGD(0.0))
    inputs, query_y = _batch()
    path = learner.adaptation_path(
      inputs["support_x"][0], inputs["support_y"][0]
    )
    early, last = [
      np.mean(
        keras.losses.sparse_categorical_crossentropy(
          query_y[0],
          learner.predict_with(weights, inputs["query_x"][0]),
          from_logits=True,
        )
      )
      for weights in path[1:]
    ]
    # Two epochs of two steps each: shares 1/2, 1/2, then 1/4, 3/4, then 0, 1.
    data = tf.data.Dataset.from_tensors((inputs, query_y)).repeat()
    found = learner.fit(data, steps_per_epoch=1, epochs=3, verbose=0)
    path = self.create_tempdir().full_path + "/learner.keras"
    learner.save(path)
    learner = keras.models.load_model(path)
    again = learner.fit(data, steps_per_epoch=1, epochs=3, verbose=0)
    shares = [0.5, 0.5, 0.25, 0.25, 0.0, 0.0]
    expected = [share * early + (1 - share) * last for share in shares]
    np.testing.assert_allclose(
      found.history["meta_loss"] + again.history["meta_loss"],
      expected,
      rtol=1e-5,
    )


class FirstOrderEpochsTest(parameterized.TestCase):
  def test_order_changes_at_its_epoch_without_retracing(self):
    options = {**OFF, "first_order_epochs": 1, "steps_per_epoch": 2}
    learner = _make(_mlp(), **{**options, "normalization": None})
    learner.compile(keras.optimizers.SGD(0.5))
    traces = []
    original = learner.train_step

    def counting(data):
      traces.append(1)
      return original(data)

    object.__setattr__(learner, "train_step", counting)
    inputs, query_y = _batch()
    data = tf.data.Dataset.from_tensors((inputs, query_y)).repeat()
    learner.fit(data, steps_per_epoch=1, epochs=4, verbose=0)
    weights = [np.array(v) for v in learner.model.trainable_variables]
    self.assertLen(traces, 1)
    twin = _mlp()
    for cls in (tfmeta.FOMAML, tfmeta.MAML):
      other = cls(twin, dtype="float64", **STEPS)
      other.compile(keras.optimizers.SGD(0.5))
      other.fit(data, steps_per_epoch=1, epochs=2, verbose=0)
    for value, variable in zip(weights, twin.trainable_variables, strict=True):
      np.testing.assert_allclose(value, variable, rtol=1e-9, atol=1e-12)


class PerStepNormalizationTest(parameterized.TestCase):
  def test_unused_slots_get_no_gradient(self):
    # Evaluation with one step uses slot 0, so its loss reaches no other slot.
    learner = _make(normalization="per_step_transductive", eval_inner_steps=1)
    support_x, support_y, query_x, query_y = _task()
    with tf.GradientTape() as tape:
      weights = learner.adapt(support_x, support_y)
      outputs = learner.predict_with(weights, query_x)
      loss = tf.reduce_mean(
        keras.losses.sparse_categorical_crossentropy(
          query_y, outputs, from_logits=True
        )
      )
    slots, rates = learner.slots, learner.learned_rates.rates
    own = [learner.model.trainable_variables[place] for place in slots.places]
    gradients = tape.gradient(
      loss, [v.value for v in [*slots.affine, *own, *rates]]
    )
    count = len(own)
    for first_slot in gradients[:count]:
      self.assertGreater(np.abs(first_slot[0]).max(), 1e-6)
    for last_slot in gradients[count : 2 * count]:
      self.assertIsNone(last_slot)
    for rate in gradients[2 * count :]:
      self.assertEqual(float(rate[1]), 0.0)

  def trained(self, normalization):
    learner = _make(
      _conv(blocks=1), normalization=normalization, multi_step_epochs=0
    )
    learner.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    data = tf.data.Dataset.from_tensors(_batch()).repeat()
    learner.fit(data, steps_per_epoch=3, verbose=0)
    return learner

  def test_a_query_changes_other_logits_only_if_transductive(self):
    inputs, _ = _batch()
    changed = {**inputs, "query_x": inputs["query_x"].numpy()}
    changed["query_x"][0, 0] += 3.0
    for normalization, same in (
      ("per_step_running", True),
      ("per_step_support", True),
      ("per_step_transductive", False),
    ):
      learner = self.trained(normalization)
      first, second = (
        learner.predict(x, verbose=0)[0, 1:] for x in (inputs, changed)
      )
      self.assertEqual(np.allclose(first, second, rtol=1e-9), same)
      self.assertEqual(learner.transductive, not same)

  def test_support_statistics_are_those_of_adapted_weights(self):
    # As a batch of queries, the support set has its own statistics, so the
    # transductive learner must predict the same for it, in every slot.
    learner = self.trained("per_step_support")
    twin = _make(_conv(blocks=1), normalization="per_step_transductive")
    twin.set_weights(learner.get_weights())
    x, y, *_ = _task()
    paths = learner.adaptation_path(x, y), twin.adaptation_path(x, y)
    for weights, others in zip(*paths, strict=True):
      np.testing.assert_allclose(
        learner.predict_with(weights, x), twin.predict_with(others, x)
      )

  def test_training_normalizes_queries_as_evaluation_does(self):
    learner = self.trained("per_step_support")
    support_x, support_y, query_x, query_y = _task()
    weights = learner.adapt(support_x, support_y)
    expected = learner.predict_with(weights, query_x)
    _, outputs = learner.task_loss(support_x, support_y, query_x, query_y)
    np.testing.assert_allclose(outputs, expected)

  def test_inner_steps_do_not_read_running_statistics(self):
    learner = self.trained("per_step_running")
    x, y, query_x, _ = _task()
    paths, outputs = [], []
    for shift in (0.0, 0.5):
      for variable in learner.model.non_trainable_variables:
        variable.assign(variable + shift)
      paths.append(learner.adaptation_path(x, y))
      outputs.append(learner.predict_with(paths[-1][-1], query_x))
    for before, after in zip(*paths, strict=True):
      for value, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(value, other)
    self.assertFalse(np.allclose(*outputs))

  @parameterized.parameters(0, 2)
  def test_running_statistics_are_those_of_queries_after_all_steps(
    self, multi_step_epochs
  ):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
      [
        keras.Input((2,), dtype="float64"),
        tfmeta.layers.BatchNormalization(momentum=0.9, dtype="float64"),
        keras.layers.Dense(3, dtype="float64"),
      ]
    )
    learner = tfmeta.MAMLPlusPlus(
      model,
      inner_steps=2,
      multi_step_epochs=multi_step_epochs,
      normalization="per_step_running",
      dtype="float64",
    )
    learner.compile(keras.optimizers.SGD(0.0))
    random = np.random.default_rng(0)
    x = random.normal(size=(3, 2, 6, 2)) + [1.0, -2.0]
    y = np.tile([0, 1, 2], (3, 2))
    inputs = {"support_x": x[:, 0], "support_y": y, "query_x": x[:, 1]}
    # Keras would cast arrays to float32; it leaves datasets as they are.
    learner.fit(tf.data.Dataset.from_tensors((inputs, y)), verbose=0)
    queries = x[:, 1]
    expected = {
      "moving_mean": 0.1 * queries.mean(axis=1).mean(axis=0),
      "moving_variance": 0.9 + 0.1 * queries.var(axis=1).mean(axis=0),
    }
    for name, value in expected.items():
      variable = getattr(model.layers[0], name)
      np.testing.assert_allclose(variable, value, rtol=1e-12)


class DescentTest(parameterized.TestCase):
  @parameterized.parameters(*tfmeta.MAMLPlusPlus.normalizations)
  def test_trained_inner_steps_lower_the_loss_in_evaluation(
    self, normalization
  ):
    # Rates are learned with batch statistics. If evaluation normalized the
    # support set in another way, later steps would raise its loss.
    learner = _trained_on_glyphs(normalization)
    found = _support_losses(learner, "validation")
    self.assertTrue(np.all(np.diff(np.median(found, axis=0)) < 0))


class MetaGradientTest(parameterized.TestCase):
  @parameterized.product(
    normalization=(
      "per_step_transductive",
      "per_step_support",
      "per_step_running",
    ),
    adapt_normalization=(True, False),
  )
  def test_is_exact_with_all_switches_on(
    self, normalization, adapt_normalization
  ):
    learner = _make(
      normalization=normalization,
      adapt_normalization=adapt_normalization,
      inner_steps=3,
    )
    self.assertLess(directional.error_of_gradient(learner, _task()), 1e-6)


class ArgumentsTest(parameterized.TestCase):
  def test_counts_of_rates_and_slots(self):
    learner = _make(normalization="per_step_running", inner_steps=4)
    tensors = 2 * 2 + 2  # Kernels and biases of two blocks and the head.
    self.assertLen(learner.learned_rates.rates, tensors)
    used = sum(rate.shape[0] for rate in learner.learned_rates.rates)
    self.assertEqual(used, tensors * 4)
    self.assertEqual([v.shape for v in learner.slots.affine], [(3, 3)] * 4)
    adapting = _make(adapt_normalization=True, inner_steps=4)
    self.assertLen(adapting.learned_rates.rates, tensors + 4)

  @parameterized.parameters(
    {"learn_rates": True, "normalization": "transductive"},
    {"learn_rates": False, "normalization": "per_step_running"},
  )
  def test_more_steps_in_evaluation_are_refused(self, **options):
    with self.assertRaisesRegex(ValueError, "Received: eval_inner_steps=3"):
      _make(eval_inner_steps=3, **options)
    _make(eval_inner_steps=1, **options)

  def test_more_steps_are_taken_if_nothing_is_per_step(self):
    learner = _make(**OFF, eval_inner_steps=4)
    self.assertLen(learner.adaptation_path(*_task()[:2]), 5)

  def test_invalid_arguments_are_named(self):
    for name in ("inner_steps", "steps_per_epoch"):
      with self.assertRaisesRegex(ValueError, f"Received: {name}=0"):
        _make(**{name: 0})
    for name in ("multi_step_epochs", "first_order_epochs"):
      with self.assertRaisesRegex(ValueError, f"Received: {name}=-1"):
        _make(**{name: -1})
    with self.assertRaisesRegex(ValueError, "needs a model with trainable"):
      _make(_mlp(), normalization="per_step_running")
    with self.assertRaisesRegex(
      ValueError, "Received: normalization='per_step"
    ):
      tfmeta.MAML(_conv(), normalization="per_step_running")

  def test_many_steps_in_a_loop_equal_unrolled_steps(self):
    learner = _make(
      inner_steps=12, normalization="per_step_running", multi_step_epochs=0
    )
    for number, rate in enumerate(learner.learned_rates.rates):
      rate.assign(np.linspace(0.01, 0.02 + 0.01 * number, 12))
    looped = learner.adaptation_path(*_task()[:2])
    self.assertLen(looped, 2)
    with mock.patch.object(type(learner), "unrolls", lambda *_: True):
      unrolled = learner.adaptation_path(*_task()[:2])
    self.assertLen(unrolled, 13)
    for value, other in zip(looped[-1], unrolled[-1], strict=True):
      np.testing.assert_allclose(value, other, rtol=1e-9, atol=1e-12)


if __name__ == "__main__":
  absltest.main()
