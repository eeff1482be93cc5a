from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import task_map

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
Y = np.arange(5, dtype="float32")


def _fn(x, y):
  return {"sum": tf.reduce_sum(x) + y, "double": 2 * x}


class TaskMapTest(parameterized.TestCase):
  @parameterized.product(
    method=("map", "vectorize", "unroll"), graph=(True, False)
  )
  def test_maps_each_task(self, method, graph):
    run = lambda: task_map.map_tasks(  # noqa: E731
      _fn, (tf.constant(X), tf.constant(Y)), method
    )
    outputs = (tf.function(run) if graph else run)()
    np.testing.assert_allclose(outputs["sum"], X.sum(axis=1) + Y, rtol=1e-5)
    np.testing.assert_allclose(outputs["double"], 2 * X)

  @parameterized.product(
    method=("map", "vectorize", "unroll"), jit=(True, False, None)
  )
  def test_sums_over_tasks(self, method, jit):
    def run(x, y):
      def fn(x, y):
        return x + y, {"x": x, "y": y}

      return task_map.map_and_sum(fn, (x, y), method)

    if jit is not None:
      run = tf.function(run, jit_compile=jit)
    mapped, summed = run(tf.constant(X), tf.constant(Y))
    np.testing.assert_allclose(mapped, X + Y[:, None], rtol=1e-6)
    np.testing.assert_allclose(summed["x"], X.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(summed["y"], Y.sum(), rtol=1e-6)

  @parameterized.product(
    method=("map", "vectorize", "unroll"), graph=(True, False)
  )
  def test_tasks_may_be_structures(self, method, graph):
    def fn(task, rest):
      return _fn(task["x"], rest[0]), tf.reduce_sum(rest[1])

    def run():
      # The keys of a dictionary are not in the order in which they are given.
      tasks = {"y": tf.constant(Y), "x": tf.constant(X)}
      rest = (tf.constant(Y), tf.constant(X))
      return task_map.map_and_sum(fn, (tasks, rest), method)

    mapped, summed = (tf.function(run) if graph else run)()
    np.testing.assert_allclose(mapped["sum"], X.sum(axis=1) + Y, rtol=1e-5)
    np.testing.assert_allclose(summed, X.sum(), rtol=1e-5)

  @parameterized.product(
    method=("map", "vectorize"), jit=(True, False), count=(1, 2, 7)
  )
  def test_gradients_go_through_samples(self, method, jit, count):
    # The gradient of a slice needs the shape of its input, which XLA must know
    # when it compiles.
    def loss(x):
      each = task_map.SampleMap(
        lambda row, i: {"y": tf.cast(i + 1, row.dtype) * row[1:] ** 3}, method
      )
      found = each(x, tf.range(count))["y"]
      return tf.reduce_sum(found), found

    @tf.function(jit_compile=jit)
    def run(x):
      with tf.GradientTape() as tape:
        tape.watch(x)
        total, found = loss(x)
      return found, tf.convert_to_tensor(tape.gradient(total, x))

    x = np.tile(X, [2, 1])[:count]
    factors = np.arange(1, count + 1)[:, np.newaxis]
    found, gradient = run(tf.constant(x))
    np.testing.assert_allclose(found, factors * x[:, 1:] ** 3, rtol=1e-5)
    expected = np.pad(3 * factors * x[:, 1:] ** 2, [(0, 0), (1, 0)])
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)

  def test_number_of_tasks_may_be_unknown(self):
    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def run(x):
      return task_map.map_and_sum(lambda x: (x, x), (x,), "map")

    for count in (1, 4):
      mapped, summed = run(X[:count])
      np.testing.assert_allclose(mapped, X[:count])
      np.testing.assert_allclose(summed, X[:count].sum(axis=0), rtol=1e-5)

  def test_unroll_says_that_it_needs_the_number_of_tasks(self):
    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def run(x):
      return task_map.map_tasks(lambda x: x, (x,), "unroll")

    with self.assertRaisesRegex(ValueError, "drop_remainder=True. Received"):
      run(X)

  def test_function_of_a_task_is_traced_once(self):
    calls = []

    @tf.function
    def run(x):
      def fn(x):
        calls.append(1)
        return x, x

      return task_map.map_and_sum(fn, (x,), "map")

    run(tf.constant(X))
    self.assertLen(calls, 1)

  @parameterized.named_parameters(
    ("dense", [keras.layers.Dense(3)], "vectorize"),
    ("dense and flatten", [keras.layers.Flatten()], "vectorize"),
    ("convolution", [keras.layers.Conv2D(2, 3)], "map"),
    (
      "nested convolution",
      [keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)])],
      "map",
    ),
  )
  def test_method_is_chosen_from_the_layers(self, layers, expected):
    layers = [keras.Input((8, 8, 1)), *layers, keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(2)])
    self.assertEqual(task_map.choose_method(model), expected)


if __name__ == "__main__":
  absltest.main()
