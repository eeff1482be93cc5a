"""Tests the implicit gradient of iMAML against closed forms."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

LAMBDA = 2.0


def regressor(**kwargs):
  """Returns a learner whose inner problem is quadratic, in float64."""
  keras.utils.set_random_seed(0)
  layer = keras.layers.Dense(1, dtype="float64")
  model = keras.Sequential([keras.Input((4,), dtype="float64"), layer])
  return tfmeta.IMAML(
    model,
    inner_loss="mse",
    dtype="float64",
    **{"regularization": LAMBDA, "inner_learning_rate": 0.1, **kwargs},
  )


def task():
  random = np.random.default_rng(0)
  x = tf.constant(random.normal(size=(2, 6, 4)))
  y = tf.constant(random.normal(size=(2, 6, 1)))
  return x[0], y[0], x[1], y[1]


def with_ones(x):
  """Returns examples with a column of ones for the bias."""
  return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def minimum(theta):
  """Returns the solution of the inner problem, and its derivative."""
  x, y = with_ones(task()[0]), task()[1].numpy()
  hessian = 2 * x.T @ x / len(x)
  inverse = np.linalg.inv(hessian + LAMBDA * np.eye(5))
  slope = 2 * x.T @ y[:, 0] / len(x)
  return inverse @ (slope + LAMBDA * theta), LAMBDA * inverse


def query_gradient(phi):
  x, y = with_ones(task()[2]), task()[3].numpy()
  return 2 * x.T @ (x @ phi - y[:, 0]) / len(x)


def flat(tensors):
  return np.concatenate([np.ravel(t) for t in tensors])


def meta_gradient(learner):
  with tf.GradientTape() as tape:
    loss, _ = learner.task_loss(*task())
  values = [v.value for v in learner.trainable_variables]
  return float(loss), flat(tape.gradient(loss, values))


class IMAMLTest(parameterized.TestCase):
  def test_adapts_to_the_minimum(self):
    learner = regressor(inner_steps=300)
    phi, _ = minimum(flat(learner.model.get_weights()))
    adapted = learner.adapt(*task()[:2])
    np.testing.assert_allclose(flat(adapted), phi, rtol=1e-8)

  def test_the_gradient_is_that_of_the_closed_form(self):
    # Without the distance, or with the gradient of first-order MAML, it is far
    # from this.
    learner = regressor(inner_steps=300, cg_iterations=20)
    phi, derivative = minimum(flat(learner.model.get_weights()))
    loss, found = meta_gradient(learner)
    expected = derivative.T @ query_gradient(phi)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    x, y = with_ones(task()[2]), task()[3].numpy()
    self.assertAlmostEqual(loss, np.mean((x @ phi - y[:, 0]) ** 2), places=8)

  def test_damping_is_added_to_the_diagonal(self):
    learner = regressor(inner_steps=300, cg_iterations=20, damping=1.0)
    phi, derivative = minimum(flat(learner.model.get_weights()))
    system = np.linalg.inv(derivative) + np.eye(5)
    _, found = meta_gradient(learner)
    expected = np.linalg.solve(system, query_gradient(phi))
    np.testing.assert_allclose(found, expected, rtol=1e-8)

  def test_few_iterations_approximate_the_gradient(self):
    _, exact = meta_gradient(regressor(inner_steps=300, cg_iterations=20))
    errors = [
      np.linalg.norm(
        meta_gradient(regressor(inner_steps=300, cg_iterations=count))[1]
        - exact
      )
      for count in (1, 2, 4)
    ]
    self.assertGreater(errors[0], errors[1])
    self.assertGreater(errors[1], errors[2])

  def test_a_strong_regularization_leaves_the_query_gradient(self):
    learner = regressor(regularization=1e8, inner_learning_rate=1e-9)
    theta = flat(learner.model.get_weights())
    _, found = meta_gradient(learner)
    np.testing.assert_allclose(found, query_gradient(theta), rtol=1e-6)

  def test_statistics_of_the_support_set_have_gradients(self):
    """The query loss depends on the weights through the statistics too."""
    keras.utils.set_random_seed(0)
    layers = [
      keras.layers.Dense(3, dtype="float64"),
      tfmeta.layers.BatchNormalization(dtype="float64"),
      keras.layers.Activation("tanh", dtype="float64"),
      keras.layers.Dense(1, dtype="float64"),
    ]
    model = keras.Sequential([keras.Input((4,), dtype="float64"), *layers])
    learner = tfmeta.IMAML(
      model,
      regularization=1e8,
      inner_learning_rate=1e-9,
      normalization="support_stats",
      inner_loss="mse",
      dtype="float64",
    )
    _, found = meta_gradient(learner)
    before = learner.model.get_weights()
    kernel, values = before[0], []
    direction = np.random.default_rng(1).normal(size=kernel.shape)
    for sign in (1, -1):
      moved = kernel + sign * 1e-5 * direction
      learner.model.set_weights([moved, *before[1:]])
      values.append(float(learner.task_loss(*task())[0]))
    slope = (values[0] - values[1]) / 2e-5
    along = found[: kernel.size] @ np.ravel(direction)
    np.testing.assert_allclose(along, slope, rtol=1e-6)

  def test_embeddings_have_the_gradient_of_a_matrix_product(self):
    """TensorFlow's gradients of embeddings are sparse."""
    ids = np.array([[0, 1], [2, 3], [3, 3]])
    table = np.random.default_rng(0).normal(size=(4, 2))
    kernel = np.random.default_rng(1).normal(size=(4, 1))
    found = []
    for first in (
      keras.layers.Embedding(4, 2, dtype="float64"),
      keras.layers.EinsumDense("abc,cd->abd", (2, 2), dtype="float64"),
    ):
      embeds = isinstance(first, keras.layers.Embedding)
      model = keras.Sequential(
        [
          keras.Input((2,) if embeds else (2, 4), dtype="float64"),
          first,
          keras.layers.Flatten(dtype="float64"),
          keras.layers.Dense(1, use_bias=False, dtype="float64"),
        ]
      )
      model.set_weights([table, kernel])
      learner = tfmeta.IMAML(
        model, inner_loss="mse", inner_learning_rate=0.1, dtype="float64"
      )
      x = tf.constant(ids if embeds else np.eye(4)[ids])
      y = tf.constant([[1.0], [-1.0], [0.5]], tf.float64)
      with tf.GradientTape() as tape:
        loss, _ = learner.task_loss(x, y, x[:2], y[:2])
      values = [v.value for v in learner.trainable_variables]
      found.append(
        flat([tf.convert_to_tensor(g) for g in tape.gradient(loss, values)])
      )
    np.testing.assert_allclose(*found, rtol=1e-10)

  def test_converged_steps_have_the_gradient_of_the_whole_loop(self):
    """Central differences run through the inner loop itself."""
    keras.utils.set_random_seed(0)
    layers = [
      keras.layers.Dense(3, "tanh", dtype="float64"),
      keras.layers.Dense(1, dtype="float64"),
    ]
    model = keras.Sequential([keras.Input((4,), dtype="float64"), *layers])
    learner = tfmeta.IMAML(
      model,
      regularization=LAMBDA,
      cg_iterations=50,
      inner_steps=400,
      inner_learning_rate=0.2,
      inner_loss="mse",
      dtype="float64",
    )
    evaluate = tf.function(lambda: learner.task_loss(*task())[0])
    _, found = meta_gradient(learner)
    direction = np.random.default_rng(1).normal(size=found.shape)
    values = []
    before = learner.model.get_weights()
    for sign in (1, -1):
      moved, place = [], 0
      for weight in before:
        part = direction[place : place + weight.size].reshape(weight.shape)
        moved.append(weight + sign * 1e-5 * part)
        place += weight.size
      learner.model.set_weights(moved)
      values.append(float(evaluate()))
    slope = (values[0] - values[1]) / 2e-5
    self.assertAlmostEqual(found @ direction, slope, places=7)

  @parameterized.parameters(
    ({"regularization": 0.0}, "regularization"),
    ({"cg_iterations": 0}, "cg_iterations"),
    ({"damping": -1.0}, "damping"),
  )
  def test_arguments_out_of_range_are_named(self, kwargs, name):
    with self.assertRaisesRegex(ValueError, f"{name}.*Received"):
      regressor(**kwargs)


if __name__ == "__main__":
  absltest.main()
