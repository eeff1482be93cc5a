from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import functional
from tfmeta.core import losses


def _model():
  inputs = keras.Input((3,))
  x = keras.layers.Dense(4, activation="tanh")(inputs)
  x = keras.layers.Dropout(0.5)(x)
  return keras.Model(inputs, keras.layers.Dense(2)(x))


class FunctionalTest(parameterized.TestCase):
  def test_apply_uses_the_given_weights_and_assigns_nothing(self):
    model = _model()
    x = tf.ones([5, 3])
    weights = functional.weights_of(model)
    before = [np.array(v) for v in model.variables]
    doubled = [2 * w for w in weights]
    outputs, state = functional.apply(
      model, doubled, functional.state_of(model), x, training=True
    )
    for variable, value in zip(model.variables, before, strict=True):
      np.testing.assert_array_equal(variable, value)
    self.assertLen(state, len(model.non_trainable_variables))
    for variable, value in zip(model.trainable_variables, doubled, strict=True):
      variable.assign(value)
    np.testing.assert_allclose(outputs.shape, (5, 2))
    inference, _ = functional.apply(
      model, doubled, functional.state_of(model), x, training=False
    )
    np.testing.assert_allclose(inference, model(x, training=False), rtol=1e-6)

  def test_weights_let_the_gradient_through_to_the_variables(self):
    model = _model()
    with tf.GradientTape() as tape:
      weights = functional.weights_of(model)
      loss = tf.add_n([tf.reduce_sum(w**2) for w in weights])
    variables = [v.value for v in model.trainable_variables]
    for variable, gradient in zip(
      variables, tape.gradient(loss, variables), strict=True
    ):
      np.testing.assert_allclose(gradient, 2 * variable)

  def test_substituted_variables_read_as_tensors_that_take_the_gradient(self):
    model = _model()
    first, second = model.trainable_variables[:2]
    before = np.array(first)
    one, two = tf.ones_like(first), 2 * tf.ones_like(second)
    with tf.GradientTape() as tape:
      tape.watch([one, two])
      with functional.substituted(model, [first], [one]):
        # The inner context must not hide the outer one.
        with functional.substituted(model, [second], [two]):
          found = functional.weights_of(model)
          first.assign(3 * one)
      loss = tf.reduce_sum(found[0] ** 2) + tf.reduce_sum(found[1] ** 3)
    np.testing.assert_array_equal(found[2], model.trainable_variables[2])
    np.testing.assert_array_equal(first, before)
    gradients = tape.gradient(loss, [one, two])
    np.testing.assert_allclose(gradients[0], 2 * one)
    np.testing.assert_allclose(gradients[1], 3 * two**2)

  def test_random_layers_use_the_seed_they_are_given(self):
    model = _model()
    weights = functional.weights_of(model)

    def outputs_of(seed):
      state = functional.state_of(model, tf.constant(seed))
      return functional.apply(
        model, weights, state, tf.ones([5, 3]), training=True
      )[0].numpy()

    np.testing.assert_array_equal(outputs_of([1, 2]), outputs_of([1, 2]))
    self.assertFalse(np.array_equal(outputs_of([1, 2]), outputs_of([1, 3])))

  @parameterized.parameters(("mean", 1.0), ("sum", 6.0), ("sum_over_ways", 3.0))
  def test_reductions_differ_by_the_factors_in_their_names(
    self, reduction, factor
  ):
    # 3 ways, 2 shots: the sum is 6 means, the sum over the shots 3 means.
    y = tf.constant([0, 1, 2, 0, 1, 2])
    logits = tf.random.stateless_normal([6, 3], [0, 1])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    mean = np.mean(
      keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
    )
    np.testing.assert_allclose(
      losses.reduced_loss(loss, y, logits, reduction=reduction),
      mean * factor,
      rtol=1e-6,
    )

  def test_loss_is_the_same_under_replicas(self):
    # Keras divides `loss(y, y_pred)` by the number of replicas. An inner loss
    # must not be divided.
    y, y_pred = tf.constant([[1.0], [2.0]]), tf.constant([[0.0], [4.0]])
    loss = keras.losses.MeanSquaredError()
    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
      self.skipTest("needs two logical CPUs")
    strategy = tf.distribute.MirroredStrategy([d.name for d in devices[:2]])
    values = strategy.run(lambda: losses.reduced_loss(loss, y, y_pred)).values
    self.assertLen(values, 2)
    for value in values:
      self.assertAlmostEqual(float(value), 2.5)

  def test_bfloat16_outputs_are_reduced_in_float32(self):
    y_pred = tf.zeros([300, 1], tf.bfloat16)
    y = tf.fill([300, 1], 1.001)
    value = losses.reduced_loss(keras.losses.MeanSquaredError(), y, y_pred)
    self.assertEqual(value.dtype, tf.float32)
    self.assertAlmostEqual(float(value), 1.002001, places=5)


if __name__ == "__main__":
  absltest.main()
