from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import tfmeta

SPEC = tfmeta.TaskSpec(shots=5, query_shots=40)


def draw(count, **options):
  """`(x, y)` of all points of each task, sorted by x."""
  tasks = tfmeta.data.sinusoid_or_line("train", SPEC, **options).take(count)
  for inputs, query_y in tasks.as_numpy_iterator():
    x = np.concatenate([inputs["support_x"], inputs["query_x"]])[:, 0]
    y = np.concatenate([inputs["support_y"], query_y])[:, 0]
    order = np.argsort(x)
    yield x[order], y[order]


def line_error(x, y):
  """Root mean squared distance from the best line, and the line."""
  line = np.polyfit(x, y, 1)
  return np.sqrt(np.mean((np.polyval(line, x) - y) ** 2)), line


def sine_error(x, y):
  """The same for the best sinusoid of frequency 1."""
  basis = np.stack([np.sin(x), np.cos(x)], axis=1)
  factors, *_ = np.linalg.lstsq(basis, y, rcond=None)
  return np.sqrt(np.mean((basis @ factors - y) ** 2)), factors


class SinusoidOrLineTest(parameterized.TestCase):
  def test_half_are_lines_and_half_sinusoids_in_their_ranges(self):
    lines = 0
    for x, y in draw(200, noise_stddev=0.0):
      self.assertTrue((np.abs(x) <= 5).all())
      straight, line = line_error(x, y)
      round_, factors = sine_error(x, y)
      self.assertLess(min(straight, round_), 1e-4)
      if straight < round_:
        lines += 1
        self.assertTrue((np.abs(line) <= 3).all())
      else:
        self.assertBetween(np.hypot(*factors), 0.1, 5.0)
    # 200 throws of a coin: outside of 75 to 125 once in two thousand.
    self.assertBetween(lines, 75, 125)

  def test_phases_of_sinusoids_are_in_half_a_turn(self):
    for x, y in draw(60, noise_stddev=0.0):
      round_, (_, by_cosine) = sine_error(x, y)
      if round_ < 1e-4:
        # a sin(x - p) = a cos(p) sin(x) - a sin(p) cos(x), p in [0, pi].
        self.assertLessEqual(by_cosine, 1e-4)

  def test_targets_have_noise(self):
    residuals = []
    for x, y in draw(200):
      straight, _ = line_error(x, y)
      round_, _ = sine_error(x, y)
      residuals.append(min(straight, round_))
    # Of 45 points, less the two that a fit takes away.
    expected = 0.3 * np.sqrt(43 / 45)
    self.assertAlmostEqual(np.mean(residuals), expected, delta=0.01)

  def test_a_task_is_a_function_of_seed_and_index(self):
    def key(tasks):
      return [y.tolist() for _, y in tasks]

    self.assertEqual(key(draw(4))[2:], key(draw(2, start=2)))
    self.assertNotEqual(key(draw(2)), key(draw(2, seed=1)))

  @parameterized.parameters(
    {"slope": (1.0, -1.0)}, {"noise_stddev": -1.0}, {"split": "all"}
  )
  def test_wrong_settings_are_named(self, **options):
    with self.assertRaisesRegex(ValueError, "Received"):
      tfmeta.data.sinusoid_or_line(
        **{"split": "train", "spec": SPEC, **options}
      )

  def test_ways_are_refused(self):
    with self.assertRaisesRegex(ValueError, "ways"):
      tfmeta.data.sinusoid_or_line("train", tfmeta.TaskSpec(ways=3))


if __name__ == "__main__":
  absltest.main()
