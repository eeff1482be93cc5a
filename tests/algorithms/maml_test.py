"""Tests MAML and FOMAML beyond the closed forms and the exam."""

import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta


def _net(seed=0, scale=3.0):
  keras.utils.set_random_seed(seed)
  inputs = keras.Input((3,), dtype="float64")
  x = keras.layers.Dense(8, activation="tanh", dtype="float64")(inputs)
  model = keras.Model(inputs, keras.layers.Dense(2, dtype="float64")(x))
  for variable in model.trainable_variables:
    variable.assign(scale * variable)
  return model


def _task():
  random = np.random.default_rng(0)
  x = tf.constant(random.normal(size=(2, 6, 3)))
  y = tf.constant(random.integers(0, 2, size=(2, 6)))
  return x[0], y[0], x[1], y[1]


def _meta_gradient(learner):
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(*_task())
  variables = [v.value for v in learner.trainable_variables]
  gradients = tape.gradient(loss, variables)
  return np.concatenate([np.ravel(g) for g in gradients])


class Cropped(keras.layers.Layer):
  """Operation whose gradient has no gradient."""

  def call(self, inputs):
    count = tf.shape(inputs)[0]
    boxes = tf.tile([[0.0, 0.0, 1.0, 1.0]], [count, 1])
    return tf.image.crop_and_resize(inputs, boxes, tf.range(count), [3, 3])


def _cropping_net():
  return keras.Sequential(
    [
      keras.Input((6, 6, 1)),
      keras.layers.Conv2D(2, 3, activation="tanh"),
      Cropped(name="mine"),
      keras.layers.GlobalAveragePooling2D(),
      keras.layers.Dense(2),
    ]
  )


