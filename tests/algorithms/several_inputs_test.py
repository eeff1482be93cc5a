"""Tests models with several inputs, such as text backbones."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import inputs

WORDS, LENGTH, WAYS = 20, 5, 3


@keras.saving.register_keras_serializable("several_inputs_test")
class TextBackbone(keras.Model):
  """A small transformer with the inputs of a KerasHub backbone."""

  def __init__(self, width=6, **kwargs):
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    padding_mask = keras.Input((None,), dtype="int32", name="padding_mask")
    x = keras.layers.Embedding(WORDS, width)(token_ids)
    attention_mask = keras.ops.expand_dims(padding_mask, 1)
    attended = keras.layers.MultiHeadAttention(2, 3)(
      x, x, attention_mask=attention_mask
    )
    x = keras.layers.LayerNormalization()(x + attended)
    super().__init__(
      inputs={"token_ids": token_ids, "padding_mask": padding_mask},
      outputs=x,
      **kwargs,
    )
    self.width = width

  def get_config(self):
    # As in KerasHub, a frozen backbone stays frozen in a copy.
    own = {"width": self.width, "trainable": self.trainable}
    return {"name": self.name, **own}

  @classmethod
  def from_config(cls, config):
    return cls(**config)


def text_classifier(use_bias=True):
  """Builds a classifier of texts on a frozen backbone."""
  keras.utils.set_random_seed(0)
  backbone = TextBackbone()
  backbone.trainable = False
  mask = keras.ops.cast(backbone.input["padding_mask"], "float32")
  summed = keras.ops.sum(backbone(backbone.input) * mask[..., None], axis=1)
  pooled = summed / keras.ops.sum(mask, axis=1, keepdims=True)
  logits = keras.layers.Dense(WAYS, use_bias=use_bias)(pooled)
  return keras.Model(backbone.input, logits)


def text_tasks(tasks=4, shots=2, seed=0):
  """Samples tasks in which each class prefers words of its own."""
  random = np.random.default_rng(seed)
  labels = np.tile(np.arange(WAYS, dtype="int32"), (tasks, shots))

  def texts():
    words = random.integers(0, 6, (*labels.shape, LENGTH))
    lengths = random.integers(2, LENGTH + 1, (*labels.shape, 1))
    mask = (np.arange(LENGTH) < lengths).astype("int32")
    token_ids = (words + 6 * labels[..., None]).astype("int32") * mask
    return {"token_ids": token_ids, "padding_mask": mask}

  tasks = {"support_x": texts(), "support_y": labels, "query_x": texts()}
  return tasks, labels


def task_of(tasks, index):
  return tf.nest.map_structure(lambda t: tf.constant(t[index]), tasks)


ROWS = (
  (tfmeta.MAML, {}),
  (tfmeta.ANIL, {}),
  (tfmeta.MetaSGD, {}),
  (tfmeta.MAMLPlusPlus, {"inner_steps": 2}),
  (tfmeta.Reptile, {"support_batch_size": 3}),
  (tfmeta.PLATIPUS, {"num_samples": 2}),
  (tfmeta.EMAML, {"num_particles": 2}),
  (tfmeta.BMAML, {"num_particles": 2}),
  (tfmeta.LEO, {"num_latents": 4, "inner_steps": 1, "dropout_rate": 0.0}),
)


def make(learner_class, **kwargs):
  model = text_classifier(use_bias=learner_class is not tfmeta.LEO)
  learner = learner_class(model, inner_learning_rate=0.5, **kwargs)
  learner.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
  return learner


class TextTest(parameterized.TestCase):
  @parameterized.parameters(*ROWS[:-1], (tfmeta.IMAML, {}))
  def test_trained_embeddings_move(self, learner_class, kwargs):
    """Their gradients are sparse."""
    model = keras.Sequential(
      [
        keras.Input((2,), dtype="int32"),
        keras.layers.Embedding(WORDS, 3),
        keras.layers.Flatten(),
        keras.layers.Dense(WAYS),
      ]
    )
    learner = learner_class(model, **kwargs)
    learner.compile(keras.optimizers.Adam(0.1))
    x = np.arange(12).reshape([1, 6, 2])
    y = np.tile(np.arange(WAYS), (1, 2))
    inputs = {"support_x": x, "support_y": y, "query_x": x}
    tables = [
      v for v in learner.trainable_variables if v.shape[-2:] == (WORDS, 3)
    ]
    before = [np.array(table) for table in tables]
    learner.fit(inputs, y, epochs=2, verbose=0)
    for table, start in zip(tables, before, strict=True):
      moved = np.abs(np.array(table) - start)
      self.assertBetween(moved.max(), 1e-3, 1.0)

  @parameterized.parameters(*ROWS)
  def test_every_learner_trains_and_predicts(self, learner_class, kwargs):
    learner = make(learner_class, **kwargs)
    tasks, labels = text_tasks()
    logs = learner.fit(tasks, labels, batch_size=2, verbose=0).history
    self.assertTrue(np.isfinite(logs["loss"][0]))
    predicted = learner.predict(tasks, verbose=0)
    support_x, support_y, query_x = (
      task_of(tasks[key], 1) for key in ("support_x", "support_y", "query_x")
    )
    weights = learner.adapt(support_x, support_y)
    outputs = learner.predict_with(weights, query_x)
    np.testing.assert_allclose(predicted[1], outputs, atol=1e-5)
    if learner.probabilistic:
      samples = learner.predict_samples(weights, query_x)
      np.testing.assert_allclose(
        learner.mean_prediction(samples), outputs, atol=1e-6
      )
    plain = learner.to_model(weights)
    np.testing.assert_allclose(
      plain.predict(query_x, verbose=0), outputs, atol=1e-5
    )

  @parameterized.parameters(tfmeta.MAML, tfmeta.ANIL, tfmeta.EMAML)
  def test_saved_and_exported(self, learner_class):
    learner = make(learner_class, inner_steps=2)
    tasks, _ = text_tasks()
    expected = learner.predict(tasks, verbose=0)
    folder = self.create_tempdir().full_path
    learner.save(f"{folder}/learner.keras")
    loaded = keras.saving.load_model(f"{folder}/learner.keras")
    np.testing.assert_allclose(
      loaded.predict(tasks, verbose=0), expected, atol=1e-6
    )
    learner.export(f"{folder}/served")
    served = tf.saved_model.load(f"{folder}/served").signatures
    flat = {"support_y": tf.constant(tasks["support_y"])}
    for name in ("support_x", "query_x"):
      for key, value in tasks[name].items():
        flat[f"{name}_{key}"] = tf.constant(value)
    outputs = served["serving_default"](**flat)["outputs"]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    one = {key: value[2] for key, value in flat.items()}
    queries = {key: one.pop(key) for key in list(one) if "query" in key}
    outputs = served["predict"](**queries, **served["adapt"](**one))
    np.testing.assert_allclose(outputs["outputs"], expected[2], atol=1e-5)

  @parameterized.parameters(tfmeta.MAML, tfmeta.ANIL)
  def test_a_frozen_backbone_learns(self, learner_class):
    # A learner that ignored the mask or the words would stay at 1/3.
    learner = make(learner_class, inner_steps=5)
    data = tf.data.Dataset.from_tensor_slices(text_tasks(tasks=32)).batch(8)
    backbone = [np.array(v) for v in learner.model.non_trainable_variables]
    learner.fit(data, epochs=3, verbose=0)
    test = tf.data.Dataset.from_tensor_slices(text_tasks(tasks=8, seed=1))
    result = tfmeta.evaluate(learner, test.batch(4))
    logs = learner.evaluate(test.batch(4), verbose=0, return_dict=True)
    self.assertAlmostEqual(result.mean, logs["accuracy"], places=5)
    self.assertGreater(result.mean, 0.8)
    for before, variable in zip(
      backbone, learner.model.non_trainable_variables, strict=True
    ):
      np.testing.assert_array_equal(before, variable)

  def test_the_meta_gradient_is_that_of_a_model_with_one_input(self):
    # The two inputs of this model are the halves of the input of the other.
    halves = {
      "b": keras.Input((2,), name="b"),
      "a": keras.Input((2,), name="a"),
    }
    joined = keras.layers.Concatenate()([halves["b"], halves["a"]])
    keras.utils.set_random_seed(0)
    two = keras.Model(halves, keras.layers.Dense(3)(joined))
    whole = keras.Input((4,))
    one = keras.Model(whole, keras.layers.Dense(3)(whole))
    one.set_weights(two.get_weights())
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=(2, 6, 4)), tf.float32)
    y = tf.constant([0, 1, 2, 0, 1, 2])
    found = []
    for model, parts in (
      (one, lambda t: t),
      (two, lambda t: {"b": t[:, :2], "a": t[:, 2:]}),
    ):
      learner = tfmeta.MAML(model, inner_steps=2, inner_learning_rate=0.3)
      with tf.GradientTape() as tape:
        loss, _ = learner.task_loss(parts(x[0]), y, parts(x[1]), y)
      found.append(tape.gradient(loss, model.trainable_variables))
    for expected, gradient in zip(*found, strict=True):
      np.testing.assert_allclose(gradient, expected, atol=1e-6)

  def test_replicas(self):
    if len(tf.config.list_logical_devices("CPU")) < 2:
      self.skipTest("needs two logical CPUs, as tests/conftest.py makes them")
    # Collectives of several strategies in one process would share their keys.
    strategy = tf.distribute.MirroredStrategy(
      ["CPU:0", "CPU:1"],
      cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    with strategy.scope():
      learner = make(tfmeta.MAML)
    alone = make(tfmeta.MAML)
    data = tf.data.Dataset.from_tensor_slices(text_tasks()).batch(4)
    for each in (learner, alone):
      each.fit(data, verbose=0)
    for one, other in zip(learner.variables, alone.variables, strict=True):
      np.testing.assert_allclose(one, other, atol=1e-6)


class StructureTest(parameterized.TestCase):
  def _model(self, structure):
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    outputs = keras.layers.Dense(2)(keras.layers.Concatenate()([a, b]))
    return keras.Model(structure(a, b), outputs)

  @parameterized.parameters(
    lambda a, b: (a, b), lambda a, b: [a, b], lambda a, b: {"b": b, "a": a}
  )
  def test_lists_tuples_and_dictionaries(self, structure):
    learner = tfmeta.MAML(self._model(structure))
    a, b = np.zeros((2, 4, 2), "float32"), np.ones((2, 4, 3), "float32")
    y = np.zeros((2, 4), "int32")
    given = structure(a, b)
    tasks = {"support_x": given, "support_y": y, "query_x": given}
    expected = learner.predict(tasks, verbose=0)
    # A data set makes tuples of lists. Names serve for each structure, as in
    # Keras.
    others = [(a, b)] if isinstance(given, list) else []
    for x in (*others, {"a": a, "b": b}):
      tasks = {"support_x": x, "support_y": y, "query_x": x}
      np.testing.assert_allclose(learner.predict(tasks, verbose=0), expected)

  @parameterized.parameters(
    ({"token_ids": 0}, "keys 'padding_mask', 'token_ids'. Received: a dict"),
    ((0, 0), "keys 'padding_mask', 'token_ids'. Received: a tuple of 2"),
    (0, "keys 'padding_mask', 'token_ids'. Received: one tensor"),
  )
  def test_another_structure_is_refused(self, structure, sentence):
    learner = make(tfmeta.MAML)
    tasks, labels = text_tasks()
    x = tf.nest.map_structure(
      lambda _: tasks["support_x"]["token_ids"], structure
    )
    with self.assertRaisesRegex(ValueError, sentence):
      learner.predict({**tasks, "support_x": x}, verbose=0)
    with self.assertRaisesRegex(ValueError, sentence):
      learner.adapt(task_of(x, 0), labels[0])

  def test_the_input_that_does_not_fit_is_named(self):
    learner = tfmeta.MAML(self._model(lambda a, b: (a, b)))
    x = (tf.zeros([4, 2]), tf.zeros([4, 4]))
    with self.assertRaisesRegex(ValueError, r"support_x\['b'\] must be .*(3,)"):
      learner.adapt(x, tf.zeros([4], tf.int32))

  def test_a_dictionary_of_outputs_is_refused(self):
    x = keras.Input((2,))
    outputs = {"logits": keras.layers.Dense(2)(x)}
    with self.assertRaisesRegex(
      ValueError, "one output, a tensor.*a dict of 1"
    ):
      tfmeta.MAML(keras.Model(x, outputs))

  def test_one_input_in_a_dictionary(self):
    x = keras.Input((2,), name="x")
    model = keras.Model({"x": x}, keras.layers.Dense(2)(x))
    self.assertEqual(inputs.input_specs(model).shape[1:], (2,))
    learner = tfmeta.MAML(model)
    x, y = tf.zeros([4, 2]), tf.zeros([4], tf.int32)
    for one in (x, {"x": x}):
      self.assertEqual(
        learner.predict_with(learner.adapt(one, y), x).shape, (4, 2)
      )

  def test_the_nearest_neighbour_of_several_inputs_is_refused(self):
    data = tf.data.Dataset.from_tensor_slices(text_tasks()).batch(4)
    with self.assertRaisesRegex(ValueError, "examples of one input"):
      tfmeta.evaluate(make(tfmeta.MAML), data, nearest_neighbour=True)


if __name__ == "__main__":
  absltest.main()
