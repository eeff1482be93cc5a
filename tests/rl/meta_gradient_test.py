"""Tests the meta-gradient of policies by enumerating a decision process.

All numbers are float64, and all expectations exact: a batch holds each episode
once, weighted by its probability.
"""

from absl.testing import absltest
from absl.testing import parameterized
import enumeration
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.rl.episodes import Decisions
from tfmeta.rl.episodes import Example

RATE = 0.7


def make_learner(process, *, episodes=2, cls=tfmeta.rl.MAML, **options):
  """Returns a learner whose policy is a table of logits, all zero."""
  environment = tfmeta.environments.DecisionProcess(
    enumeration.STATES,
    enumeration.CHOICES,
    horizon=process.horizon,
    transitions=process.transitions,
    rewards=process.table,
    dtype="float64",
  )
  policy = keras.Sequential(
    [
      keras.Input((enumeration.STATES,), dtype="float64"),
      keras.layers.Dense(
        enumeration.CHOICES,
        use_bias=False,
        kernel_initializer="zeros",
        dtype="float64",
      ),
    ]
  )
  return cls(
    policy,
    environment,
    episodes=episodes,
    inner_learning_rate=RATE,
    discount=1.0,
    **options,
  )


def all_episodes(process, logits):
  """Returns each episode of the process once, acted by a policy."""
  return episodes_of(process, logits, range(len(process.rewards)))


def episodes_of(process, logits, chosen):
  chosen = list(chosen)
  observations = tf.constant(process.observations[chosen])
  return tfmeta.rl.Episodes(
    observations=observations,
    actions=tf.constant(process.choices[chosen], tf.int32),
    rewards=tf.constant(process.rewards[chosen]),
    mask=tf.ones([len(chosen), process.horizon], tf.float64),
    parameters=tf.stop_gradient(observations @ logits),
  )


class ExpectedUpdateTest(parameterized.TestCase):
  """The gradient of `R(theta + alpha * gradient of R)`."""

  def setUp(self):
    super().setUp()
    self.start = enumeration.random_logits(2)
    self.use(enumeration.Process(3, seed=10))

  def use(self, process):
    self.process = process
    decisions = self.learner().example(self.episodes()).decisions
    self.advantages = decisions.advantages.numpy()
    # The advantages are divided by their deviation, and the loss by the steps.
    value = process.expected_return(self.start)
    self.rate = RATE * float(decisions.value / value)
    self.exact_hessian = enumeration.hessian(
      process.expected_return, self.start
    )

  def learner(self, **options):
    learner = make_learner(self.process, **options)
    learner.policy.trainable_variables[0].assign(self.start)
    return learner

  def episodes(self):
    """Returns all episodes, weighted by their probabilities."""
    everything = all_episodes(self.process, self.start)
    chances = self.process.probabilities(self.start)[:, tf.newaxis]
    return everything._replace(mask=chances * everything.mask)

  def found(self, **options):
    """Returns the gradient of the exact return of the adapted policy."""
    learner = self.learner(**options)
    variable = learner.policy.trainable_variables[0]
    with tf.GradientTape() as tape:
      (weights,) = learner.adapt(self.episodes())
      value = self.process.expected_return(weights)
    return np.ravel(tape.gradient(value, variable.value)), weights

  def expected(self, hessian):
    """Returns the meta-gradient if the update had this Hessian."""
    slope = enumeration.gradient(self.process.expected_return, self.start)
    adapted = self.start + self.rate * slope.reshape(self.start.shape)
    after = enumeration.gradient(self.process.expected_return, adapted)
    return (np.eye(len(slope)) + self.rate * hessian) @ after

  def parts(self):
    """Returns the parts of the Hessian under the advantages of the learner."""
    # The rate has taken up the deviation by which the learner divides.
    scale = self.rate / RATE * self.process.horizon
    return self.process.parts_of_hessian(self.start, self.advantages / scale)

  def test_policies_adapt_by_the_exact_policy_gradient(self):
    slope = enumeration.gradient(self.process.expected_return, self.start)
    for kind in ("lvc", "dice", "log_likelihood"):
      _, weights = self.found(credit=kind)
      np.testing.assert_allclose(
        np.ravel(weights - self.start), self.rate * slope, atol=1e-12
      )

  def test_dice_is_exact(self):
    found, _ = self.found(credit="dice")
    exact = self.expected(self.exact_hessian)
    np.testing.assert_allclose(found, exact, atol=1e-10)

  def test_lvc_lacks_the_terms_between_steps(self):
    h1, h2, _ = self.parts()
    found, _ = self.found(credit="lvc")
    np.testing.assert_allclose(found, self.expected(h1 + h2), atol=1e-10)

  def test_log_likelihood_is_off_by_a_tenth(self):
    _, h2, _ = self.parts()
    found, _ = self.found(credit="log_likelihood")
    np.testing.assert_allclose(found, self.expected(h2), atol=1e-10)
    exact = self.expected(self.exact_hessian)
    self.assertGreater(relative_error(found, exact), 0.1)
    lvc, _ = self.found(credit="lvc")
    self.assertLess(relative_error(lvc, exact), 0.1)

  def test_lvc_is_exact_for_one_step(self):
    self.use(enumeration.Process(1, seed=10))
    found, _ = self.found(credit="lvc")
    exact = self.expected(self.exact_hessian)
    np.testing.assert_allclose(found, exact, atol=1e-10)

  def test_first_order_ignores_the_hessian(self):
    found, weights = self.found(cls=tfmeta.rl.FOMAML)
    after = enumeration.gradient(self.process.expected_return, weights)
    np.testing.assert_allclose(found, after, atol=1e-12)


