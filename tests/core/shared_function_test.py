from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.core import shared_function

KINDS = {
  "plain": lambda fn: fn,
  "shared": shared_function.SharedFunction,
  "recomputed": shared_function.RecomputedFunction,
}
MODES = {
  "graph": lambda fn: tf.function(fn, autograph=False),
  "xla": lambda fn: tf.function(fn, autograph=False, jit_compile=True),
  "eager": lambda fn: fn,
}
X = tf.constant([0.3, 0.4, 0.5], tf.float64)
C = tf.constant([1.0, 2.0, 3.0], tf.float64)


def gradients(kind, x, c):
  """Returns a value and gradients through three steps that read `c`."""

  def step_fn(step, carry):
    a, (b,) = carry
    moved = a * tf.sin(b * c) + tf.cast(step, a.dtype)
    return moved, (b * tf.exp(-a / 10),)

  step_fn = KINDS[kind](step_fn)
  with tf.GradientTape() as tape:
    tape.watch([x, c])
    carry = (x, (2 * x,))
    for step in range(3):
      carry = step_fn(step, carry)
    value = tf.reduce_sum(carry[0] * carry[1][0])
  return [value, *tape.gradient(value, [x, c])]


class SharedFunctionTest(parameterized.TestCase):
  @parameterized.product(kind=("shared", "recomputed"), mode=tuple(MODES))
  def test_values_and_gradients_are_those_of_the_function(self, kind, mode):
    run = MODES[mode](gradients)
    expected = [v.numpy() for v in gradients("plain", X, C)]
    for found, value in zip(run(kind, X, C), expected, strict=True):
      np.testing.assert_allclose(found, value, rtol=1e-14)

  @parameterized.parameters("shared", "recomputed")
  def test_second_derivatives_are_those_of_the_function(self, kind):
    @tf.function(autograph=False)
    def curvature(kind):
      with tf.GradientTape() as tape:
        tape.watch([X, C])
        slope = tf.reduce_sum(gradients(kind, X, C)[1] ** 2)
      return tape.gradient(slope, [X, C])

    pairs = zip(curvature(kind), curvature("plain"), strict=True)
    for found, expected in pairs:
      np.testing.assert_allclose(found, expected, rtol=1e-13)

  @parameterized.parameters("shared", "recomputed")
  def test_is_traced_once_for_all_steps(self, kind):
    calls = []

    def step_fn(step, x):
      calls.append(step)
      return x * tf.cast(step, x.dtype)

    @tf.function(autograph=False)
    def run(x):
      each = KINDS[kind](step_fn)
      with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for step in range(1, 5):
          y = each(step, y)
      return tape.gradient(y, x)

    np.testing.assert_allclose(run(X), np.full(3, 24.0))
    # The gradient of a recomputed function calls it again.
    self.assertLen(calls, 1 + (kind == "recomputed"))

  def test_graph_holds_no_copies(self):
    @tf.function(autograph=False)
    def run(x):
      each = shared_function.SharedFunction(lambda x: tf.sin(tf.cos(x)))
      with tf.GradientTape() as tape:
        tape.watch(x)
        y = each(each(each(x)))
      return tape.gradient(y, x)

    graph = run.get_concrete_function(X).graph
    types = [op.type for op in graph.get_operations()]
    self.assertNotIn("Sin", types)
    functions = [
      op.get_attr("f").name
      for op in graph.get_operations()
      if "PartitionedCall" in op.type
    ]
    # Three calls of one function, and three of its gradient.
    self.assertLen(functions, 6)
    self.assertLen({*functions}, 2)

  def test_recomputing_refuses_trainable_variables(self):
    variable = tf.Variable(2.0, name="scale")

    @tf.function(autograph=False)
    def run(x):
      return shared_function.RecomputedFunction(lambda x: x * variable)(x)

    with self.assertRaisesRegex(ValueError, "Received: the variables scale"):
      run(tf.constant(1.0))


if __name__ == "__main__":
  absltest.main()
