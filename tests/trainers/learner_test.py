import math

from absl.testing import absltest
from absl.testing import parameterized

from trainers.run import configuration
from trainers.run import learner


def rate_at(share, **values):
  """Returns the outer learning rate after a share of a run of 10 epochs."""
  run = configuration.Configuration(
    "MAML",
    workdir="run",
    epochs=10,
    steps_per_epoch=100,
    learning_rate=1e-3,
    final_learning_rate=1e-5,
    **values,
  )
  rate = learner.learning_rate(run)
  return float(rate(round(share * 1000))) if callable(rate) else rate


class LearningRateTest(parameterized.TestCase):
  @parameterized.parameters(0.0, 0.25, 0.5, 1.0)
  def test_cosine(self, share):
    expected = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * share)) / 2
    found = rate_at(share, learning_rate_decay="cosine")
    self.assertAlmostEqual(found, expected, places=9)

  @parameterized.parameters(0.0, 0.25, 1.0)
  def test_linear(self, share):
    expected = 1e-3 + (1e-5 - 1e-3) * share
    found = rate_at(share, learning_rate_decay="linear")
    self.assertAlmostEqual(found, expected, places=9)

  @parameterized.parameters(0.0, 0.25, 1.0)
  def test_exponential(self, share):
    expected = 1e-3 * (1e-5 / 1e-3) ** share
    found = rate_at(share, learning_rate_decay="exponential")
    self.assertAlmostEqual(found, expected, places=9)

  def test_an_exponential_decay_must_end_above_0(self):
    with self.assertRaisesRegex(ValueError, "final_learning_rate=0.0"):
      configuration.Configuration(
        "MAML", workdir="run", learning_rate_decay="exponential"
      )

  def test_constant(self):
    self.assertEqual(rate_at(0.5, learning_rate_decay="none"), 1e-3)


if __name__ == "__main__":
  absltest.main()