def relative_error(found, exact):
  return np.linalg.norm(found - exact) / np.linalg.norm(exact)


class SampledUpdateTest(absltest.TestCase):
  """The gradient of the expected `R(theta - alpha * grad loss(episode))`."""

  def setUp(self):
    super().setUp()
    self.process = enumeration.Process(2, seed=12)
    self.start = enumeration.random_logits(3)

  def objective(self, learner):
    """Returns the exact objective, a function of the logits."""
    variable = learner.policy.trainable_variables[0]

    def fn(logits):
      chances = self.process.probabilities(logits)
      total = 0.0
      for index in range(len(self.process.rewards)):
        episodes = episodes_of(self.process, logits, [index])
        with tfmeta.core.substituted(learner, [variable], [logits]):
          (weights,) = learner.adapt(episodes)
        total += chances[index] * self.process.expected_return(weights)
      return total

    return fn

  def meta_gradient(self, learner):
    """Returns the exact expectation of the learner's own gradient."""
    variable = learner.policy.trainable_variables[0]
    variable.assign(self.start)
    chances = self.process.probabilities(self.start)
    total = 0.0
    for index in range(len(self.process.rewards)):
      episodes = episodes_of(self.process, self.start, [index])
      support = [learner.example(episodes)]
      query = self.exact_query(learner.adapt(episodes)[0])
      with tf.GradientTape() as tape:
        loss, _ = learner.task_loss(support, query)
      slope = tape.gradient(loss, variable.value)
      # The outer loss is a mean over the steps.
      total -= self.process.horizon * chances[index] * slope
    return np.ravel(total)

  def exact_query(self, logits):
    """Returns all episodes of a policy, weighted by their probabilities."""
    logits = tf.stop_gradient(logits)
    everything = all_episodes(self.process, logits)
    weights = self.process.probabilities(logits)[:, tf.newaxis]
    return Example(
      everything.observations,
      Decisions(
        everything.actions,
        everything.parameters,
        weights * everything.mask,
        tf.constant(self.process.ahead),
        self.process.expected_return(logits) / self.process.horizon,
      ),
    )

  def test_with_the_sampling_term_log_likelihood_is_exact(self):
    learner = make_learner(
      self.process, credit="log_likelihood", sampling_credit=True
    )
    exact = enumeration.gradient(self.objective(learner), self.start)
    found = self.meta_gradient(learner)
    np.testing.assert_allclose(found, exact, atol=1e-10)

  def test_without_the_term_it_is_off_by_a_tenth(self):
    learner = make_learner(self.process, credit="log_likelihood")
    exact = enumeration.gradient(self.objective(learner), self.start)
    found = self.meta_gradient(learner)
    self.assertGreater(relative_error(found, exact), 0.1)


if __name__ == "__main__":
  absltest.main()
