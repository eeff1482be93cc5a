"""Tests returns and advantages against loops over the steps of an episode."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.core import returns

B, H = 5, 7
DISCOUNT, DECAY = 0.9, 0.8


def episodes(seed=0):
  """Returns observations `[B, H, 2]`, rewards and a ragged mask `[B, H]`."""
  rng = np.random.default_rng(seed)
  lengths = np.array([7, 1, 4, 6, 2])
  mask = (np.arange(H) < lengths[:, None]).astype(np.float64)
  return rng.normal(size=(B, H, 2)), rng.normal(size=(B, H)), mask


def looped_sums(x, discount):
  sums = np.zeros_like(x)
  for t in reversed(range(x.shape[-1])):
    later = sums[..., t + 1] if t + 1 < x.shape[-1] else 0.0
    sums[..., t] = x[..., t] + discount * later
  return sums


def looped_baseline(observations, rewards, mask):
  """Returns the baseline by ridge regression on a list of all steps."""
  discounted = looped_sums(rewards * mask, DISCOUNT)
  rows, targets, places = [], [], []
  for b, t in zip(*np.nonzero(mask), strict=True):
    o = np.clip(observations[b, t], -10, 10)
    time = t / 100
    rows.append([*o, *o**2, 1, time, time**2, time**3])
    targets.append(discounted[b, t])
    places.append((b, t))
  x, y = np.array(rows), np.array(targets)
  w = np.linalg.solve(x.T @ x + 1e-5 * np.eye(x.shape[1]), x.T @ y)
  values = np.zeros_like(rewards)
  for place, value in zip(places, x @ w, strict=True):
    values[place] = value
  return values


def looped_advantages(observations, rewards, mask, decay):
  values = looped_baseline(observations, rewards, mask)
  raw = np.zeros_like(rewards)
  for b in range(len(rewards)):
    length = int(mask[b].sum())
    later = 0.0
    for t in reversed(range(length)):
      following = values[b, t + 1] if t + 1 < length else 0.0
      delta = rewards[b, t] + DISCOUNT * following - values[b, t]
      later = delta + DISCOUNT * decay * later
      raw[b, t] = later
  steps = raw[mask > 0]
  return np.where(mask > 0, (raw - steps.mean()) / (steps.std() + 1e-8), 0.0)


def found(observations, rewards, mask, decay=DECAY, discount=DISCOUNT):
  return returns.advantages(
    *(tf.constant(t) for t in (observations, rewards, mask)),
    discount=discount,
    gae_decay=decay,
  )


class ReturnsTest(parameterized.TestCase):
  def test_discounted_sums_look_ahead(self):
    x = np.random.default_rng(0).normal(size=(2, 3, H))
    np.testing.assert_allclose(
      returns.discounted_sums(tf.constant(x), DISCOUNT),
      looped_sums(x, DISCOUNT),
    )

  @parameterized.parameters(0.0, DECAY, 1.0)
  def test_advantages_equal_a_loop_over_ragged_episodes(self, decay):
    observations, rewards, mask = episodes()
    np.testing.assert_allclose(
      found(observations, rewards, mask, decay).advantages,
      looped_advantages(observations, rewards, mask, decay),
      rtol=1e-7,
      atol=1e-9,
    )

  def test_large_observations_are_clipped(self):
    observations, rewards, mask = episodes()
    np.testing.assert_allclose(
      found(20 * observations, rewards, mask).advantages,
      looped_advantages(20 * observations, rewards, mask, DECAY),
      rtol=1e-6,
      atol=1e-8,
    )

  def test_what_follows_an_episode_changes_nothing(self):
    # A product with the mask would turn infinite rewards into NaN.
    observations, rewards, mask = episodes()
    clean = found(observations, rewards, mask)
    for garbage in (1e6, np.inf, np.nan):
      dirty = found(
        np.where(mask[..., None] > 0, observations, garbage),
        np.where(mask > 0, rewards, garbage),
        mask,
      )
      for a, b in zip(clean, dirty, strict=True):
        np.testing.assert_array_equal(a, b)

  def test_advantages_have_mean_0_and_deviation_1_over_the_steps(self):
    observations, rewards, mask = episodes()
    steps = found(observations, rewards, mask).advantages.numpy()[mask > 0]
    np.testing.assert_allclose(steps.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(steps.std(), 1, rtol=1e-6)

  def test_results_are_constants(self):
    observations, rewards, mask = map(tf.constant, episodes())
    with tf.GradientTape() as tape:
      tape.watch([observations, rewards])
      result = returns.advantages(
        observations, rewards, mask, discount=DISCOUNT, gae_decay=DECAY
      )
      total = tf.reduce_sum(result.advantages**2) + result.value
    self.assertEqual(tape.gradient(total, [observations, rewards]), [None] * 2)

  def test_value_has_the_units_of_the_surrogate(self):
    observations, rewards, mask = episodes()
    result = found(observations, rewards, mask, decay=1.0)
    values = looped_baseline(observations, rewards, mask)
    sums = looped_sums(rewards * mask, DISCOUNT)
    deviation = (sums - values)[mask > 0].std() + 1e-8
    expected = sums[:, 0].mean() * B / (mask.sum() * deviation)
    np.testing.assert_allclose(result.value, expected, rtol=1e-7)

  def test_tasks_do_not_share_a_baseline(self):
    first, second, other = episodes(0), episodes(1), episodes(2)

    def of_batch(*tasks):
      stacked = [tf.constant(np.stack(t)) for t in zip(*tasks, strict=True)]
      return tf.vectorized_map(
        lambda task: (
          returns.advantages(
            *task, discount=DISCOUNT, gae_decay=DECAY
          ).advantages
        ),
        tuple(stacked),
        fallback_to_while_loop=False,
      )

    np.testing.assert_array_equal(
      of_batch(first, second)[0], of_batch(first, other)[0]
    )

  @parameterized.parameters(tf.float32, tf.float64)
  def test_constant_observations_give_finite_advantages(self, dtype):
    rng = np.random.default_rng(0)
    result = returns.advantages(
      tf.ones([20, 100, 3], dtype),
      tf.constant(rng.normal(size=(20, 100)), dtype),
      tf.ones([20, 100], dtype),
      discount=0.99,
      gae_decay=1.0,
    )
    self.assertTrue(np.isfinite(result.advantages).all())

  def test_equal_rewards_give_advantages_of_0(self):
    # All returns are 0 then, and so is the deviation.
    observations, rewards, mask = episodes()
    result = found(observations, 0 * rewards, mask)
    np.testing.assert_array_equal(result.advantages, np.zeros([B, H]))


class BaselineTest(absltest.TestCase):
  def test_fits_returns_that_are_linear_in_the_features(self):
    observations, _, mask = episodes()
    time = np.arange(H) / 100
    linear = observations @ [2.0, -1.0] + 3 * observations[..., 0] ** 2
    exact = (linear + 0.5 * time + 4 * time**3 + 1) * mask
    fitted = returns.linear_baseline(
      *map(tf.constant, (observations, exact, mask))
    )
    np.testing.assert_allclose(
      fitted.numpy()[mask > 0], exact[mask > 0], atol=1e-3
    )

  def test_time_restarts_in_each_episode(self):
    # Time that runs on over the episodes would leave only the last one fitted.
    observations = tf.zeros([3, H, 1], tf.float64)
    falling = tf.constant(np.tile(np.arange(H)[::-1] / 1.0, (3, 1)))
    fitted = returns.linear_baseline(
      observations, falling, tf.ones([3, H], tf.float64)
    )
    np.testing.assert_allclose(fitted[0], fitted[2])
    np.testing.assert_allclose(fitted, falling, atol=0.2)

  def test_float32_resolves_the_ridge_beside_many_steps(self):
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(20, 100, 2))
    sums = rng.normal(size=(20, 100))

    def fit(dtype):
      return returns.linear_baseline(
        tf.constant(observations, dtype),
        tf.constant(sums, dtype),
        tf.ones([20, 100], dtype),
      )

    np.testing.assert_allclose(fit(tf.float32), fit(tf.float64), atol=1e-5)


if __name__ == "__main__":
  absltest.main()
