"""Tests the surrogates by enumerating all episodes of a decision process."""

from absl.testing import absltest
from absl.testing import parameterized
import enumeration
import numpy as np
import tensorflow as tf

from tfmeta.core import credit

LOGITS = enumeration.random_logits()


def expected_surrogate(kind, process, advantages, decay=1.0):
  """Returns the exact expectation of a surrogate, a function of the logits.

  Episodes are weighted by their probability under `LOGITS`, at which the
  derivatives are taken.
  """
  probabilities = process.probabilities(LOGITS)
  mask = probabilities[:, tf.newaxis] * np.ones_like(process.rewards)
  acted = process.log_probs(LOGITS)

  def surrogate(logits):
    # The loss is a mean over steps, and an expected return sums over them.
    return -process.horizon * credit.surrogate_loss(
      kind,
      process.log_probs(logits),
      acted,
      tf.constant(advantages),
      mask,
      credit_decay=decay,
    )

  return surrogate


def random_baseline(process, seed=5):
  """Returns a baseline of state and time, `[B, H]`."""
  rng = np.random.default_rng(seed)
  table = rng.normal(size=(enumeration.STATES, process.horizon))
  return table[process.states, np.arange(process.horizon)]


class SurrogateTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 2)
  def test_expected_hessians(self, seed):
    process = enumeration.Process(3, seed=seed)
    h1, h2, h12 = process.parts_of_hessian(LOGITS, process.ahead)
    exact = enumeration.hessian(process.expected_return, LOGITS)
    np.testing.assert_allclose(h1 + h2 + h12 + h12.T, exact, atol=1e-12)
    for kind, expected in (
      ("dice", exact),
      ("lvc", h1 + h2),
      ("log_likelihood", h2),
    ):
      found = enumeration.hessian(
        expected_surrogate(kind, process, process.ahead), LOGITS
      )
      np.testing.assert_allclose(found, expected, atol=1e-10, err_msg=kind)
    # The three surrogates can be told apart on this process.
    self.assertGreater(np.abs(h12).max(), 1e-3)

  def test_lvc_is_exact_for_one_step(self):
    process = enumeration.Process(1)
    exact = enumeration.hessian(process.expected_return, LOGITS)
    found = enumeration.hessian(
      expected_surrogate("lvc", process, process.ahead), LOGITS
    )
    np.testing.assert_allclose(found, exact, atol=1e-12)

  def test_dice_without_memory_has_the_hessian_of_lvc(self):
    process = enumeration.Process(3)
    found = [
      enumeration.hessian(
        expected_surrogate(kind, process, process.ahead, decay=0.0), LOGITS
      )
      for kind in ("dice", "lvc")
    ]
    np.testing.assert_allclose(*found, atol=1e-12)

  def test_a_baseline_changes_the_hessian_of_log_likelihood_alone(self):
    process = enumeration.Process(3)
    shifted = process.ahead + random_baseline(process)
    changes = {
      kind: np.abs(
        enumeration.hessian(expected_surrogate(kind, process, shifted), LOGITS)
        - enumeration.hessian(
          expected_surrogate(kind, process, process.ahead), LOGITS
        )
      ).max()
      for kind in credit.SURROGATES
    }
    self.assertLess(changes["lvc"], 1e-12)
    self.assertLess(changes["dice"], 1e-12)
    self.assertGreater(changes["log_likelihood"], 0.1)

  def test_first_derivatives_are_equal_on_any_episodes(self):
    process = enumeration.Process(4)
    rng = np.random.default_rng(0)
    few = rng.choice(len(process.rewards), 5)
    mask = (np.arange(4) < rng.integers(1, 5, size=(5, 1))).astype("float64")
    merits = tf.constant(rng.normal(size=(5, 4)))
    acted = tf.gather(process.log_probs(LOGITS), few)

    def loss(kind, logits):
      new = tf.gather(process.log_probs(logits), few)
      return credit.surrogate_loss(kind, new, acted, merits, tf.constant(mask))

    first, *others = (
      enumeration.gradient(lambda x, kind=kind: loss(kind, x), LOGITS)
      for kind in credit.SURROGATES
    )
    for other in others:
      np.testing.assert_allclose(first, other, atol=1e-12)
    self.assertGreater(np.abs(first).max(), 0.01)

  @parameterized.product(
    kind=credit.SURROGATES, tail=(-40.0, 1e3, np.inf, np.nan)
  )
  def test_what_follows_an_episode_changes_nothing(self, kind, tail):
    # Masking the ratio after the exponential gives a slope of 0 * inf = NaN.
    def loss(new, acted, merits, mask):
      return credit.surrogate_loss(kind, new, acted, merits, mask)

    for a, b in zip(with_tail(loss, 0.0), with_tail(loss, tail), strict=True):
      np.testing.assert_array_equal(a, b)


def with_tail(loss, tail):
  """Returns a loss and its gradient, with `tail` behind the end."""
  new = tf.constant([[-1.0, -2.0, tail]], tf.float64)
  acted = tf.constant([[-1.1, -1.0, 0.0]], tf.float64)
  merits = tf.constant([[1.0, -2.0, 0.0]], tf.float64)
  with tf.GradientTape() as tape:
    tape.watch(new)
    value = loss(new, acted, merits, tf.constant([[1.0, 1.0, 0.0]], tf.float64))
  return value, tape.gradient(value, new)


class ClippedRatioTest(parameterized.TestCase):
  def test_clipping_is_one_sided(self):
    # Both ratios are above 1 + 0.2; only the gain of the first is cut.
    new = tf.constant([[0.5, 0.5]])
    with tf.GradientTape() as tape:
      tape.watch(new)
      loss = credit.clipped_ratio_loss(
        new, tf.zeros([1, 2]), tf.constant([[1.0, -1.0]]), tf.ones([1, 2]), 0.2
      )
    slope = tape.gradient(loss, new)[0]
    self.assertEqual(slope[0], 0)
    np.testing.assert_allclose(slope[1], np.exp(0.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(loss, (np.exp(0.5) - 1.2) / 2, rtol=1e-6)

  @parameterized.product(clip_ratio=(None, 0.2), tail=(1e3, np.inf, np.nan))
  def test_what_follows_an_episode_changes_nothing(self, clip_ratio, tail):
    def loss(*args):
      return credit.clipped_ratio_loss(*args, clip_ratio)

    for a, b in zip(with_tail(loss, 0.0), with_tail(loss, tail), strict=True):
      np.testing.assert_array_equal(a, b)

  def test_without_a_limit_it_is_lvc(self):
    rng = np.random.default_rng(0)
    new, acted, merits = (tf.constant(rng.normal(size=(3, 4))) for _ in "abc")
    mask = tf.ones([3, 4], tf.float64)
    np.testing.assert_allclose(
      credit.clipped_ratio_loss(new, acted, merits, mask),
      credit.surrogate_loss("lvc", new, acted, merits, mask),
    )


if __name__ == "__main__":
  absltest.main()
