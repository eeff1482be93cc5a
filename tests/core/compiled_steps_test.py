import re
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import compiled_steps

UNITS = 8


def _refuse(iterator):
  raise AssertionError(f"Keras's own function was called with {iterator}")


def _tasks(count: int) -> tf.data.Dataset:
  random = np.random.default_rng(0)
  inputs = {
    key: random.normal(size=(count, 4, 1)).astype("float32")
    for key in ("support_x", "support_y", "query_x")
  }
  targets = np.sin(inputs["query_x"])
  return tf.data.Dataset.from_tensor_slices((inputs, targets))


def _learner(
  learner_class=tfmeta.MAML, options=None, **compile_kwargs
) -> tfmeta.MetaLearner:
  keras.utils.set_random_seed(0)
  model = tfmeta.models.mlp((1,), outputs=1, hidden=(UNITS,))
  learner = learner_class(
    model, inner_loss="mse", inner_learning_rate=0.1, **(options or {})
  )
  learner.compile(keras.optimizers.SGD(0.1), metrics=["mse"], **compile_kwargs)
  return learner


class InOneProgramTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.digits = tf.Variable(0)
    self.train = compiled_steps.in_one_program(self.append, 3, _refuse)

  def append(self, batch):
    self.digits.assign(10 * self.digits + batch)
    return {"last": batch, "so_far": tf.identity(self.digits)}

  def test_takes_each_batch_once_and_in_order(self):
    iterator = iter(tf.data.Dataset.range(1, 8, output_type=tf.int32))
    for expected in (123, 123456):
      self.assertEqual(int(self.train(iterator)["so_far"]), expected)

  def test_ends_with_the_data(self):
    iterator = iter(tf.data.Dataset.range(1, 6, output_type=tf.int32))
    self.train(iterator)
    logs = self.train(iterator)
    self.assertEqual((int(logs["last"]), int(logs["so_far"])), (5, 12345))
    with self.assertRaises(StopIteration):
      self.train(iterator)
    self.assertEqual(int(self.digits), 12345)

  def test_batches_of_unknown_size_are_left_to_keras(self):
    with self.assertRaisesRegex(AssertionError, "Keras's own"):
      self.train(iter(tf.data.Dataset.range(3).batch(2)))

  def test_large_batches_are_left_to_keras(self):
    for megabytes, refused in ((21, False), (22, True)):
      image = np.zeros([megabytes * 2**20], np.uint8)
      iterator = iter(tf.data.Dataset.from_tensors(image))
      self.assertEqual(compiled_steps._can_be_stacked(iterator, 3), not refused)


class FitTest(parameterized.TestCase):
  def refuse_keras(self):
    """Fails the test if a learner falls back to Keras's train function."""
    make = compiled_steps.in_one_program
    self.enterContext(
      mock.patch.object(
        compiled_steps,
        "in_one_program",
        lambda step, count, otherwise: make(step, count, _refuse),
      )
    )

  @parameterized.parameters(tfmeta.MAML, tfmeta.PLATIPUS)
  def test_weights_and_logs_equal_those_of_single_steps(self, learner_class):
    self.refuse_keras()
    found = []
    for options in (
      {"jit_compile": False},
      {"jit_compile": True, "steps_per_execution": 3},
    ):
      learner = _learner(learner_class, **options)
      data = _tasks(10).batch(2, drop_remainder=True)
      history = learner.fit(data, epochs=2, verbose=0).history
      self.assertEqual(int(learner.optimizer.iterations), 10)
      found.append((learner.model.get_weights(), history))
    (one, logs), (many, looped) = found
    for key, values in logs.items():
      np.testing.assert_allclose(looped[key], values, rtol=1e-4)
    for a, b in zip(one, many, strict=True):
      np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)

  @parameterized.parameters(
    (tfmeta.PLATIPUS, {}),
    (tfmeta.EMAML, {"num_particles": 2}),
    (tfmeta.BMAML, {"num_particles": 2}),
  )
  def test_weights_are_no_constants(self, learner_class, options):
    # XLA would compile each step again, because the weights change.
    learner = _learner(learner_class, options)
    batch = next(iter(_tasks(3).batch(3)))
    learner._maybe_symbolic_build(data_batch=batch)
    step = tf.function(learner.train_step, jit_compile=True)
    program = step.experimental_get_compiler_ir(batch)(stage="hlo")
    constants = re.findall(r"f32\[([\d,]+)\]\S* constant\(", program)
    hidden = [shape for shape in constants if str(UNITS) in shape.split(",")]
    self.assertEmpty(hidden)

  def test_the_last_batch_may_be_smaller(self):
    learner = _learner(jit_compile=True, steps_per_execution=2)
    learner.fit(_tasks(5).batch(2), epochs=2, verbose=0)
    self.assertEqual(int(learner.optimizer.iterations), 6)

  def test_a_strategy_of_one_device_trains(self):
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
      learner = _learner(jit_compile=True, steps_per_execution=2)
    learner.fit(_tasks(4).batch(2, drop_remainder=True), verbose=0)
    self.assertEqual(int(learner.optimizer.iterations), 2)

  @parameterized.parameters(
    {"jit_compile": False, "steps_per_execution": 2},
    {"jit_compile": True, "steps_per_execution": 1},
    {"run_eagerly": True, "steps_per_execution": 2},
  )
  def test_serves_only_xla_with_several_steps(self, **options):
    both = {"jit_compile": True, "steps_per_execution": 2}
    self.assertTrue(compiled_steps.can_serve(_learner(**both)))
    self.assertFalse(compiled_steps.can_serve(_learner(**options)))

  def test_functions_that_run_eagerly_are_left_to_keras(self):
    learner = _learner(jit_compile=True, steps_per_execution=2)
    tf.config.run_functions_eagerly(True)
    self.addCleanup(tf.config.run_functions_eagerly, False)
    self.assertFalse(compiled_steps.can_serve(learner))


if __name__ == "__main__":
  absltest.main()
