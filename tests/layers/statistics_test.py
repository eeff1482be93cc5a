"""Tests support statistics, which are exact and leave the model unchanged."""

from concurrent import futures
import gc
import random
import weakref

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta import layers
from tfmeta.layers import statistics

KINDS = (
  ("stock", keras.layers.BatchNormalization),
  ("exact", layers.BatchNormalization),
)


def _model(normalization):
  block = keras.Sequential(
    [
      keras.Input((5,), dtype="float64"),
      keras.layers.Dense(4, dtype="float64"),
      normalization(dtype="float64", momentum=0.9, name="inner"),
    ]
  )
  inputs = keras.Input((3,), dtype="float64")
  x = keras.layers.Dense(5, dtype="float64")(inputs)
  x = normalization(dtype="float64", name="outer")(x)
  outputs = keras.layers.Dense(2, dtype="float64")(block(x))
  return keras.Model(inputs, outputs)


def _tensors(variables):
  return [tf.convert_to_tensor(v) for v in variables]


def _normal(*shape, seed=0):
  return tf.constant(np.random.default_rng(seed).normal(size=shape))


class SupportStateTest(parameterized.TestCase):
  def _adapted(self, normalization):
    model = _model(normalization)
    noise = np.random.default_rng(1).normal(size=100)
    weights = [
      w + np.resize(noise, w.shape) for w in _tensors(model.trainable_variables)
    ]
    return model, weights, _tensors(model.non_trainable_variables)

  @parameterized.named_parameters(*KINDS)
  def test_statistics_are_those_of_the_batch(self, normalization):
    """At inference the support set itself gets its training outputs."""
    model, weights, state = self._adapted(normalization)
    support = _normal(6, 3)
    found = layers.support_state(model, weights, state, support)
    expected, _ = model.stateless_call(weights, state, support, training=True)
    outputs, _ = model.stateless_call(weights, found, support, training=False)
    np.testing.assert_array_equal(expected, outputs)

  @parameterized.named_parameters(*KINDS)
  def test_queries_do_not_influence_each_other(self, normalization):
    model, weights, state = self._adapted(normalization)
    state = layers.support_state(model, weights, state, _normal(6, 3))
    query = _normal(4, 3, seed=2)
    together, _ = model.stateless_call(weights, state, query, training=False)
    alone, _ = model.stateless_call(weights, state, query[:1], training=False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-12)

  @parameterized.named_parameters(*KINDS)
  def test_statistics_are_differentiable(self, normalization):
    model, weights, state = self._adapted(normalization)
    support, query = _normal(6, 3), _normal(4, 3, seed=2)

    def loss(weights):
      fixed = layers.support_state(model, weights, state, support)
      outputs, _ = model.stateless_call(weights, fixed, query, training=False)
      return tf.reduce_sum(outputs**2)

    with tf.GradientTape() as tape:
      tape.watch(weights)
      value = loss(weights)
    gradients = tape.gradient(value, weights)
    step = [_normal(*w.shape, seed=3) for w in weights]
    ends = [
      loss([w + sign * 1e-6 * d for w, d in zip(weights, step, strict=True)])
      for sign in (1, -1)
    ]
    slope = sum(
      tf.reduce_sum(g * d) for g, d in zip(gradients, step, strict=True)
    )
    self.assertAlmostEqual(
      float(ends[0] - ends[1]) / 2e-6 / float(slope), 1.0, delta=1e-6
    )

  @parameterized.named_parameters(*KINDS)
  def test_model_is_left_as_it_was(self, normalization):
    model, weights, state = self._adapted(normalization)
    before = [np.array(v.value) for v in model.variables]
    layers.support_state(model, weights, state, _normal(6, 3))
    for old, variable in zip(before, model.variables, strict=True):
      np.testing.assert_array_equal(old, variable)

  def test_wrong_weights_are_refused(self):
    model, weights, state = self._adapted(layers.BatchNormalization)
    with self.assertRaisesRegex(ValueError, "trainable_variables"):
      layers.support_state(model, weights[1:], state, _normal(6, 3))

  def test_other_state_is_kept(self):
    inputs = keras.Input((3,))
    x = keras.layers.Dropout(0.5)(inputs)
    frozen = layers.BatchNormalization(trainable=False)
    model = keras.Model(inputs, layers.BatchNormalization()(frozen(x)))
    state = _tensors(model.non_trainable_variables)
    found = layers.support_state(
      model,
      _tensors(model.trainable_variables),
      state,
      tf.random.stateless_normal((6, 3), [0, 0]),
    )
    changed = [
      variable.path.split("/")[0]
      for variable, old, new in zip(
        model.non_trainable_variables, state, found, strict=True
      )
      if np.any(np.array(old) != np.array(new))
    ]
    self.assertEqual(set(changed), {model.layers[-1].name})

  @parameterized.named_parameters(
    ("stock", keras.layers.BatchNormalization(), True),
    ("exact", layers.BatchNormalization(), True),
    ("frozen", keras.layers.BatchNormalization(trainable=False), False),
    ("layer", layers.LayerNormalization(), False),
  )
  def test_batch_normalization_is_found_inside(self, layer, expected):
    inner = keras.Sequential([keras.Input((3,)), layer])
    model = keras.Sequential([keras.Input((3,)), inner])
    self.assertEqual(layers.has_batch_normalization(model), expected)


