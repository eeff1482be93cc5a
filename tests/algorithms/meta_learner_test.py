"""Tests what all learners share: inputs, normalization, Keras and export."""

import inspect
import os

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta


def _tasks(tasks=3, shape=(8, 8, 1), ways=3, shots=2):
  random = np.random.default_rng(0)
  labels = np.tile(np.arange(ways), (tasks, shots)).astype("int32")
  support_x, query_x = random.normal(
    size=(2, tasks, ways * shots, *shape)
  ).astype("float32")
  inputs = {"support_x": support_x, "support_y": labels, "query_x": query_x}
  return inputs, labels.copy()


def _conv(normalization=tfmeta.layers.BatchNormalization):
  """Builds two blocks of convolution, normalization and pooling."""
  keras.utils.set_random_seed(0)
  inputs = x = keras.Input((8, 8, 1))
  for _ in range(2):
    x = keras.layers.Conv2D(2, 3, padding="same")(x)
    x = keras.layers.ReLU()(normalization()(x))
    x = tfmeta.layers.MaxPooling2D(2)(x)
  x = keras.layers.Flatten()(x)
  return keras.Model(inputs, keras.layers.Dense(3)(x))


def _mlp(ways=3, **kwargs):
  keras.utils.set_random_seed(0)
  return tfmeta.models.mlp((4,), outputs=ways, hidden=(5,), **kwargs)


class NormalizationTest(parameterized.TestCase):
  def _logits_of_first(self, learner, inputs):
    """Returns logits of the first query, before and after others change."""
    changed = dict(inputs)
    changed["query_x"] = inputs["query_x"].copy()
    changed["query_x"][:, 1:] = -3 * inputs["query_x"][:, 1:]
    return [
      learner.predict(task, verbose=0)[:, 0] for task in (inputs, changed)
    ]

  def test_transductive_predictions_depend_on_the_other_queries(self):
    learner = tfmeta.MAML(_conv(), normalization="transductive")
    one, other = self._logits_of_first(learner, _tasks()[0])
    self.assertGreater(np.max(np.abs(one - other)), 1e-3)

  @parameterized.parameters(
    (tfmeta.MAML, tfmeta.layers.BatchNormalization, "support_stats"),
    (tfmeta.Reptile, tfmeta.layers.BatchNormalization, "support_stats"),
    (tfmeta.MAML, tfmeta.layers.LayerNormalization, "none"),
  )
  def test_other_predictions_do_not_depend_on_them(
    self, learner_class, layer, policy
  ):
    learner = learner_class(
      _conv(normalization=layer), normalization=policy, inner_steps=2
    )
    one, other = self._logits_of_first(learner, _tasks()[0])
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

  def test_support_stats_are_measured_on_the_support_set(self):
    # Predictions for the support set therefore equal those of training mode.
    model = _conv()
    inputs, _ = _tasks()
    x, y = inputs["support_x"][0], inputs["support_y"][0]
    learner = tfmeta.MAML(model, normalization="support_stats")
    weights = learner.adapt(tf.constant(x), tf.constant(y))
    count = len(model.trainable_variables)
    expected, _ = tfmeta.core.apply(
      model, weights[:count], weights[count:], x, training=True
    )
    outputs = learner.predict_with(weights, tf.constant(x))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)

  def test_support_stats_are_exported_and_go_into_models(self):
    learner = tfmeta.MAML(_conv(), normalization="support_stats")
    inputs, _ = _tasks()
    weights = learner.adapt(
      tf.constant(inputs["support_x"][0]), tf.constant(inputs["support_y"][0])
    )
    x = inputs["query_x"][0]
    expected = learner.predict_with(weights, tf.constant(x))
    np.testing.assert_allclose(
      learner.to_model(weights).predict(x, verbose=0), expected, atol=1e-5
    )
    path = self.create_tempdir().full_path
    learner.export(path)
    served = tf.saved_model.load(path).signatures
    adapted = served["adapt"](
      support_x=tf.constant(inputs["support_x"][0]),
      support_y=tf.constant(inputs["support_y"][0]),
    )
    outputs = served["predict"](query_x=tf.constant(x), **adapted)["outputs"]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)

  def test_default_follows_the_model(self):
    self.assertEqual(tfmeta.MAML(_conv()).normalization, "transductive")
    self.assertEqual(tfmeta.MAML(_mlp()).normalization, "none")


