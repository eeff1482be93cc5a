from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tfmeta import core


def shares(epoch, *, steps=5, epochs=15):
  return core.multi_step_shares(epoch, steps=steps, epochs=epochs).numpy()


class MultiStepSharesTest(parameterized.TestCase):
  def test_begin_equal(self):
    np.testing.assert_allclose(shares(0), [0.2] * 5, rtol=1e-6)

  def test_published_example(self):
    # The released code at S = 5, E = 15, e = 14: 1/5 - 14/75 for each early
    # step, 1/5 + 14 * 4 / 75 for the last.
    expected = [1 / 75] * 4 + [71 / 75]
    np.testing.assert_allclose(shares(14), expected, rtol=1e-5)

  def test_keep_a_floor_until_the_switch(self):
    np.testing.assert_allclose(
      shares(99, epochs=100), [0.006] * 4 + [0.976], rtol=1e-5
    )

  @parameterized.parameters(15, 16, 1000)
  def test_are_one_hot_from_the_switch_on(self, epoch):
    np.testing.assert_array_equal(shares(epoch), [0, 0, 0, 0, 1])

  @parameterized.product(epoch=tuple(range(16)), steps=(1, 2, 5))
  def test_sum_to_one(self, epoch, steps):
    found = shares(epoch, steps=steps)
    self.assertAlmostEqual(found.sum(), 1.0, places=6)
    self.assertGreaterEqual(found.min(), 0.0)

  def test_without_epochs_only_the_last_counts(self):
    np.testing.assert_array_equal(shares(0, epochs=0), [0, 0, 0, 0, 1])


if __name__ == "__main__":
  absltest.main()