class Guarded(layers.BatchNormalization):
  """A layer that refuses to be changed, once `guarded` has its id."""

  guarded = set()

  def __setattr__(self, name, value):
    if id(self) in self.guarded and name in ("momentum", "trainable"):
      raise AssertionError(f"{name} was set")
    super().__setattr__(name, value)


class TwoBlocks(keras.Model):
  """A model of a user's class, which makes its layers in code."""

  def __init__(self, units, **kwargs):
    super().__init__(**kwargs)
    self.units = units
    # Called in another order than they are made in.
    self.last = keras.layers.Dense(2)
    self.norm = layers.BatchNormalization(momentum=0.7)
    self.drop = keras.layers.Dropout(0.5)
    self.first = keras.layers.Dense(units)

  def call(self, inputs, training=False):
    x = self.norm(self.first(inputs), training=training)
    return self.last(self.drop(x, training=training))

  def get_config(self):
    return {**super().get_config(), "units": self.units}


class NotCopyable(keras.Model):
  """A model without a configuration, which uses its normalization twice."""

  def __init__(self, *further):
    super().__init__(name="secret")
    self.dense = keras.layers.Dense(3)
    self.norm = layers.BatchNormalization(momentum=0.7)
    self.further = list(further)

  def call(self, inputs, training=False):
    x = self.norm(inputs, training=training)
    x = self.norm(self.dense(x), training=training)
    for layer in self.further:
      x = layer(x, training=training)
    return x


def double(x):
  """Doubles `x`, as an activation that is not registered."""
  return 2 * x


def _sequential(*parts):
  return keras.Sequential([keras.Input((3,)), *parts])


def _deep_model():
  """Builds branches with nested, wrapped, shared, frozen and random layers."""
  shared = layers.BatchNormalization(name="shared", momentum=0.8)
  frozen = layers.BatchNormalization(name="frozen")
  block = keras.Sequential(
    [
      keras.Input((4, 3)),
      frozen,
      keras.layers.TimeDistributed(
        keras.layers.BatchNormalization(name="wrapped", momentum=0.6)
      ),
      keras.layers.SpatialDropout1D(0.3),
      keras.layers.Dense(3, activation=double),
    ],
    name="block",
  )
  inputs = keras.Input((4, 3))
  left = shared(keras.layers.Dense(3, name="b_left")(inputs))
  right = keras.layers.Dense(3, name="a_right")(inputs)
  right = Guarded(center=False, name="own")(
    keras.layers.GaussianNoise(1)(right)
  )
  x = keras.layers.Add()([right, left])
  x = shared(keras.layers.Dropout(0.5)(block(x)))
  frozen.trainable = False
  return keras.Model(inputs, keras.layers.Dense(2)(x))


MODELS = {
  "nested_stock": lambda: _model(keras.layers.BatchNormalization),
  "nested_exact": lambda: _model(layers.BatchNormalization),
  "deep": _deep_model,
  "own_class": lambda: TwoBlocks(5),
  "masked": lambda: _sequential(
    keras.layers.Masking(), layers.BatchNormalization()
  ),
  "mixed_precision": lambda: _sequential(
    keras.layers.Dense(4, dtype="mixed_bfloat16"),
    layers.BatchNormalization(dtype="mixed_bfloat16"),
    keras.layers.AlphaDropout(0.5),
  ),
  "frozen_as_a_whole": lambda: _frozen(_deep_model()),
  "without_normalization": lambda: _sequential(keras.layers.Dropout(0.5)),
}