class InputTest(parameterized.TestCase):
  def _learner(self, **kwargs):
    learner = tfmeta.MAML(_mlp(**kwargs))
    learner.compile(optimizer=keras.optimizers.Adam(), metrics=["accuracy"])
    return learner

  def test_labels_out_of_range_are_refused(self):
    # One learner serves all cases, so that `fit` traces its step once.
    learner = self._learner()
    for label in (-1, 3):
      inputs, query_y = _tasks(shape=(4,))
      inputs["support_y"][1, 2] = label
      sentence = "Support labels must be integers from 0 to 2"
      with self.assertRaisesRegex(ValueError, sentence):
        learner(inputs)
      with self.assertRaisesRegex(ValueError, f"^{sentence}"):
        learner.fit(inputs, query_y, verbose=0)
      with self.assertRaisesRegex(ValueError, sentence):
        x, y = inputs["support_x"][1], inputs["support_y"][1]
        learner.adapt(tf.constant(x), tf.constant(y))
    inputs, query_y = _tasks(shape=(4,))
    with self.assertRaisesRegex(
      ValueError, "^Query labels must be integers from 0 to 2"
    ):
      learner.fit(inputs, query_y + 1, verbose=0)

  @parameterized.named_parameters(
    ("strings", lambda y: y.astype(str)),
    ("floats", lambda y: y + 0.5),
    ("one_hot", lambda y: np.eye(3, dtype="int32")[y]),
  )
  def test_targets_that_are_no_class_labels_are_refused(self, changed):
    inputs, query_y = _tasks(shape=(4,))
    labels = changed(query_y)
    sentence = (
      "labels must be integers from 0 to 2, with (1 axis|2 axes).*Received"
    )
    for task in (
      (inputs, labels),
      ({**inputs, "support_y": labels}, query_y),
    ):
      batches = tf.data.Dataset.from_tensors(task)
      with self.assertRaisesRegex(ValueError, sentence):
        self._learner().fit(batches, verbose=0)
    with self.assertRaisesRegex(ValueError, sentence):
      self._learner().adapt(inputs["support_x"][0], labels[0])

  def test_regression_targets_must_be_numbers(self):
    inputs, _ = _tasks(shape=(4,))
    words = np.full((3, 6, 1), "one")
    learner = tfmeta.MAML(_mlp(ways=1), inner_loss="mse")
    learner.compile("sgd")
    inputs["support_y"] = words
    with self.assertRaisesRegex(
      ValueError, "targets must be numbers.*Received"
    ):
      learner(inputs)

  def test_empty_support_sets_are_refused(self):
    inputs, query_y = _tasks(shape=(4,), shots=0)
    with self.assertRaisesRegex(ValueError, "at least one example.*Received"):
      self._learner().fit(
        tf.data.Dataset.from_tensors((inputs, query_y)), verbose=0
      )
    with self.assertRaisesRegex(ValueError, "at least one example.*Received"):
      self._learner().adapt(inputs["support_x"][0], inputs["support_y"][0])

  def test_support_and_query_examples_must_have_one_shape(self):
    inputs, query_y = _tasks(shape=(4,))
    inputs["query_x"] = inputs["query_x"][..., :3]
    with self.assertRaisesRegex(ValueError, "same shape.*Received"):
      self._learner().fit(inputs, query_y, verbose=0)

  def test_examples_that_do_not_fit_the_model_are_refused(self):
    inputs, query_y = _tasks(shape=(5,))
    with self.assertRaisesRegex(ValueError, r"shape \(4,\).*Received"):
      self._learner().fit(inputs, query_y, verbose=0)

  def test_support_labels_must_match_the_examples(self):
    inputs, query_y = _tasks(shape=(4,))
    inputs["support_y"] = inputs["support_y"][:, :4]
    with self.assertRaisesRegex(ValueError, "one target for each.*Received"):
      self._learner().fit(inputs, query_y, verbose=0)

  def test_weights_of_tasks_and_compiled_losses_are_refused(self):
    inputs, query_y = _tasks(shape=(4,))
    with self.assertRaisesRegex(
      ValueError, "one weight for each example.*Received"
    ):
      self._learner().fit(inputs, query_y, sample_weight=np.ones(3), verbose=0)
    learner = tfmeta.MAML(_mlp())
    learner.compile(optimizer="sgd", loss="mse")
    with self.assertRaisesRegex(ValueError, "`inner_loss`.*Received"):
      learner.fit(inputs, query_y, verbose=0)

  def test_a_named_loss_takes_probabilities_and_labels(self):
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3, activation="softmax")(inputs)
    learner = tfmeta.MAML(
      keras.Model(inputs, outputs),
      inner_loss="sparse_categorical_crossentropy",
    )
    learner.compile(optimizer="sgd")
    tasks = tf.data.Dataset.from_tensor_slices(_tasks(shape=(4,))).batch(3)
    evaluated = learner.evaluate(tasks, verbose=0)
    self.assertAlmostEqual(
      tfmeta.evaluate(learner, tasks).nll[-1], evaluated, places=5
    )
    path = self.create_tempdir().full_path
    learner.export(path)
    signatures = tf.saved_model.load(path).signatures
    labels = signatures["adapt"].structured_input_signature[1]["support_y"]
    self.assertEqual(labels.dtype, tf.int32)

  def test_single_tasks_are_refused_with_a_hint_to_batch(self):
    learner = tfmeta.MAML(_mlp())
    learner.compile(keras.optimizers.SGD(0.1))
    single = tf.data.Dataset.from_tensor_slices(_tasks(shape=(4,)))
    for method in (learner.fit, learner.evaluate):
      with self.assertRaisesRegex(ValueError, r"use \.batch\(n\).*Received"):
        method(single, verbose=0)

  def test_to_model_refuses_another_number_of_weights(self):
    learner = tfmeta.MAML(_mlp())
    inputs, _ = _tasks(shape=(4,))
    weights = learner.adapt(inputs["support_x"][0], inputs["support_y"][0])
    for wrong in (weights[:1], [], [*weights, weights[0]]):
      with self.assertRaisesRegex(ValueError, "what `adapt` returned"):
        learner.to_model(wrong)

  def test_foreign_weights_are_one_sentence(self):
    inputs, _ = _tasks(shape=(4,))
    x, y = inputs["support_x"][0], inputs["support_y"][0]
    for learner in (
      tfmeta.MAML(_mlp()),
      tfmeta.EMAML(_mlp(), num_particles=2),
    ):
      weights = learner.adapt(x, y)
      for wrong in (
        weights[:1],
        [*weights, weights[0]],
        [*weights[:-1], weights[-1][:1]],
        [w[0] for w in weights],
      ):
        for method in (
          lambda w, learner=learner: learner.predict_with(w, x),
          learner.to_model,
        ):
          with self.assertRaisesRegex(ValueError, "what `adapt`.*Received"):
            method(wrong)

  def test_examples_that_do_not_fit_are_one_sentence(self):
    inputs, _ = _tasks(shape=(4,))
    learner = tfmeta.MAML(_mlp())
    weights = tfmeta.core.weights_of(learner.model)
    with self.assertRaisesRegex(ValueError, r"^x must be \[n, ...\].*Received"):
      learner.predict_with(weights, inputs["query_x"])

  def test_learners_are_saved_in_files_that_can_be_loaded(self):
    folder = self.create_tempdir().full_path
    learner = tfmeta.MAML(_mlp())
    for wrong in ("learner.h5", "learner", "learner.tf"):
      with self.assertRaisesRegex(ValueError, "'.keras'.*Received"):
        learner.save(os.path.join(folder, wrong))
    learner.save(os.path.join(folder, "files"), zipped=False)
    loaded = keras.models.load_model(os.path.join(folder, "files"))
    self.assertIsInstance(loaded, tfmeta.MAML)

  def test_missing_keys_are_named(self):
    inputs, query_y = _tasks(shape=(4,))
    del inputs["query_x"]
    with self.assertRaisesRegex(ValueError, "query_x.*Received"):
      self._learner().fit(inputs, query_y, verbose=0)

  @parameterized.parameters(float("nan"), float("inf"))
  def test_support_sets_that_are_not_finite_are_refused(self, value):
    inputs, _ = _tasks(shape=(4,))
    x = inputs["support_x"][0]
    x[1, 1] = value
    with self.assertRaisesRegex(ValueError, "support_x must be finite"):
      self._learner().adapt(x, inputs["support_y"][0])

  def test_adapt_accepts_numpy_arrays(self):
    inputs, _ = _tasks(shape=(4,))
    learner = self._learner()
    weights = learner.adapt(inputs["support_x"][0], inputs["support_y"][0])
    logits = learner.predict_with(weights, inputs["query_x"][0])
    self.assertEqual(logits.shape, (6, 3))

  def test_exports_are_not_converted_by_autograph(self):
    # It takes longer than tracing. Converted code lies in a file of its own.
    files = []

    class Listed(tfmeta.MAML):
      def adaptation_path(self, x, y, context=tfmeta.EVALUATION):
        files.append(inspect.currentframe().f_code.co_filename)
        return super().adaptation_path(x, y, context)

    Listed(_mlp()).export(self.create_tempdir().full_path)
    self.assertEqual(set(files), {__file__})

  def test_model_must_be_a_built_keras_model_with_one_output(self):
    with self.assertRaisesRegex(TypeError, "keras.Model. Received"):
      tfmeta.MAML("model")
    x = keras.Input((3,))
    two = [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)]
    with self.assertRaisesRegex(ValueError, "one output.*a list of 2"):
      tfmeta.MAML(keras.Model(x, two))
    frozen = _mlp()
    frozen.trainable = False
    with self.assertRaisesRegex(ValueError, "trainable weights"):
      tfmeta.MAML(frozen)