class MAMLTest(parameterized.TestCase):
  def test_no_inner_steps_are_joint_training(self):
    model = _net()
    gradient = _meta_gradient(tfmeta.MAML(model, inner_steps=0))
    _, _, query_x, query_y = _task()
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(
        keras.losses.sparse_categorical_crossentropy(
          query_y, model(query_x), from_logits=True
        )
      )
    joint = tape.gradient(loss, [v.value for v in model.trainable_variables])
    joint = np.concatenate([np.ravel(g) for g in joint])
    np.testing.assert_allclose(gradient, joint, rtol=1e-12, atol=1e-14)

  def test_fomaml_needs_no_outer_tape(self):
    model = _net()
    learner = tfmeta.FOMAML(model, inner_steps=2, inner_learning_rate=0.3)
    support_x, support_y, query_x, query_y = _task()
    adapted = learner.adapt(support_x, support_y)
    with tf.GradientTape() as tape:
      tape.watch(adapted)
      loss = tf.reduce_mean(
        keras.losses.sparse_categorical_crossentropy(
          query_y, learner.predict_with(adapted, query_x), from_logits=True
        )
      )
    expected = tape.gradient(loss, adapted)
    expected = np.concatenate([np.ravel(g) for g in expected])
    np.testing.assert_allclose(
      _meta_gradient(learner), expected, rtol=1e-12, atol=1e-14
    )

  def test_first_order_is_another_direction(self):
    # A MAML that lost its second derivatives would pass all tests but this one.
    # Where the curvature is not tiny, they change the direction.
    options = {"inner_steps": 2, "inner_learning_rate": 0.3}
    second = _meta_gradient(tfmeta.MAML(_net(), **options))
    first = _meta_gradient(tfmeta.FOMAML(_net(), **options))
    cosine = second @ first / np.linalg.norm(second) / np.linalg.norm(first)
    self.assertLess(cosine, 0.99)

  def test_first_order_error_is_linear_in_the_inner_rate(self):
    errors = []
    for rate in (2e-3, 1e-3):
      options = {"inner_steps": 2, "inner_learning_rate": rate}
      second = _meta_gradient(tfmeta.MAML(_net(), **options))
      first = _meta_gradient(tfmeta.FOMAML(_net(), **options))
      errors.append(np.linalg.norm(second - first) / np.linalg.norm(second))
    self.assertBetween(errors[0] / errors[1], 1.8, 2.2)

  def test_evaluation_may_take_another_number_of_steps(self):
    learner = tfmeta.MAML(
      _net(), inner_steps=1, eval_inner_steps=3, inner_learning_rate=0.1
    )
    support_x, support_y, query_x, query_y = _task()
    path = learner.adaptation_path(support_x, support_y)
    self.assertLen(path, 4)
    loss, _ = learner.task_loss(support_x, support_y, query_x, query_y)
    evaluated = keras.losses.sparse_categorical_crossentropy(
      query_y, learner.predict_with(path[3], query_x), from_logits=True
    )
    self.assertNotAlmostEqual(float(loss), np.mean(evaluated))
    learner.compile(optimizer=keras.optimizers.SGD(0.0))
    inputs = {
      "support_x": support_x[None],
      "support_y": support_y[None],
      "query_x": query_x[None],
    }
    trained = learner.fit(inputs, query_y[None], verbose=0).history["loss"][0]
    one_step = keras.losses.sparse_categorical_crossentropy(
      query_y, learner.predict_with(path[1], query_x), from_logits=True
    )
    self.assertAlmostEqual(trained, np.mean(one_step), places=5)

  def test_long_evaluations_loop_in_the_graph_and_agree(self):
    learner = tfmeta.MAML(_net(), inner_learning_rate=0.05, eval_inner_steps=12)
    support_x, support_y, _, _ = _task()
    adapt = tf.function(learner.adapt)
    looped = adapt(support_x, support_y)
    operations = adapt.get_concrete_function(support_x, support_y).graph
    self.assertIn(
      "While", "".join(op.type for op in operations.get_operations())
    )
    weights = [tf.constant(v) for v in learner.model.trainable_variables]
    loss_fn = learner.support_loss(support_x, support_y)
    for step in range(12):
      weights = tfmeta.core.gradient_step(
        lambda w, step=step: loss_fn(w, step), weights, [0.05] * 4
      )
    for a, b in zip(looped, weights, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-10)

  def test_reduction_multiplies_the_inner_rate(self):
    # For 2 ways, the sum over ways with rate a equals the mean with rate 2 a.
    one = tfmeta.MAML(
      _net(), inner_learning_rate=0.1, inner_loss_reduction="sum_over_ways"
    )
    two = tfmeta.MAML(_net(), inner_learning_rate=0.2)
    np.testing.assert_allclose(
      _meta_gradient(one), _meta_gradient(two), rtol=1e-10
    )

  def test_layer_without_second_derivative_is_named(self):
    model = _cropping_net()
    with self.assertWarnsRegex(
      UserWarning, r"mine \(CropAndResizeGradImage\).*tfmeta.FOMAML"
    ):
      tfmeta.MAML(model)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      learner = tfmeta.FOMAML(model)
    x, y = np.ones((1, 2, 6, 6, 1), "float32"), np.array([[0, 1]])
    learner.compile("sgd")
    learner.fit({"support_x": x, "support_y": y, "query_x": x}, y, verbose=0)

  def test_fit_names_the_layer_instead_of_ending_in_a_lookup_error(self):
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      learner = tfmeta.MAML(_cropping_net())
    x, y = np.ones((1, 2, 6, 6, 1), "float32"), np.array([[0, 1]])
    learner.compile("sgd")
    with self.assertRaisesRegex(
      ValueError, r"MAML cannot be trained.*mine \(CropAndResizeGradImage\)"
    ):
      learner.fit({"support_x": x, "support_y": y, "query_x": x}, y, verbose=0)

  def test_layers_that_are_recomputed_are_named_and_first_order_trains(self):
    layers = [
      keras.layers.Dense(4),
      keras.layers.Lambda(keras.remat(lambda x: tf.tanh(x)), name="mine"),
      keras.layers.Dense(2),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    x, y = np.ones((1, 2, 3), "float32"), np.array([[0, 1]])
    tasks = {"support_x": x, "support_y": y, "query_x": x}
    named = r"mine \(recompute_grad\).*tfmeta.FOMAML"
    with self.assertWarnsRegex(UserWarning, named):
      learner = tfmeta.MAML(model)
    learner.compile("sgd")
    with self.assertRaisesRegex(ValueError, f"cannot be trained.*{named}"):
      learner.fit(tasks, y, verbose=0)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      learner = tfmeta.FOMAML(model)
      learner.compile("sgd")
      learner.fit(tasks, y, verbose=0)

  def test_fit_says_that_a_loss_has_no_second_derivative(self):
    def loss(y, outputs):
      del y
      grads = tf.raw_ops.SoftsignGrad(gradients=outputs, features=outputs)
      return tf.reduce_sum(grads, -1)

    learner = tfmeta.MAML(_net(), inner_loss=loss)
    learner.compile("sgd")
    tasks = {key: np.ones((1, 4, 3)) for key in ("support_x", "query_x")}
    y = np.array([[0, 1, 0, 1]])
    with self.assertRaisesRegex(
      ValueError, "outside of its model.*SoftsignGrad"
    ):
      learner.fit({**tasks, "support_y": y}, y, verbose=0)

  def test_models_of_unknown_shapes_are_refused(self):
    class Subclass(keras.Model):
      def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

      def call(self, x):
        return self.dense(x)

    model = Subclass()
    model(np.zeros((1, 3)))
    with self.assertRaisesRegex(ValueError, "functional.*a Subclass"):
      tfmeta.MAML(model)
    inputs = keras.Input((3,))
    tfmeta.MAML(keras.Model(inputs, model(inputs)))

  @parameterized.named_parameters(
    ("negative steps", {"inner_steps": -1}, "inner_steps.*Received"),
    ("steps no integer", {"inner_steps": 1.5}, "inner_steps.*Received"),
    ("no rate", {"inner_learning_rate": 0}, "inner_learning_rate.*Received"),
    ("nan rate", {"inner_learning_rate": float("nan")}, "above 0.*nan"),
    ("reduction", {"inner_loss_reduction": "max"}, "'sum_over_ways'.*'max'"),
    ("task map", {"task_map": "pmap"}, "'vectorize'.*'pmap'"),
    ("normalization", {"normalization": "bn"}, "'support_stats'.*'bn'"),
    ("eval steps", {"eval_inner_steps": -2}, "eval_inner_steps.*-2"),
    ("seed no integer", {"seed": "a"}, "seed.*'a'"),
    ("seed too large", {"seed": 2**31}, "32 bits.*2147483648"),
  )
  def test_arguments_out_of_range_are_refused(self, kwargs, message):
    with self.assertRaisesRegex(ValueError, message):
      tfmeta.MAML(_net(), **kwargs)


if __name__ == "__main__":
  absltest.main()
