from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.data import task


class TaskSpecTest(parameterized.TestCase):
  @parameterized.parameters((5, 25, 50), (None, 5, 10))
  def test_sizes_count_all_classes(self, ways, support_size, query_size):
    spec = task.TaskSpec(ways=ways, shots=5, query_shots=10)
    self.assertEqual(spec.support_size, support_size)
    self.assertEqual(spec.query_size, query_size)
    self.assertEqual(spec.examples_per_class, 15)

  @parameterized.parameters("ways", "shots", "query_shots")
  def test_numbers_below_one_are_rejected(self, name):
    with self.assertRaisesRegex(ValueError, f"`{name}`.*{name}=0"):
      task.TaskSpec(**{name: 0})

  @parameterized.parameters(1.0, "5", True, None)
  def test_other_types_are_rejected(self, value):
    # Callers of Keras expect a `ValueError`, Python programmers a `TypeError`.
    for error in (TypeError, ValueError):
      with self.assertRaisesRegex(error, "`shots` must be an integer"):
        task.TaskSpec(shots=value)

  def test_numpy_integers_become_python_integers(self):
    self.assertIs(type(task.TaskSpec(ways=np.int64(5)).ways), int)

  def test_an_element_separates_support_from_query(self):
    spec = task.TaskSpec(ways=2, shots=1, query_shots=2)
    inputs, query_y = task.to_element(tf.range(6), tf.range(6) * 10, spec)
    self.assertCountEqual(inputs, ["support_x", "support_y", "query_x"])
    np.testing.assert_array_equal(inputs["support_x"], [0, 1])
    np.testing.assert_array_equal(inputs["support_y"], [0, 10])
    np.testing.assert_array_equal(inputs["query_x"], [2, 3, 4, 5])
    np.testing.assert_array_equal(query_y, [20, 30, 40, 50])


if __name__ == "__main__":
  absltest.main()