class KerasTest(parameterized.TestCase):
  def test_base_has_no_algorithm(self):
    with self.assertRaisesRegex(
      NotImplementedError, "must define `adaptation_path`"
    ):
      tfmeta.MetaLearner(_mlp())(_tasks(shape=(4,))[0])

  def test_a_subclass_needs_only_adapt(self):
    class HeadBias(tfmeta.MetaLearner):
      def adapt(self, support_x, support_y, context=tfmeta.EVALUATION):
        weights = tfmeta.core.weights_of(self.model)
        return [*weights[:-1], weights[-1] + 1.0]

    learner = HeadBias(_mlp())
    inputs, _ = _tasks(shape=(4,))
    x, y = inputs["support_x"][0], inputs["support_y"][0]
    path = learner.adaptation_path(x, y)
    self.assertLen(path, 2)
    np.testing.assert_allclose(path[1][-1] - path[0][-1], 1.0)

  def test_an_algorithm_without_context_is_refused(self):
    with self.assertRaisesRegex(TypeError, r"context.*Received: adapt\(self"):

      class Old(tfmeta.MetaLearner):
        def adapt(self, support_x, support_y):
          return []

      del Old

  def test_dropout_differs_between_tasks_and_inner_steps(self):
    inputs = keras.Input((4,))
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(64)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    learner = tfmeta.MAML(model, inner_steps=2, inner_learning_rate=0.1)
    tasks, _ = _tasks(tasks=1, shape=(4,))
    near = {key: np.repeat(value, 2, axis=0) for key, value in tasks.items()}
    # Another support set has other random numbers. Without them, a change as
    # small as this one would hardly change a prediction.
    near["support_x"][1, 0, 0] += 1e-4
    first, second = learner.predict(near, verbose=0)
    self.assertGreater(np.abs(first - second).max(), 1e-2)
    np.testing.assert_array_equal(first, learner.predict(near, verbose=0)[0])
    x, y = tasks["support_x"][0], tasks["support_y"][0]
    loss_fn = learner.support_loss(x, y)
    weights = tfmeta.core.weights_of(model)
    self.assertNotEqual(float(loss_fn(weights, 0)), float(loss_fn(weights, 1)))

  def test_dropout_of_inner_steps_differs_between_tasks(self):
    inputs = keras.Input((4,))
    x = tfmeta.layers.BatchNormalization()(keras.layers.Dense(64)(inputs))
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    learner = tfmeta.MAML(model, inner_learning_rate=0.5)
    tasks, _ = _tasks(tasks=1, shape=(4,))
    near = {key: np.repeat(value, 2, axis=0) for key, value in tasks.items()}
    # Another support set has other random numbers. Without them, a change as
    # small as this one would hardly change a prediction.
    near["support_x"][1, 0, 0] += 1e-4
    first, second = learner.predict(near, verbose=0)
    self.assertGreater(np.abs(first - second).max(), 1e-2)

  def test_gradients_may_be_accumulated(self):
    inputs, query_y = _tasks(tasks=4, shape=(4,))
    ends = []
    for size, optimizer in (
      (4, keras.optimizers.SGD(0.1)),
      (2, keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)),
    ):
      learner = tfmeta.MAML(_mlp())
      learner.compile(optimizer=optimizer)
      learner.fit(inputs, query_y, batch_size=size, shuffle=False, verbose=0)
      ends.append([np.array(v) for v in learner.trainable_variables])
    for one, other in zip(*ends, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

  def test_regularizers_act_on_the_initial_weights_only(self):
    def make(strength):
      keras.utils.set_random_seed(0)
      inputs = keras.Input((4,))
      layer = keras.layers.Dense(
        3, kernel_regularizer=keras.regularizers.L2(strength)
      )
      learner = tfmeta.MAML(keras.Model(inputs, layer(inputs)))
      learner.compile(optimizer=keras.optimizers.SGD(1.0))
      return learner

    plain, penalized = make(0.0), make(0.1)
    kernel = np.array(plain.trainable_variables[0])
    inputs, query_y = _tasks(shape=(4,))
    for learner in (plain, penalized):
      history = learner.fit(inputs, query_y, verbose=0).history
    difference = penalized.trainable_variables[0] - plain.trainable_variables[0]
    np.testing.assert_allclose(difference, -0.2 * kernel, atol=1e-6)
    self.assertAlmostEqual(
      history["meta_loss"][0] - history["loss"][0],
      0.1 * np.sum(kernel**2),
      places=5,
    )

  def test_step_counter_stops_at_the_end_of_the_data(self):
    learner = tfmeta.MAML(_mlp())
    learner.compile(optimizer=keras.optimizers.Adam())
    data = tf.data.Dataset.from_tensor_slices(_tasks(shape=(4,)))
    data = data.filter(lambda x, y: True).batch(3)
    learner.fit(data, epochs=2, verbose=0)
    self.assertEqual(int(learner.optimizer.iterations), 2)

  def test_metrics_stop_at_the_end_of_the_data(self):
    # Keras knows the size of the batches but not their number, so it finds the
    # end of the data by a step without data.
    learner = tfmeta.MAML(_mlp(), inner_learning_rate=0.1)
    learner.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    inputs, labels = _tasks(4, shape=(4,))
    data = tf.data.Dataset.from_tensor_slices((inputs, labels))
    data = data.filter(lambda *_: True).batch(2, drop_remainder=True)
    right = learner.predict(inputs, verbose=0).argmax(axis=-1) == labels
    history = learner.fit(data, verbose=0).history
    tested = learner.evaluate(data, verbose=0, return_dict=True)
    self.assertAlmostEqual(history["accuracy"][0], right.mean(), places=6)
    self.assertAlmostEqual(tested["accuracy"], right.mean(), places=6)
    self.assertAlmostEqual(tested["loss"], history["loss"][0], places=5)

  def test_keras_still_traces_the_first_step_twice(self):
    # When this fails, `_maybe_symbolic_build` need not be overridden any more.
    class Stock(tfmeta.MAML):
      _maybe_symbolic_build = keras.Model._maybe_symbolic_build

    traces = {}
    for learner_class in (Stock, tfmeta.MAML):
      learner = learner_class(_mlp())
      learner.compile(optimizer=keras.optimizers.Adam(), metrics=["accuracy"])
      traces[learner_class] = self._traces_of_fit(learner)
    self.assertEqual(traces, {Stock: 2, tfmeta.MAML: 1})

  def _traces_of_fit(self, learner):
    traces = []
    original = learner.task_loss

    def counting(*task, **kwargs):
      traces.append(1)
      return original(*task, **kwargs)

    object.__setattr__(learner, "task_loss", counting)
    learner.task_map = "map"
    learner.fit(*_tasks(shape=(4,)), verbose=0)
    return len(traces)


if __name__ == "__main__":
  absltest.main()
