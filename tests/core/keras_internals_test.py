"""The private names of Keras and TensorFlow that tfmeta uses.

Each function has tests of two kinds: that it does what it says, and that there
is still no public way to do it. A test of the second kind that fails is good
news: use the public way and remove the function.
"""

import os
import platform
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import keras_internals


def public_names(value):
  return {name for name in dir(value) if not name.startswith("_")}


def public_values(value):
  """Returns public attributes by name, without those that cannot be read."""
  values = {}
  for name in public_names(value):
    try:
      values[name] = getattr(value, name)
    except Exception:  # Some properties refuse to be read.
      continue
  return values


def compiled_model(**kwargs):
  model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
  model.compile("sgd", "mse", metrics=["mae"], **kwargs)
  return model


class UpdateWeightedTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.y = np.array([[[0.0], [1.0]]], "float32")
    self.y_pred = np.array([[[1.0], [5.0]]], "float32")
    self.weight = np.array([[1.0, 0.0]], "float32")

  def _model(self):
    model = keras.Sequential([keras.Input((2, 1)), keras.layers.Dense(1)])
    model.compile("sgd", metrics=["mae"], weighted_metrics=["mse"])
    return model

  def test_weighs_all_metrics(self):
    model = self._model()
    metrics = keras_internals.compiled_metrics(model)
    keras_internals.update_weighted(metrics, self.y, self.y_pred, self.weight)
    found = {name: float(v) for name, v in metrics.result().items()}
    self.assertEqual(found, {"mae": 1.0, "mse": 1.0})

  def test_weighs_a_single_metric(self):
    metric = keras.metrics.MeanAbsoluteError()
    keras_internals.update_weighted(metric, self.y, self.y_pred, self.weight)
    self.assertEqual(float(metric.result()), 1.0)

  def test_keras_weighs_only_some_of_the_metrics(self):
    metrics = keras_internals.compiled_metrics(self._model())
    metrics.update_state(self.y, self.y_pred, sample_weight=self.weight)
    self.assertEqual(float(metrics.result()["mae"]), 2.5)


class FlattenLayersTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.inner = keras.layers.Dense(2, name="inner")
    wrapper = keras.layers.TimeDistributed(self.inner, name="wrapper")
    block = keras.Sequential([keras.Input((3, 4)), wrapper], name="block")
    self.model = keras.Sequential([keras.Input((3, 4)), block], name="model")

  def test_finds_layers_at_any_depth_with_outer_ones_first(self):
    names = [layer.name for layer in keras_internals.flatten_layers(self.model)]
    places = [names.index(n) for n in ("model", "block", "wrapper", "inner")]
    self.assertEqual(places, sorted(places))

  def test_can_leave_out_the_layer_itself_and_what_is_deeper(self):
    found = keras_internals.flatten_layers(
      self.model, include_self=False, recursive=False
    )
    names = [layer.name for layer in found]
    self.assertIn("block", names)
    self.assertNotIn("model", names)
    self.assertNotIn("wrapper", names)

  def test_keras_has_no_public_list_of_all_layers(self):
    for name in ("flatten_layers", "sublayers", "submodules", "all_layers"):
      self.assertFalse(hasattr(keras.Layer, name), name)
    lists = [
      name
      for name, value in public_values(self.model).items()
      if isinstance(value, list | tuple)
      and any(item is self.inner for item in value)
    ]
    self.assertEmpty(lists)


class CallsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.layer = keras.layers.Dense(3, name="twice")
    self.layer(keras.Input((3,)))  # This call belongs to no model.
    inputs = keras.Input((3,))
    x = self.layer(keras.ops.sin(self.layer(inputs)))
    x = keras.layers.Dropout(0.5, name="drop")(x, training=False)
    self.model = keras.Model(inputs, x)

  def test_each_call_follows_those_that_it_needs(self):
    calls = keras_internals.calls_of(self.model)
    names = [call.operation.name for call in calls]
    self.assertEqual(names[::2], ["twice", "twice"])
    self.assertEqual(names[3], "drop")
    self.assertFalse(calls[3].arguments["training"])
    self.assertIs(calls[1].inputs[0], calls[0].outputs[0])
    self.assertIs(calls[0].inputs[0], self.model.inputs[0])

  def test_keras_has_no_public_list_of_calls(self):
    for name in ("nodes", "calls", "inbound_nodes"):
      self.assertFalse(hasattr(self.model, name), name)
      self.assertFalse(hasattr(self.layer, name), name)

  def test_sees_masks(self):
    embedding = keras.layers.Embedding(3, 2, mask_zero=True)
    masked = embedding(keras.Input((4,)))
    self.assertTrue(keras_internals.has_mask(masked))
    self.assertFalse(keras_internals.has_mask(self.model.outputs[0]))
    self.assertNotIn("mask", public_names(masked))


class HasOwnTrainableWeightsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.dense = keras.layers.Dense(2)
    self.wrapper = keras.layers.TimeDistributed(self.dense)
    self.wrapper.build((None, 3, 4))

  def test_a_wrapper_has_none_and_a_frozen_layer_neither(self):
    has_own = keras_internals.has_own_trainable_weights
    self.assertTrue(has_own(self.dense))
    self.assertFalse(has_own(self.wrapper))
    self.dense.trainable = False
    self.assertFalse(has_own(self.dense))

  def test_no_public_list_leaves_out_the_weights_of_sublayers(self):
    own, wrapped = public_values(self.dense), public_values(self.wrapper)
    kernel = self.dense.kernel
    telling = [
      name
      for name, value in own.items()
      if isinstance(value, list | tuple)
      and any(item is kernel for item in value)
      and not any(item is kernel for item in wrapped.get(name, ()))
    ]
    self.assertEmpty(telling)


class CompiledTest(absltest.TestCase):
  def test_metrics_and_loss_are_those_of_compile(self):
    model = compiled_model()
    x, y = np.ones((2, 2), "float32"), np.ones((2, 1), "float32")
    model.fit(x, y, verbose=0)
    metrics = keras_internals.compiled_metrics(model)
    self.assertEqual([m.name for m in metrics.metrics], ["mae"])
    loss = keras_internals.compiled_loss(model)
    self.assertAlmostEqual(float(loss(y, y + 2.0)), 4.0)

  def test_there_are_none_before_compile(self):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    self.assertIsNone(keras_internals.compiled_metrics(model))
    self.assertIsNone(keras_internals.compiled_loss(model))

  def test_no_public_attribute_is_one_of_them(self):
    model = compiled_model()
    values = public_values(model).values()
    for known in (
      keras_internals.compiled_metrics(model),
      keras_internals.compiled_loss(model),
    ):
      self.assertIsNotNone(known)
      self.assertFalse(any(value is known for value in values))


class CompiledArgumentTest(absltest.TestCase):
  def test_is_what_compile_was_given(self):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    self.assertIsNone(keras_internals.compiled_argument(model, "loss_weights"))
    model.compile("sgd", loss_weights=2.0)
    found = keras_internals.compiled_argument(model, "loss_weights")
    self.assertEqual(found, 2.0)

  def test_no_public_attribute_has_it(self):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss_weights=2.0)
    self.assertFalse([n for n in public_names(model) if "loss_weight" in n])

  def test_the_public_way_warns_of_functions(self):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", metrics=[lambda y, y_pred: y_pred])
    with self.assertWarnsRegex(UserWarning, "lambda"):
      model.get_compile_config()


class BatchesSeenTest(absltest.TestCase):
  def test_counts_gradients_where_iterations_counts_updates(self):
    variable = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    optimizer.build([variable])
    for _ in range(3):
      optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    self.assertEqual(int(keras_internals.batches_seen(optimizer)), 3)
    self.assertEqual(int(optimizer.iterations), 1)

  def test_looks_into_a_loss_scale_optimizer(self):
    inner = keras.optimizers.SGD(0.1)
    optimizer = keras.optimizers.LossScaleOptimizer(inner)
    self.assertEqual(int(keras_internals.batches_seen(optimizer)), 0)

  def test_no_public_attribute_counts_gradients(self):
    variable = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=7)
    optimizer.build([variable])
    for _ in range(3):
      optimizer.apply_gradients([(tf.constant([0.0]), variable)])
    counts = [
      name
      for name, value in public_values(optimizer).items()
      if isinstance(value, keras.Variable)
      and not value.shape
      and int(value) == 3
    ]
    self.assertEmpty(counts)


class InXlaContextTest(absltest.TestCase):
  def test_is_so_while_a_graph_is_traced_for_xla(self):
    found = []

    def ask(x):
      found.append(keras_internals.in_xla_context())
      return x

    for jit_compile in (True, False):
      tf.function(ask, jit_compile=jit_compile)(tf.constant(1.0))
    self.assertEqual(found, [True, False])
    self.assertFalse(keras_internals.in_xla_context())

  def test_tensorflow_has_no_public_way_to_ask(self):
    modules = (
      tf,
      tf.config,
      tf.config.experimental,
      tf.config.optimizer,
      tf.xla,
      tf.xla.experimental,
    )
    names = {
      name
      for module in modules
      for name in public_names(module)
      if "xla" in name or "jit" in name
    }
    # None of the known ones asks what the present graph is traced for.
    self.assertEqual(names, {"xla", "get_jit", "set_jit", "jit_scope"})


