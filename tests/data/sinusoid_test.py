import math

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta import data

SPEC = data.TaskSpec(shots=10, query_shots=15)


def _take(count, split="train", spec=SPEC, **kwargs):
  """Returns x and y, float64 `[tasks, S + Q]`, support first."""
  tasks = data.sinusoid(split, spec, **kwargs).batch(count)
  inputs, query_y = next(iter(tasks))
  x = np.concatenate([inputs["support_x"], inputs["query_x"]], axis=1)
  y = np.concatenate([inputs["support_y"], query_y], axis=1)
  return x[..., 0].astype(float), y[..., 0].astype(float)


def _fit(x, y):
  """Returns amplitude, phase and residual of the best sinusoid, by task."""
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


class SinusoidTest(parameterized.TestCase):
  def test_tasks_are_sinusoids_in_the_ranges_of_the_paper(self):
    x, y = _take(500)
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

  def test_ranges_may_be_set(self):
    x, y = _take(
      3, amplitude=(2, 2), phase=(1, 1), frequency=(0.5, 0.5), x_range=(0, 1)
    )
    np.testing.assert_allclose(y, 2 * np.sin(0.5 * x - 1), atol=1e-5)
    self.assertBetween(x.min(), 0, x.max())
    self.assertLess(x.max(), 1)

  @parameterized.parameters((False, 0.3), (True, 1.2))
  def test_noise_has_its_deviation(self, relative_noise, expected):
    _, _, residual = _fit(
      *_take(
        300,
        amplitude=(4, 4),
        noise_stddev=0.3,
        relative_noise=relative_noise,
      )
    )
    # The fit takes 2 of 25 degrees of freedom.
    stddev = math.sqrt((residual**2).sum() / (300 * 23))
    self.assertAlmostEqual(stddev, expected, delta=0.05 * expected)

  def test_query_targets_may_be_clean(self):
    clean, noisy = (_take(4, noise_stddev=s)[1] for s in (0.0, 0.5))
    half = _take(4, noise_stddev=0.5, noisy_query=False)[1]
    np.testing.assert_array_equal(half[:, :10], noisy[:, :10])
    np.testing.assert_array_equal(half[:, 10:], clean[:, 10:])
    self.assertTrue((half[:, :10] != clean[:, :10]).all())

  def test_a_finite_number_of_tasks(self):
    x, y = _take(400, num_tasks=20)
    amplitudes = _fit(x, y)[0]
    self.assertLen(np.unique(np.round(amplitudes, 3)), 20)
    self.assertLen(np.unique(x[:, 0]), 400)
    later = _fit(*_take(50, num_tasks=20, start=1000))[0]
    others = _fit(*_take(50, num_tasks=20, split="test"))[0]
    self.assertLess(_distance(later, amplitudes).max(), 1e-4)
    self.assertGreater(np.median(_distance(others, amplitudes)), 1e-2)

  def test_splits_and_seeds_have_nothing_in_common(self):
    drawn = [
      _take(5, split=split, seed=seed)[0]
      for split in ("train", "validation", "test")
      for seed in (0, 1)
    ]
    self.assertLen(np.unique(drawn), np.size(drawn))
    np.testing.assert_array_equal(drawn[0], _take(5)[0])

  def test_start_equals_skip(self):
    np.testing.assert_array_equal(_take(9)[1][4:], _take(5, start=4)[1])

  def test_shapes_are_static(self):
    inputs, query_y = data.sinusoid("train", SPEC).element_spec
    self.assertEqual(inputs["support_x"], tf.TensorSpec([10, 1], tf.float32))
    self.assertEqual(query_y, tf.TensorSpec([15, 1], tf.float32))

  @parameterized.parameters(
    (dict(spec=data.TaskSpec(ways=5)), "`ways` must be None"),
    (dict(split="dev"), "`split` must be one of 'train', 'validation', 'test'"),
    (dict(noise_stddev=-1.0), "`noise_stddev`.*=-1.0"),
    (dict(amplitude=(5, 1)), r"`amplitude`.*=\(5, 1\)"),
    (dict(x_range=(0, math.inf)), "`x_range`.*finite"),
    (dict(phase=(1,)), "`phase` must be two finite numbers"),
    (dict(num_tasks=0), "`num_tasks` must be at least 1"),
    (dict(seed=-3), "`seed`.*seed=-3"),
  )
  def test_bad_settings_are_refused(self, settings, message):
    with self.assertRaisesRegex(ValueError, message):
      _take(1, **settings)


if __name__ == "__main__":
  absltest.main()
