"""Compares MAML++ with an inner loop that is written out by hand.

All slots, rates and statistics have different values, so that a step that uses
the values of another step gives other numbers.
"""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

STEPS, EPOCHS = 3, 4
PER_STEP = ("per_step_transductive", "per_step_support", "per_step_running")
MOMENTUM, EPSILON = 0.9, 1e-3


def make_learner(adapt_normalization, normalization="per_step_running"):
  """Returns a learner of a small normalized network, with random variables."""
  keras.utils.set_random_seed(0)
  random = np.random.default_rng(0)
  model = keras.Sequential(
    [
      keras.Input((4,), dtype="float64"),
      keras.layers.Dense(5, dtype="float64"),
      tfmeta.layers.BatchNormalization(
        momentum=MOMENTUM, epsilon=EPSILON, dtype="float64"
      ),
      keras.layers.Activation("tanh", dtype="float64"),
      keras.layers.Dense(3, dtype="float64"),
    ]
  )
  learner = tfmeta.MAMLPlusPlus(
    model,
    inner_steps=STEPS,
    multi_step_epochs=EPOCHS,
    steps_per_epoch=1,
    normalization=normalization,
    adapt_normalization=adapt_normalization,
    # Run eagerly, vectorized tasks would build a graph in each step.
    task_map="unroll",
    dtype="float64",
  )
  for variable in learner.variables:
    value = random.normal(size=variable.shape)
    if "variance" in variable.path or "rates" in variable.path:
      value = np.abs(value) + 0.3
    variable.assign(value)
  return learner


def make_task():
  x = np.random.default_rng(1).normal(size=(2, 6, 4))
  return x[0], np.array([0, 1, 2] * 2), x[1]


def slots_of(learner, kind, index, variable):
  """Returns the values of all slots, those in the model last."""
  earlier = np.array(getattr(learner.slots, kind)[index])
  return np.concatenate([earlier, np.array(variable)[None]])


class Reference:
  """The computation of a learner, step by step."""

  def __init__(self, learner):
    kernel, bias, scale, shift, head, head_bias = map(
      np.array, learner.model.trainable_variables
    )
    mean, variance = learner.model.non_trainable_variables
    self.dense = [kernel, bias, head, head_bias]
    self.scales = slots_of(learner, "affine", 0, scale)
    self.shifts = slots_of(learner, "affine", 1, shift)
    self.moving = [np.array(mean), np.array(variance)]
    self.normalization = learner.normalization
    rates = [np.array(rate) for rate in learner.learned_rates.rates]
    self.adapts = learner.adapt_normalization
    dense = (0, 1, 4, 5) if self.adapts else (0, 1, 2, 3)
    self.rates = [rates[place] for place in dense]
    self.affine_rates = rates[2:4] if self.adapts else None

  def forward(self, dense, scale, shift, x, statistics=None):
    hidden = x @ dense[0] + dense[1]
    if statistics is None:
      mean = tf.reduce_mean(hidden, axis=0)
      statistics = mean, tf.reduce_mean((hidden - mean) ** 2, axis=0)
    hidden = (hidden - statistics[0]) / tf.sqrt(statistics[1] + EPSILON)
    return tf.tanh(hidden * scale + shift) @ dense[2] + dense[3], statistics

  def run(self, support_x, y, query_x, *, training):
    """Returns query logits and losses after each step.

    In training it also updates the moving statistics.
    """
    dense = [tf.constant(w) for w in self.dense]
    logits, losses = [], []
    for j in range(STEPS):
      scale, shift = tf.constant(self.scales[j]), tf.constant(self.shifts[j])
      with tf.GradientTape() as tape:
        tape.watch([*dense, scale, shift])
        outputs, _ = self.forward(dense, scale, shift, support_x)
        loss = cross_entropy(y, outputs)
      *slopes, d_scale, d_shift = tape.gradient(loss, [*dense, scale, shift])
      pairs = zip(dense, self.rates, slopes, strict=True)
      dense = [w - rate[j] * g for w, rate, g in pairs]
      if self.adapts:
        scale -= self.affine_rates[0][j] * d_scale
        shift -= self.affine_rates[1][j] * d_shift
      fixed = None
      if self.normalization == "per_step_support":
        _, fixed = self.forward(dense, scale, shift, support_x)
      elif self.normalization == "per_step_running" and not training:
        fixed = self.moving
      outputs, used = self.forward(dense, scale, shift, query_x, fixed)
      logits.append(outputs)
      losses.append(float(cross_entropy(y, outputs)))
    if training and self.normalization == "per_step_running":
      self.moving = [
        old + (1 - MOMENTUM) * (new - old)
        for old, new in zip(self.moving, used, strict=True)
      ]
    return logits, losses


def cross_entropy(y, logits):
  logs = tf.nn.log_softmax(logits)
  return -tf.reduce_mean(tf.gather(logs, y, batch_dims=1))


class ReferenceTest(parameterized.TestCase):
  @parameterized.product(
    adapt_normalization=(False, True), normalization=PER_STEP
  )
  def test_evaluation(self, adapt_normalization, normalization):
    learner = make_learner(adapt_normalization, normalization)
    support_x, y, query_x = make_task()
    path = learner.adaptation_path(tf.constant(support_x), tf.constant(y))
    expected, _ = Reference(learner).run(support_x, y, query_x, training=False)
    for weights, logits in zip(path[1:], expected, strict=True):
      found = learner.predict_with(weights, tf.constant(query_x))
      np.testing.assert_allclose(found, logits, rtol=1e-10, atol=1e-12)

  @parameterized.product(
    adapt_normalization=(False, True), epoch=(0, 3), normalization=PER_STEP
  )
  def test_training_with_shares(
    self, adapt_normalization, epoch, normalization
  ):
    learner = make_learner(adapt_normalization, normalization)
    reference = Reference(learner)
    support_x, y, query_x = make_task()
    _, losses = reference.run(support_x, y, query_x, training=True)
    # This is the formula of the authors' code, for 3 steps and 4 epochs.
    early = max(1 / STEPS - epoch / (STEPS * EPOCHS), 0.03 / STEPS)
    expected = np.dot([early, early, 1 - 2 * early], losses)
    found = self.train_one_step(learner, epoch)
    # The metric is in float32.
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for variable, value in zip(
      learner.model.non_trainable_variables, reference.moving, strict=True
    ):
      np.testing.assert_allclose(variable, value, rtol=1e-10)

  def test_training_with_the_last_loss_alone(self):
    learner = make_learner(False)
    _, losses = Reference(learner).run(*make_task(), training=True)
    found = self.train_one_step(learner, EPOCHS)
    np.testing.assert_allclose(found, losses[-1], rtol=1e-6)

  def train_one_step(self, learner, epoch):
    """Returns the loss of a training step with a learning rate of zero."""
    learner.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    learner.optimizer.iterations.assign(epoch)
    support_x, y, query_x = (tf.constant(t)[None] for t in make_task())
    inputs = {"support_x": support_x, "support_y": y, "query_x": query_x}
    data = tf.data.Dataset.from_tensors((inputs, y))
    return learner.fit(data, verbose=0).history["meta_loss"][0]


if __name__ == "__main__":
  absltest.main()