class InSaveContextTest(absltest.TestCase):
  def test_is_so_while_a_saved_model_is_written(self):
    found = []

    @tf.custom_gradient
    def ask(x):
      def gradient(upstream):
        found.append(keras_internals.in_save_context())
        return upstream

      return x, gradient

    module = tf.Module()
    module.ask = tf.function(ask, input_signature=[tf.TensorSpec([])])
    module.ask.get_concrete_function()
    tf.saved_model.save(module, self.create_tempdir().full_path)
    self.assertEqual(found, [True])
    self.assertFalse(keras_internals.in_save_context())

  def test_tensorflow_has_no_public_way_to_ask(self):
    modules = (tf.saved_model, tf.saved_model.experimental)
    names = {name for module in modules for name in public_names(module)}
    self.assertEmpty({name for name in names if "context" in name.lower()})


class BuildsForFitTest(parameterized.TestCase):
  def test_a_model_with_a_step_of_its_own_is_traced_twice_without(self):
    """Without the decorator, Keras makes variables in the first step."""
    self.assertGreater(self._traces(_plain_class()), 1)

  def test_it_is_traced_once_with(self):
    built = []

    class Built(_plain_class()):
      def build_for_fit(self, targets):
        built.append(targets)
        self.optimizer.build(self.trainable_variables)
        metrics = keras_internals.compiled_metrics(self)
        like = keras.KerasTensor(targets.shape, targets.dtype)
        metrics.build(like, keras.KerasTensor((None, 1)))

    self.assertEqual(self._traces(keras_internals.builds_for_fit(Built)), 1)
    self.assertEqual(built[0].shape[1:], (1,))

  def test_keras_calls_what_the_decorator_overrides(self):
    self.assertIn("_maybe_symbolic_build", dir(keras.Model))

  def _traces(self, model_class):
    """Returns how often a step is traced whose inputs the model cannot take."""
    model = model_class()
    model.compile("adam", metrics=["mae"], jit_compile=False)
    x = {"a": np.ones((8, 2), "float32"), "b": np.ones((8, 2), "float32")}
    model.fit(x, np.ones((8, 1), "float32"), batch_size=2, verbose=0)
    return model.traces


def _plain_class():
  """Returns a model class whose step takes other inputs than its call."""

  class Plain(keras.Model):
    def __init__(self):
      super().__init__()
      self.head = keras.layers.Dense(1)
      self.head.build((None, 2))
      self.traces = 0
      self.built = True

    def call(self, inputs):
      raise NotImplementedError

    def train_step(self, data):
      self.traces += 1
      x, y = data
      with tf.GradientTape() as tape:
        outputs = self.head(x["a"] + x["b"])
        loss = tf.reduce_mean(tf.square(outputs - y))
      variables = self.trainable_variables
      gradients = tape.gradient(loss, [v.value for v in variables])
      self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
      for metric in self.metrics:
        if metric.name != "loss":
          metric.update_state(y, outputs)
      return self.get_metrics_result()

  return Plain


class SeedsTest(absltest.TestCase):
  def test_finds_the_state_of_random_layers(self):
    model = keras.Sequential(
      [
        keras.Input((2,)),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
      ]
    )
    variables = model.non_trainable_variables
    self.assertEqual(sum(keras_internals.seeds(variables)), 1)

  def test_the_state_has_no_public_flag(self):
    state = keras.random.SeedGenerator(0).state
    plain = keras.Variable(
      np.zeros(2, "uint32"), dtype="uint32", trainable=False
    )
    self.assertEqual(public_names(state), public_names(plain))
    self.assertIs(type(state), type(plain))

  def test_models_do_not_list_their_seed_generators(self):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5)])
    generator = model.layers[0].seed_generator
    lists = [
      name
      for name, value in public_values(model).items()
      if isinstance(value, list | tuple)
      and any(item is generator for item in value)
    ]
    self.assertEmpty(lists)


