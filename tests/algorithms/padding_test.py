"""Tests weights of examples: padded tasks equal the tasks without padding."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.testing.exam import subject

WAYS = 3
KEYS = ("support_x", "support_y", "query_x")

# The task of each row has this many support examples and queries. All tasks of
# a batch are padded to the largest.
SIZES = ((3, 6), (7, 4), (5, 5))

MLP_ROWS = (
  (tfmeta.MAML, {"inner_steps": 2}),
  (tfmeta.FOMAML, {"inner_steps": 2}),
  (tfmeta.ANIL, {"inner_steps": 2}),
  (tfmeta.MetaSGD, {"inner_loss_reduction": "sum_over_ways"}),
  (tfmeta.MAMLPlusPlus, {"inner_steps": 2}),
  (tfmeta.Reptile, {"inner_steps": 2}),
  (tfmeta.IMAML, {"inner_steps": 2}),
  (tfmeta.ProtoNet, {}),
  (tfmeta.FineTuning, {"inner_steps": 2}),
  (tfmeta.PLATIPUS, {"num_samples": 2}),
  (tfmeta.EMAML, {"num_particles": 2}),
  (tfmeta.BMAML, {"num_particles": 2}),
  (tfmeta.BMAML, {"num_particles": 2, "prior": "hierarchical"}),
  (tfmeta.BMAML, {"num_particles": 2, "meta_loss": "nll"}),
)
LEO_ROWS = (
  {"dropout_rate": 0.5},
  {"variant": "paper", "dropout_rate": 0.0},
  {"num_samples": 2, "dropout_rate": 0.0},
)
CONV_ROWS = (
  (tfmeta.MAML, {"normalization": "transductive"}),
  (tfmeta.MAML, {"normalization": "support_stats"}),
  (tfmeta.ANIL, {"normalization": "support_stats"}),
  (tfmeta.MetaSGD, {}),
  (tfmeta.MAMLPlusPlus, {"inner_steps": 2}),
  (tfmeta.MAMLPlusPlus, {"normalization": "per_step_running"}),
  (tfmeta.MAMLPlusPlus, {"normalization": "per_step_support"}),
  (tfmeta.Reptile, {"normalization": "support_stats"}),
  (tfmeta.IMAML, {"normalization": "support_stats", "inner_steps": 1}),
  (tfmeta.ProtoNet, {"normalization": "support_stats"}),
  (tfmeta.FineTuning, {"normalization": "support_stats"}),
  (tfmeta.PLATIPUS, {"num_samples": 1, "normalization": "support_stats"}),
  (tfmeta.EMAML, {"num_particles": 2}),
  (tfmeta.BMAML, {"num_particles": 2, "normalization": "support_stats"}),
)


def tasks_without_padding(backbone):
  """Returns single tasks of different size."""
  random = np.random.default_rng(0)
  tasks = []
  for support, queries in SIZES:
    x, q = (
      random.normal(size=(n, *subject.INPUT_SHAPES[backbone])).astype("float32")
      for n in (support, queries)
    )
    y, z = (np.arange(n, dtype="int32") % WAYS for n in (support, queries))
    tasks.append((x, y, q, z))
  return tasks


def padded(tasks):
  """Returns a batch of tasks with padding at random places, and its masks."""
  random = np.random.default_rng(1)
  most = [max(len(t[part]) for t in tasks) + 1 for part in (0, 2)]
  rows = []
  for x, y, q, z in tasks:
    row = []
    for examples, targets, size in ((x, y, most[0]), (q, z, most[1])):
      # Padding of large numbers shows in any statistics that it enters.
      noise = random.normal(5, 9, (size, *examples.shape[1:]))
      places = np.sort(random.permutation(size)[: len(examples)])
      all_x, all_y = noise.astype("float32"), np.full(size, WAYS - 1, "int32")
      weight = np.zeros(size, "float32")
      all_x[places], all_y[places], weight[places] = examples, targets, 1
      row += [all_x, all_y, weight]
    rows.append(row)
  x, y, weight, q, z, query_weight = map(np.stack, zip(*rows, strict=True))
  inputs = {
    "support_x": x,
    "support_y": y,
    "support_weight": weight,
    "query_x": q,
  }
  return inputs, z, query_weight


def batch_of_one(task):
  x, y, q, z = (part[np.newaxis] for part in task)
  return {"support_x": x, "support_y": y, "query_x": q}, z


def make(learner_class, backbone, **kwargs):
  keras.utils.set_random_seed(1)
  steps = {"inner_learning_rate": 0.1, "inner_steps": 1}
  if learner_class is tfmeta.ProtoNet:
    steps = {}
  learner = learner_class(subject.BACKBONES[backbone](), **{**steps, **kwargs})
  learner.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
  return learner


def meta_gradient(learner, task, context):
  with tf.GradientTape() as tape, keras.StatelessScope() as scope:
    loss, outputs = learner.task_loss(*task, context=context)
  weights = [v.value for v in learner.trainable_variables]
  gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
  state = [
    value
    for variable in learner.non_trainable_variables
    if (value := scope.get_current_value(variable)) is not None
  ]
  return loss, outputs, [tf.convert_to_tensor(g) for g in gradients], state


class PaddingTest(parameterized.TestCase):
  def _check_equal(self, learner, backbone, atol=2e-6):
    """Checks the meta-gradient and the predictions of each task."""
    tasks = tasks_without_padding(backbone)
    inputs, labels, query_weight = padded(tasks)
    batch = {**inputs, "query_weight": query_weight}
    predictions = learner.predict(batch, verbose=0)
    for index, task in enumerate(tasks):
      context = tfmeta.FIRST_STEP.replace(index=index)
      loss, outputs, gradients, state = meta_gradient(
        learner, tuple(map(tf.constant, task)), context
      )
      one = [
        tf.constant(t[index]) for t in (*(inputs[key] for key in KEYS), labels)
      ]
      found = meta_gradient(
        learner,
        one,
        context.replace(
          support_weight=tf.constant(inputs["support_weight"][index]),
          query_weight=tf.constant(query_weight[index]),
        ),
      )
      counts = query_weight[index] > 0
      np.testing.assert_allclose(found[0], loss, rtol=1e-5, atol=atol)
      np.testing.assert_allclose(
        found[1].numpy()[counts], outputs, rtol=1e-4, atol=atol * 10
      )
      for ours, expected in zip(
        [*found[2], *found[3]], [*gradients, *state], strict=True
      ):
        scale = float(tf.reduce_max(tf.abs(expected))) + 1e-3
        np.testing.assert_allclose(
          ours / scale, expected / scale, atol=10 * atol
        )
      np.testing.assert_allclose(
        predictions[index][counts],
        # In a graph, tasks of each size would be traced.
        subject.predictions(learner, batch_of_one(task)[0])[0],
        rtol=1e-4,
        atol=atol * 10,
      )

  @parameterized.parameters(*MLP_ROWS)
  def test_mlp(self, learner_class, kwargs):
    self._check_equal(make(learner_class, "mlp", **kwargs), "mlp")

  @parameterized.parameters(*LEO_ROWS)
  def test_leo(self, **kwargs):
    learner = make(
      tfmeta.LEO, "embeddings", num_latents=4, finetuning_steps=1, **kwargs
    )
    self._check_equal(learner, "embeddings")

  @parameterized.parameters(*CONV_ROWS)
  def test_batch_normalization(self, learner_class, kwargs):
    # Conjugate gradients amplify rounding: in float32, the gradients of IMAML
    # differ by 2.4e-5 on some processors. An example of the padding that
    # counts changes the loss by 0.7.
    atol = 5e-6 if learner_class is tfmeta.IMAML else 2e-6
    self._check_equal(make(learner_class, "conv", **kwargs), "conv", atol)


class WeightsTest(parameterized.TestCase):
  """Tests weights in `fit`, `evaluate`, `tfmeta.evaluate`, and refusals."""

  def _data(self, batch=3):
    inputs, labels, weight = padded(tasks_without_padding("conv"))
    tasks = tf.data.Dataset.from_tensor_slices((inputs, labels, weight))
    return tasks.batch(batch)

  def test_fit_equals_tasks_one_by_one(self):
    # The step of a batch is the mean of the steps of its tasks. One learner
    # gets them padded, the other computes them one by one.
    learner = make(tfmeta.MAML, "conv")
    other = make(tfmeta.MAML, "conv")
    tasks = tasks_without_padding("conv")
    logs = learner.fit(self._data(), verbose=0).history
    results = [
      meta_gradient(other, tuple(map(tf.constant, t)), tfmeta.FIRST_STEP)
      for t in tasks
    ]
    self.assertAlmostEqual(
      logs["loss"][0], np.mean([r[0] for r in results]), places=5
    )
    right = [
      np.argmax(outputs, -1) == task[3]
      for (_, outputs, *_), task in zip(results, tasks, strict=True)
    ]
    self.assertAlmostEqual(
      logs["accuracy"][0], np.mean(np.concatenate(right)), places=5
    )
    mean = [
      np.mean(parts, axis=0)
      for parts in zip(*[r[2] for r in results], strict=True)
    ]
    other.optimizer.apply(mean, other.trainable_variables)
    for one, expected in zip(
      learner.trainable_variables, other.trainable_variables, strict=True
    ):
      np.testing.assert_allclose(one, expected, atol=1e-5)

  @parameterized.parameters(
    (tfmeta.MAML, "conv", {}),
    (tfmeta.MAMLPlusPlus, "conv", {"normalization": "per_step_running"}),
    (tfmeta.PLATIPUS, "mlp", {"num_samples": 2}),
    (tfmeta.BMAML, "mlp", {"num_particles": 2}),
    (tfmeta.Reptile, "mlp", {}),
  )
  def test_a_task_without_queries_changes_nothing(
    self, learner_class, backbone, kwargs
  ):
    inputs, labels, weight = padded(tasks_without_padding(backbone))
    full = (inputs, labels, weight)
    more = tf.nest.map_structure(
      lambda t: np.concatenate([t, np.zeros_like(t[:1])]), full
    )
    learners, logs, results = [], [], []
    for data in (full, more):
      learner = make(learner_class, backbone, **kwargs)
      tasks = tf.data.Dataset.from_tensor_slices(data).batch(4)
      logs.append(learner.fit(tasks, epochs=2, verbose=0).history)
      results.append(tfmeta.evaluate(learner, tasks))
      learners.append(learner)
    pairs = zip(*(each.variables for each in learners), strict=True)
    # Two updates in float32 differ by up to 5e-5 on some processors. A task
    # that counted would change gradients by a quarter.
    for one, other in pairs:
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)
    for name, values in logs[0].items():
      np.testing.assert_allclose(values, logs[1][name], rtol=1e-4)
    self.assertEqual([found.tasks for found in results], [3, 3])
    np.testing.assert_allclose(
      results[0].nll_per_task, results[1].nll_per_task, rtol=1e-3
    )

  def test_evaluating_tasks_without_queries_is_refused(self):
    inputs, labels, weight = padded(tasks_without_padding("mlp"))
    data = (inputs, labels, np.zeros_like(weight))
    tasks = tf.data.Dataset.from_tensor_slices(data).batch(3)
    with self.assertRaisesRegex(ValueError, "at least one task with queries"):
      tfmeta.evaluate(make(tfmeta.MAML, "mlp"), tasks)

  def test_replicas(self):
    # The last batch holds one task, so one of the replicas has none.
    if len(tf.config.list_logical_devices("CPU")) < 2:
      self.skipTest("needs two logical CPUs, as tests/conftest.py makes them")
    # Collectives of several strategies in one process would share their keys.
    strategy = tf.distribute.MirroredStrategy(
      ["CPU:0", "CPU:1"],
      cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    with strategy.scope():
      learner = make(tfmeta.MAML, "mlp")
    alone = make(tfmeta.MAML, "mlp")
    inputs, labels, weight = padded(tasks_without_padding("mlp"))
    data = tf.data.Dataset.from_tensor_slices((inputs, labels, weight)).batch(2)
    for each in (learner, alone):
      each.fit(data, verbose=0)
    for one, other in zip(learner.variables, alone.variables, strict=True):
      np.testing.assert_allclose(one, other, atol=1e-5)

  def test_evaluate(self):
    learner = make(tfmeta.MAML, "conv")
    logs = learner.evaluate(self._data(), verbose=0, return_dict=True)
    tasks = tasks_without_padding("conv")
    alone = [
      tfmeta.evaluate(learner, tf.data.Dataset.from_tensors(batch_of_one(task)))
      for task in tasks
    ]
    result = tfmeta.evaluate(learner, self._data(2), nearest_neighbour=True)
    for name in ("per_task", "nll_per_task", "brier_per_task"):
      expected = np.concatenate([getattr(each, name) for each in alone])
      np.testing.assert_allclose(
        getattr(result, name), expected, atol=1e-5, err_msg=name
      )
    nll, reliability, selective = map(
      np.asarray,
      (result.nll_per_task, result.reliability, result.selective_accuracy),
    )
    self.assertAlmostEqual(logs["loss"], np.mean(nll[:, -1]), 5)
    self.assertEqual(result.query_size, max(q for _, q in SIZES))
    self.assertEqual(reliability[:, 0].sum(), sum(q for _, q in SIZES))
    right = [each.mean * q for each, (_, q) in zip(alone, SIZES, strict=True)]
    self.assertAlmostEqual(
      logs["accuracy"], sum(right) / sum(q for _, q in SIZES), places=5
    )
    # All predictions, and no padding, are behind a coverage of 1.
    self.assertAlmostEqual(selective[-1], logs["accuracy"], places=5)

  def test_padded_batch_of_tf_data(self):
    tasks = tasks_without_padding("mlp")

    def elements():
      for x, y, q, z in tasks:
        weight = np.ones(len(y), "float32")
        inputs = {"support_x": x, "support_y": y, "query_x": q}
        yield (
          {**inputs, "support_weight": weight},
          z,
          np.ones(len(z), "float32"),
        )

    like = next(elements())
    signature = tf.nest.map_structure(
      lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), like
    )
    data = tf.data.Dataset.from_generator(
      elements, output_signature=signature
    ).padded_batch(3)
    learner = make(tfmeta.MAML, "mlp")
    outputs = learner.predict(data, verbose=0)
    for index, task in enumerate(tasks):
      expected = learner.predict(batch_of_one(task)[0], verbose=0)[0]
      np.testing.assert_allclose(
        outputs[index, : len(expected)], expected, atol=1e-5
      )

  def test_an_integer_weight_repeats_an_example(self):
    learner = make(tfmeta.MAML, "mlp", inner_steps=2)
    x, y, q, z = map(tf.constant, tasks_without_padding("mlp")[1])
    weight = tf.constant([2.0, 0, 1, 1, 3, 1, 1])
    times = tf.cast(weight, tf.int32)
    context = tfmeta.EVALUATION.replace(support_weight=weight)
    expected = learner.adapt(tf.repeat(x, times, 0), tf.repeat(y, times, 0))
    for one, other in zip(learner.adapt(x, y, context), expected, strict=True):
      np.testing.assert_allclose(one, other, atol=1e-6)
    context = tfmeta.FIRST_STEP.replace(
      query_weight=tf.constant([2.0, 0, 1, 1])
    )
    loss, _ = learner.task_loss(x, y, q, z, context)
    times = [2, 0, 1, 1]
    expected, _ = learner.task_loss(
      x, y, tf.repeat(q, times, 0), tf.repeat(z, times, 0)
    )
    self.assertAlmostEqual(float(loss), float(expected), places=5)

  def test_keras_batch_normalization_is_refused_by_name(self):
    x = keras.Input((6,))
    layer = keras.layers.BatchNormalization(name="stock")
    model = keras.Model(x, keras.layers.Dense(WAYS)(layer(x)))
    learner = tfmeta.FOMAML(model)
    inputs, _, _ = padded(tasks_without_padding("mlp"))
    with self.assertRaisesRegex(ValueError, r"layers.exact\(model\).*in stock"):
      learner.predict(inputs, verbose=0)
    exact = tfmeta.FOMAML(tfmeta.layers.exact(model))
    self.assertEqual(exact.predict(inputs, verbose=0).shape[-1], WAYS)

  def test_what_cannot_use_weights_is_refused_by_name(self):
    inputs, _, _ = padded(tasks_without_padding("mlp"))
    learner = make(tfmeta.Reptile, "mlp", support_batch_size=2)
    with self.assertRaisesRegex(ValueError, "Reptile with a `support_batch"):
      learner.predict(inputs, verbose=0)

    class OwnLearner(tfmeta.MAML):
      def adapt(self, support_x, support_y, context=tfmeta.EVALUATION):
        return super().adapt(support_x, support_y)

    with self.assertRaisesRegex(ValueError, "OwnLearner takes no weights"):
      make(OwnLearner, "mlp").predict(inputs, verbose=0)

  @parameterized.parameters(
    ({"sample_weight": np.ones(3)}, r"`sample_weight` or `query_weight` must"),
    ({"sample_weight": np.ones((3, 2))}, r"of shape \(.*2\)"),
    ({"class_weight": {0: 1.0, 1: 2.0, 2: 3.0}}, "take no `class_weight`"),
  )
  def test_weights_of_another_shape_are_refused(self, kwargs, sentence):
    inputs, labels, _ = padded(tasks_without_padding("mlp"))
    with self.assertRaisesRegex(ValueError, sentence):
      make(tfmeta.FOMAML, "mlp").fit(inputs, labels, verbose=0, **kwargs)

  def test_weights_of_an_adapted_task_are_checked(self):
    learner = make(tfmeta.FOMAML, "mlp")
    x, y, *_ = map(tf.constant, tasks_without_padding("mlp")[0])
    context = tfmeta.EVALUATION.replace(support_weight=tf.ones([1]))
    with self.assertRaisesRegex(ValueError, "one weight for each example"):
      learner.adapt(x, y, context)
    inputs, _, _ = padded(tasks_without_padding("mlp"))
    inputs["support_weight"] = -inputs["support_weight"]
    with self.assertRaisesRegex(ValueError, "at least 0. Received: -1"):
      learner({key: tf.constant(value) for key, value in inputs.items()})


if __name__ == "__main__":
  absltest.main()
