import functools
import math

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta import data

SPEC = data.TaskSpec(shots=10, query_shots=15)
MIXTURE_SPEC = data.TaskSpec(shots=5, query_shots=40)


def _take(count, split="train", spec=SPEC, **kwargs):
  """Returns x and y, float64 `[tasks, S + Q]`, support first."""
  tasks = data.sinusoid(split, spec, **kwargs).batch(count)
  inputs, query_y = next(iter(tasks))
  x = np.concatenate([inputs["support_x"], inputs["query_x"]], axis=1)
  y = np.concatenate([inputs["support_y"], query_y], axis=1)
  return x[..., 0].astype(float), y[..., 0].astype(float)


@functools.cache
def _default_tasks():
  """Returns x and y of 500 tasks with default arguments."""
  return _take(500)


def _fit(x, y):
  """Returns amplitude, phase and residual of the best fit to each task."""
  amplitudes, phases, residuals = [], [], []
  for task_x, task_y in zip(x, y, strict=True):
    basis = np.stack([np.sin(task_x), -np.cos(task_x)], axis=1)
    (cosine, sine), *_ = np.linalg.lstsq(basis, task_y, rcond=None)
    amplitudes.append(math.hypot(cosine, sine))
    phases.append(math.atan2(sine, cosine))
    residuals.append(task_y - basis @ [cosine, sine])
  return np.array(amplitudes), np.array(phases), np.array(residuals)


def _distance(values, others):
  """Returns how far each value lies from the nearest of the others."""
  return np.abs(values[:, np.newaxis] - others).min(axis=1)


def _take_mixture(count, **options):
  """Yields x and y of all points of each task, sorted by x."""
  tasks = data.sinusoid_or_line("train", MIXTURE_SPEC, **options).take(count)
  for inputs, query_y in tasks.as_numpy_iterator():
    x = np.concatenate([inputs["support_x"], inputs["query_x"]])[:, 0]
    y = np.concatenate([inputs["support_y"], query_y])[:, 0]
    order = np.argsort(x)
    yield x[order], y[order]


def _fit_line(x, y):
  """Returns the root mean squared error of the best line, and the line."""
  line = np.polyfit(x, y, 1)
  return np.sqrt(np.mean((np.polyval(line, x) - y) ** 2)), line


def _fit_sinusoid(x, y):
  """Returns the root mean squared error of the best sinusoid, and its factors.

  Its frequency is 1; the factors are those of sin(x) and cos(x).
  """
  basis = np.stack([np.sin(x), np.cos(x)], axis=1)
  factors, *_ = np.linalg.lstsq(basis, y, rcond=None)
  return np.sqrt(np.mean((basis @ factors - y) ** 2)), factors