class GradientsTest(parameterized.TestCase):
  """Tests what looks operations up in TensorFlow's table of gradients."""

  def _graph(self, function):
    traced = tf.function(function, autograph=False)
    return traced.get_concrete_function(tf.TensorSpec([3])).graph

  def _named(self, graph, op_type):
    return [
      keras_internals.gradient_name(op)
      for op in keras_internals.operations_in(graph)
      if op.type == op_type
    ]

  @parameterized.parameters(
    (lambda x: tf.nn.softsign(x), "Softsign", True),
    (lambda x: tf.raw_ops.SoftsignGrad(gradients=x, features=x), None, False),
    (tf.stop_gradient, "StopGradient", None),
  )
  def test_has_gradient(self, function, op_type, expected):
    ops = self._graph(function).get_operations()
    found = next(op for op in ops if op.type in (op_type, "SoftsignGrad"))
    self.assertIs(keras_internals.has_gradient(found), expected)

  def test_overrides_have_names(self):
    def function(x):
      graph = tf.compat.v1.get_default_graph()
      with graph.gradient_override_map({"Softsign": "mine"}):
        x = tf.nn.softsign(x)
      return tf.nn.softsign(x)

    self.assertEqual(
      self._named(self._graph(function), "Softsign"), ["mine", ""]
    )

  def test_public_overrides_do_not_reach_loops_and_branches(self):
    """If this fails, `override_inside` is no longer needed."""
    found = {}

    def function(x):
      graph = tf.compat.v1.get_default_graph()
      with graph.gradient_override_map({"Softsign": "mine"}):
        x = tf.while_loop(
          lambda x: tf.reduce_sum(x) < 1,
          lambda x: tf.cond(x[0] > 0, lambda: tf.nn.softsign(x), lambda: x),
          [x],
        )
      found["before"] = self._named(graph, "Softsign")
      keras_internals.override_inside(graph, {"Softsign": "mine"})
      found["after"] = self._named(graph, "Softsign")
      return x

    self._graph(function)
    self.assertEqual({*found["before"]}, {""})
    self.assertEqual({*found["after"]}, {"mine"})

  def test_functions_of_the_user_are_copied_and_not_changed(self):
    """If `before` is not empty, functions need no copies any more."""
    inner = tf.function(tf.nn.softsign, autograph=False)
    found = {}

    def function(x):
      graph = tf.compat.v1.get_default_graph()
      with graph.gradient_override_map({"Softsign": "mine"}):
        x = inner(x)
      found["before"] = self._named(graph, "Softsign")
      keras_internals.override_inside(graph, {"Softsign": "mine"})
      found["after"] = self._named(graph, "Softsign")
      return x

    self._graph(function)
    own = inner.get_concrete_function(tf.TensorSpec([3])).graph
    found["own"] = self._named(own, "Softsign")
    self.assertEqual(found, {"before": [""], "after": ["mine"], "own": [""]})

  def test_functions_with_custom_gradients_are_left(self):
    """Gradients of `tf.nn.silu` use tensors of the graph around them."""
    inner = tf.function(lambda x: tf.nn.silu(tf.nn.softsign(x)))

    def function(x):
      x = inner(x)
      graph = tf.compat.v1.get_default_graph()
      keras_internals.override_inside(graph, {"Softsign": "mine"})
      return tf.gradients(x, x)

    self.assertEqual(self._named(self._graph(function), "Softsign"), ["", ""])

  @parameterized.parameters(
    (tf.recompute_grad(tf.tanh), True),
    (keras.remat(tf.tanh), True),
    (tf.nn.silu, False),
    (tf.tanh, False),
  )
  def test_is_recomputed(self, function, expected):
    operations = self._graph(lambda x: function(x)).get_operations()
    found = any(map(keras_internals.is_recomputed, operations))
    self.assertEqual(found, expected)

  def test_tensorflow_has_no_public_lookup(self):
    names = {
      name
      for module in (tf, tf.autodiff, tf.raw_ops, tf.experimental, tf.compat.v1)
      for name in public_names(module)
      if "gradient_function" in name or "gradient_registry" in name
    }
    self.assertEmpty(names)


class UsesOneDnnTest(absltest.TestCase):
  def test_is_what_the_environment_says(self):
    names = "from tfmeta.core import keras_internals as names"
    program = f"{names}; print(names.uses_onednn())"
    for value, expected in (("0", "False"), ("1", "True")):
      done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": value},
        capture_output=True,
        text=True,
        check=True,
      )
      if platform.machine() in ("x86_64", "AMD64"):
        self.assertEqual(done.stdout.strip(), expected)

  def test_there_is_no_public_way(self):
    places = (tf.config, tf.sysconfig, tf.config.optimizer, tf.config.threading)
    names = {name.lower() for place in places for name in public_names(place)}
    asks = {n for n in names if "onednn" in n or "mkl" in n}
    self.assertEmpty(asks)
    known = tf.sysconfig.get_build_info()
    self.assertNotIn("onednn", " ".join(known).lower())


if __name__ == "__main__":
  absltest.main()