def _frozen(model):
  model.trainable = False
  return model


def _made(name):
  """Returns a model that is built, weights, state and a support set."""
  keras.utils.set_random_seed(0)
  model = MODELS[name]()
  shape = (6, 4, 3) if name in ("deep", "frozen_as_a_whole") else (6, 3)
  support = _normal(*shape)
  model(support)
  weights = [w + 0.1 for w in _tensors(model.trainable_variables)]
  return model, weights, _tensors(model.non_trainable_variables), support


def _by_changing(model, weights, state, support):
  """Returns statistics by definition, of a pass without momentum and noise."""
  moving = set()
  for layer in model._flatten_layers():
    if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
      layer.momentum = 0.0
      moving |= {id(layer.moving_mean), id(layer.moving_variance)}
    for name in ("rate", "stddev"):
      if hasattr(layer, name):
        setattr(layer, name, 0.0)
  _, found = model.stateless_call(weights, state, support, training=True)
  return [
    new if id(variable) in moving else old
    for variable, old, new in zip(
      model.non_trainable_variables, state, found, strict=True
    )
  ]


def _assert_equal(expected, found):
  for left, right in zip(expected, found, strict=True):
    np.testing.assert_array_equal(left, right)


class SupportStatisticsTest(parameterized.TestCase):
  @parameterized.product(name=list(MODELS), traced=[False, True])
  def test_equals_a_pass_of_a_changed_model_bit_for_bit(self, name, traced):
    model, weights, state, support = _made(name)
    way = tf.function(autograph=False) if traced else lambda fn: fn

    def derived(fn):
      with tf.GradientTape() as tape:
        tape.watch(weights)
        found = fn(model, weights, state, support)
        total = tf.add_n([tf.reduce_sum(tf.cast(v, "float64")) for v in found])
      gradients = tape.gradient(total, weights, unconnected_gradients="zero")
      return found, gradients

    # The first call makes the copy, within the graph if one is traced.
    found, gradients = way(lambda: derived(layers.support_state))()
    expected, true_gradients = way(lambda: derived(_by_changing))()
    _assert_equal(expected, found)
    _assert_equal(true_gradients, gradients)

  def test_no_layer_is_changed_while_tracing(self):
    """A layer that is changed for a moment is wrong in another thread."""
    model, weights, state, support = _made("deep")
    self.enterContext(
      absltest.mock.patch.object(
        Guarded, "guarded", {id(model.get_layer("own"))}
      )
    )
    tf.function(layers.support_state, autograph=False)(
      model, weights, state, support
    )

  def test_layers_may_be_frozen_later(self):
    model, weights, state, support = _made("deep")
    made = statistics.SupportStatistics(model)
    made.support_state(weights, state, support)
    model.get_layer("own").trainable = False
    model.get_layer("block").layers[0].trainable = True
    weights = _tensors(model.trainable_variables)
    state = _tensors(model.non_trainable_variables)
    found = made.support_state(weights, state, support)
    _assert_equal(_by_changing(model, weights, state, support), found)

  def test_threads_do_not_disturb_each_other(self):
    """Eight threads ask for statistics while eight others train."""
    model, weights, state, support = _made("own_class")

    def ask(i):
      return layers.support_state(model, weights, state, support + i)

    def train(i):
      outputs, new = model.stateless_call(
        weights, state, support + i, training=True
      )
      return [outputs, *new]

    expected = [fn(i) for i in range(8) for fn in (ask, train)]
    with futures.ThreadPoolExecutor(16) as pool:
      for _ in range(10):
        found = [pool.submit(fn, i) for i in range(8) for fn in (ask, train)]
        for left, right in zip(expected, found, strict=True):
          _assert_equal(left, right.result())

  def test_first_call_may_be_on_replicas(self):
    """Replicas take turns while they are traced: a lock could stop them."""
    strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
    with strategy.scope():
      model, weights, state, support = _made("own_class")

    @tf.function(autograph=False)
    def on_replicas():
      found = strategy.run(
        layers.support_state, (model, weights, state, support)
      )
      return [strategy.experimental_local_results(v) for v in found]

    expected = _by_changing(_made("own_class")[0], weights, state, support)
    for value, replicas in zip(expected, on_replicas(), strict=True):
      self.assertNotEmpty(replicas)
      for found in replicas:
        np.testing.assert_allclose(value, found, rtol=1e-6)

  def test_random_numbers_afterwards_are_the_same(self):
    model, *_ = _made("deep")
    random.seed(0)
    expected = random.random()
    random.seed(0)
    statistics.SupportStatistics(model)
    self.assertEqual(random.random(), expected)

  def test_model_is_not_kept_alive(self):
    model, *rest = _made("own_class")
    layers.support_state(model, *rest)
    reference = weakref.ref(model)
    del model
    gc.collect()
    self.assertIsNone(reference())

  def test_unbuilt_model_is_refused(self):
    model = keras.Sequential([layers.BatchNormalization()])
    with self.assertRaisesRegex(ValueError, "must be built"):
      statistics.SupportStatistics(model)