class SinusoidTest(parameterized.TestCase):
  def test_defaults_are_the_ranges_of_the_paper(self):
    x, y = _default_tasks()
    amplitude, phase, residual = _fit(x, y)
    self.assertLess(np.abs(residual).max(), 1e-5)
    for values, low, high in (
      (x, -5, 5),
      (amplitude, 0.1, 5),
      (phase, 0, math.pi),
    ):
      self.assertBetween(values.min(), low - 1e-3, low + 0.1)
      self.assertBetween(values.max(), high - 0.1, high + 1e-3)
      self.assertAlmostEqual(values.mean(), (low + high) / 2, delta=0.2)

  def test_ranges_can_be_set(self):
    x, y = _take(
      3, amplitude=(2, 2), phase=(1, 1), frequency=(0.5, 0.5), x_range=(0, 1)
    )
    np.testing.assert_allclose(y, 2 * np.sin(0.5 * x - 1), atol=1e-5)
    self.assertBetween(x.min(), 0, x.max())
    self.assertLess(x.max(), 1)

  @parameterized.parameters((False, 0.3), (True, 1.2))
  def test_noise_has_its_standard_deviation(self, relative_noise, expected):
    _, _, residual = _fit(
      *_take(
        300,
        amplitude=(4, 4),
        noise_stddev=0.3,
        relative_noise=relative_noise,
      )
    )
    # The fit uses 2 of 25 degrees of freedom.
    stddev = math.sqrt((residual**2).sum() / (300 * 23))
    self.assertAlmostEqual(stddev, expected, delta=0.05 * expected)

  def test_query_targets_can_be_free_of_noise(self):
    clean, noisy = _default_tasks()[1][:4], _take(4, noise_stddev=0.5)[1]
    half = _take(4, noise_stddev=0.5, noisy_query=False)[1]
    np.testing.assert_array_equal(half[:, :10], noisy[:, :10])
    np.testing.assert_array_equal(half[:, 10:], clean[:, 10:])
    self.assertTrue((half[:, :10] != clean[:, :10]).all())

  def test_the_number_of_sinusoids_can_be_limited(self):
    x, y = _take(400, num_tasks=20)
    amplitudes = _fit(x, y)[0]
    self.assertLen(np.unique(np.round(amplitudes, 3)), 20)
    self.assertLen(np.unique(x[:, 0]), 400)
    later = _fit(*_take(50, num_tasks=20, start=1000))[0]
    others = _fit(*_take(50, num_tasks=20, split="test"))[0]
    self.assertLess(_distance(later, amplitudes).max(), 1e-4)
    self.assertGreater(np.median(_distance(others, amplitudes)), 1e-2)

  def test_tasks_of_a_block_are_independent(self):
    x, y = _default_tasks()
    residuals = _fit(*_take(64, noise_stddev=0.5))[2]
    for values in (x[:64], y[:64], residuals):
      # The largest of 2,016 correlations of 25 numbers: 0.8 by chance once in
      # 300 samples.
      correlations = np.corrcoef(values) - np.eye(64)
      self.assertLess(np.abs(correlations).max(), 0.9)

  def test_splits_and_seeds_share_no_input(self):
    sampled = [
      _take(5, split=split, seed=seed)[0]
      for split in ("train", "validation", "test")
      for seed in (0, 1)
    ]
    # Of 750 numbers, two are equal by chance in one of 30 samples.
    self.assertGreater(len(np.unique(sampled)), np.size(sampled) - 5)
    np.testing.assert_array_equal(sampled[0], _default_tasks()[0][:5])

  @parameterized.parameters(4, 64, 127)
  def test_start_equals_skip(self, start):
    np.testing.assert_array_equal(
      _default_tasks()[1][start : start + 5], _take(5, start=start)[1]
    )

  def test_shapes_are_static(self):
    inputs, query_y = data.sinusoid("train", SPEC).element_spec
    self.assertEqual(inputs["support_x"], tf.TensorSpec([10, 1], tf.float32))
    self.assertEqual(query_y, tf.TensorSpec([15, 1], tf.float32))

  @parameterized.parameters(
    (dict(spec=data.TaskSpec(ways=5)), "`ways` must be None"),
    (dict(split="dev"), "`split` must be one of 'train', 'validation', 'test'"),
    (dict(noise_stddev=-1.0), "`noise_stddev`.*=-1.0"),
    (
      dict(amplitude=(5, 1)),
      r"`amplitude` must start with its lower.*=\(5, 1\)",
    ),
    (dict(x_range=(0, math.inf)), "`x_range`.*finite"),
    (dict(phase=(1,)), "`phase` must be two finite numbers"),
    (dict(num_tasks=0), "`num_tasks` must be an integer from 1 to"),
    (
      dict(num_tasks=2**31),
      "`num_tasks` must be an integer from 1 to 100",
    ),
    (dict(seed=-3), "`seed`.*seed=-3"),
  )
  def test_wrong_arguments_are_rejected(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      _take(1, **arguments)


class SinusoidOrLineTest(parameterized.TestCase):
  def test_half_are_lines_and_half_are_sinusoids_in_their_ranges(self):
    lines = 0
    for x, y in _take_mixture(200, noise_stddev=0.0):
      self.assertTrue((np.abs(x) <= 5).all())
      line_error, line = _fit_line(x, y)
      sine_error, factors = _fit_sinusoid(x, y)
      self.assertLess(min(line_error, sine_error), 1e-4)
      if line_error < sine_error:
        lines += 1
        self.assertTrue((np.abs(line) <= 3).all())
      else:
        self.assertBetween(np.hypot(*factors), 0.1, 5.0)
    # 200 tosses of a coin are outside of 75 to 125 once in two thousand.
    self.assertBetween(lines, 75, 125)

  def test_phases_of_sinusoids_are_between_0_and_pi(self):
    for x, y in _take_mixture(60, noise_stddev=0.0):
      sine_error, (_, by_cosine) = _fit_sinusoid(x, y)
      if sine_error < 1e-4:
        # a sin(x - p) = a cos(p) sin(x) - a sin(p) cos(x), p in [0, pi].
        self.assertLessEqual(by_cosine, 1e-4)

  def test_targets_have_noise(self):
    residuals = []
    for x, y in _take_mixture(200):
      line_error, _ = _fit_line(x, y)
      sine_error, _ = _fit_sinusoid(x, y)
      residuals.append(min(line_error, sine_error))
    # The fit uses 2 of 45 degrees of freedom.
    expected = 0.3 * np.sqrt(43 / 45)
    self.assertAlmostEqual(np.mean(residuals), expected, delta=0.01)

  def test_a_task_is_a_function_of_seed_and_index(self):
    def key(tasks):
      return [y.tolist() for _, y in tasks]

    self.assertEqual(key(_take_mixture(4))[2:], key(_take_mixture(2, start=2)))
    self.assertNotEqual(key(_take_mixture(2)), key(_take_mixture(2, seed=1)))

  @parameterized.parameters(
    {"slope": (1.0, -1.0)}, {"noise_stddev": -1.0}, {"split": "all"}
  )
  def test_wrong_arguments_are_rejected(self, **options):
    with self.assertRaisesRegex(ValueError, "Received"):
      data.sinusoid_or_line(
        **{"split": "train", "spec": MIXTURE_SPEC, **options}
      )

  def test_ways_are_rejected(self):
    with self.assertRaisesRegex(ValueError, "ways"):
      data.sinusoid_or_line("train", data.TaskSpec(ways=3))


if __name__ == "__main__":
  absltest.main()
