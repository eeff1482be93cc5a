"""A small decision process, of which all episodes are enumerated, in float64.

The policy is a table of logits. A batch of all episodes, each weighted by its
probability, turns every mean over episodes into the exact expectation.
"""

import itertools

import numpy as np
import tensorflow as tf

STATES, CHOICES = 2, 2


class Process:
  """A random decision process and all its episodes.

  Attributes:
    states: Integers `[B, H]`, the states in which the choices are made.
    choices: Integers `[B, H]`.
    rewards: `[B, H]`.
    transitions: `[STATES, CHOICES, STATES]`.
  """

  def __init__(self, horizon, *, seed=0):
    rng = np.random.default_rng(seed)
    shape = (STATES, CHOICES, STATES)
    self.horizon = horizon
    self.transitions = rng.dirichlet(np.ones(STATES), size=shape[:2])
    self.table = rng.normal(size=shape[:2])
    episodes = [
      (choices, (0, *following))
      for choices in itertools.product(range(CHOICES), repeat=horizon)
      for following in itertools.product(range(STATES), repeat=horizon - 1)
    ]
    self.choices = np.array([choices for choices, _ in episodes])
    self.states = np.array([states for _, states in episodes])
    self.rewards = self.table[self.states, self.choices]
    steps = self.transitions[
      self.states[:, :-1], self.choices[:, :-1], self.states[:, 1:]
    ]
    self._chance = steps.prod(axis=-1)

  @property
  def observations(self):
    """The one-hot states `[B, H, STATES]`."""
    return np.eye(STATES)[self.states]

  @property
  def ahead(self):
    """The undiscounted returns from each step on, `[B, H]`."""
    return self.rewards[:, ::-1].cumsum(axis=1)[:, ::-1]

  def log_probs(self, logits):
    """Returns the log-probabilities `[B, H]` of the choices."""
    table = tf.nn.log_softmax(logits)
    return tf.gather_nd(table, np.stack([self.states, self.choices], axis=-1))

  def probabilities(self, logits):
    """Returns the probabilities `[B]` of the episodes."""
    return self._chance * tf.exp(tf.reduce_sum(self.log_probs(logits), axis=1))

  def expected_return(self, logits):
    """Returns the exact undiscounted return of a policy, a scalar."""
    total = tf.reduce_sum(tf.constant(self.rewards), axis=1)
    return tf.reduce_sum(self.probabilities(logits) * total)

  def parts_of_hessian(self, logits, advantages):
    """Returns H1, H2 and H12 of the expected return, `[P, P]` each.

    Args:
      logits: `[STATES, CHOICES]`.
      advantages: `[B, H]`.
    """
    probabilities = self.probabilities(logits).numpy()
    with tf.GradientTape() as outer:
      outer.watch(logits)
      with tf.GradientTape() as inner:
        inner.watch(logits)
        table = tf.nn.log_softmax(logits)
      slopes = inner.jacobian(table, logits)
    size = STATES * CHOICES
    curves = outer.jacobian(slopes, logits).numpy()
    curves = curves.reshape(STATES, CHOICES, size, size)
    slopes = slopes.numpy().reshape(STATES, CHOICES, size)
    g = slopes[self.states, self.choices]
    earlier = np.cumsum(g, axis=1) - g
    weights = probabilities[:, None] * advantages
    return (
      np.einsum("bt,bti,btj->ij", weights, g, g),
      np.einsum("bt,btij->ij", weights, curves[self.states, self.choices]),
      np.einsum("bt,bti,btj->ij", weights, earlier, g),
    )


def gradient(fn, x):
  """Returns the gradient of a scalar function at `x`, as a flat array."""
  with tf.GradientTape() as tape:
    tape.watch(x)
    value = fn(x)
  return np.ravel(tape.gradient(value, x))


def hessian(fn, x):
  """Returns the Hessian of a scalar function at `x`, `[P, P]`."""
  with tf.GradientTape() as outer:
    outer.watch(x)
    with tf.GradientTape() as inner:
      inner.watch(x)
      value = fn(x)
    slope = inner.gradient(value, x)
  found = outer.jacobian(slope, x).numpy()
  size = int(np.sqrt(found.size))
  return found.reshape(size, size)


def random_logits(seed=0):
  """Returns logits `[STATES, CHOICES]`."""
  rng = np.random.default_rng(seed)
  return tf.constant(rng.normal(size=(STATES, CHOICES)))