@keras.saving.register_keras_serializable("statistics_test")
class Owner(keras.Model):
  """A model that keeps the statistics of another as an attribute."""

  def __init__(self, model, **kwargs):
    super().__init__(**kwargs)
    self.model = model
    self.statistics = statistics.SupportStatistics(model)
    self.built = True

  def call(self, support_x):
    state = _tensors(self.model.non_trainable_variables)
    weights = _tensors(self.model.trainable_variables)
    state = self.statistics.support_state(weights, state, support_x)
    return self.model.stateless_call(weights, state, support_x)[0]

  def get_config(self):
    model = keras.saving.serialize_keras_object(self.model)
    return {**super().get_config(), "model": model}

  @classmethod
  def from_config(cls, config):
    model = keras.saving.deserialize_keras_object(config.pop("model"))
    return cls(model, **config)


class OwnerTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.owner = Owner(_model(layers.BatchNormalization))
    for variable in self.owner.model.trainable_variables:
      variable.assign(_normal(*variable.shape))
    self.support = _normal(6, 3)

  def test_copy_is_not_among_its_variables(self):
    self.assertLen(self.owner.variables, len(self.owner.model.variables))
    self.assertLen(self.owner.layers, 1)

  def test_is_saved_and_loaded(self):
    path = self.create_tempfile("owner.keras").full_path
    self.owner.save(path)
    loaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(
      self.owner(self.support), loaded(self.support)
    )

  def test_is_exported_without_the_copy(self):
    folder = self.create_tempdir().full_path
    archive = keras.export.ExportArchive()
    archive.track(self.owner)
    archive.add_endpoint(
      "serve", self.owner, [tf.TensorSpec((None, 3), tf.float64)]
    )
    archive.write_out(folder, verbose=False)
    loaded = tf.saved_model.load(folder)
    np.testing.assert_allclose(
      self.owner(self.support), loaded.serve(self.support), rtol=1e-12
    )
    traced = tf.function(self.owner, autograph=False).get_concrete_function(
      tf.TensorSpec((None, 3), tf.float64)
    )
    self.assertLen(traced.variables, len(self.owner.model.variables))


class NotCopyableTest(absltest.TestCase):
  def _made(self, *further):
    keras.utils.set_random_seed(0)
    model = NotCopyable(*further)
    model(tf.zeros((1, 3)))
    weights = [w + 0.1 for w in _tensors(model.trainable_variables)]
    state = _tensors(model.non_trainable_variables)
    return model, weights, state, tf.cast(_normal(6, 3), tf.float32)

  def test_equals_a_pass_of_a_changed_model_up_to_rounding(self):
    """The layer is called twice; the statistics are those of the last call."""
    args = self._made(keras.layers.Dense(2), keras.layers.Dropout(0.0))
    found = layers.support_state(*args)
    self.assertEqual(args[0].norm.momentum, 0.7)
    for left, right in zip(_by_changing(*args), found, strict=True):
      np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)

  def test_a_layer_that_is_not_called_keeps_its_state(self):
    model, weights, state, support = self._made()
    model.call = lambda x, training: x
    _assert_equal(state, layers.support_state(model, weights, state, support))

  def test_random_layer_is_refused_by_name(self):
    args = self._made(keras.layers.Dropout(0.5, name="noisy"))
    with self.assertRaisesRegex(
      ValueError, "the layer noisy has no randomness.*Received: model=secret"
    ):
      layers.support_state(*args)

  def test_momentum_of_one_is_refused(self):
    args = self._made()
    args[0].norm.momentum = 1.0
    with self.assertRaisesRegex(ValueError, "the layer batch_normalization"):
      layers.support_state(*args)


if __name__ == "__main__":
  absltest.main()
