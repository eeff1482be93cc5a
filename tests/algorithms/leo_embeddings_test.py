"""Tests what LEO learns from synthetic embeddings, and its random samples.

In the uneven world, class means vary in a few directions only, and the noise is
up to ten times as strong in some directions as in others. A learner can find
out which directions tell classes apart. In the even world, means and noise are
the same in all directions. There is nothing to learn, and the nearest mean is
the right classifier.
"""

import functools

from absl.testing import absltest
import keras
import numpy as np
import tensorflow as tf

import tfmeta

SPEC = tfmeta.TaskSpec(ways=5, shots=1, query_shots=15)
SPLITS = {"train": 64, "validation": 32, "test": 64}
PER_CLASS = 60
UPDATES, META_BATCH = 400, 12
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # L2 penalties of the probe.
UNEVEN = {"features": 64, "directions": 10, "noise": 2.0, "ratio": 10.0}
EVEN = {"features": 10, "directions": 10, "noise": 1.0, "ratio": 1.0}


def embeddings(split, *, features, directions, noise, ratio):
  """Returns embeddings of length 1 and their labels."""
  world = np.random.default_rng(0)
  basis, axes = (
    np.linalg.qr(world.normal(size=(features, features)))[0] for _ in range(2)
  )
  stddevs = noise * np.geomspace(ratio**-0.5, ratio**0.5, features)
  random = np.random.default_rng(1 + list(SPLITS).index(split))
  classes = SPLITS[split]
  means = random.normal(size=(classes, 1, directions)) / directions**0.5
  deviations = random.normal(size=(classes, PER_CLASS, features))
  x = means @ basis[:directions]
  x = x + (deviations * stddevs / features**0.5) @ axes
  x /= np.linalg.norm(x, axis=-1, keepdims=True)
  labels = np.repeat(np.arange(classes), PER_CLASS)
  return x.reshape([-1, features]).astype("float32"), labels


def tasks(split, world):
  return tfmeta.data.tasks_from_arrays(*embeddings(split, **world), SPEC)


@functools.cache
def held_out(split, count, uneven=True):
  """Returns inputs and labels of a batch of tasks."""
  world = UNEVEN if uneven else EVEN
  return next(iter(tasks(split, world).batch(count)))


@functools.cache
def trained(uneven=True, **options):
  world = UNEVEN if uneven else EVEN
  keras.utils.set_random_seed(0)
  learner = tfmeta.LEO(
    tfmeta.models.embedding_head(world["features"], ways=SPEC.ways),
    num_latents=16,
    # Steps on the weights move little here; more would only take longer.
    finetuning_steps=1,
    dropout_rate=0.0,
    **options,
  )
  rate = keras.optimizers.schedules.CosineDecay(3e-3, UPDATES)
  learner.compile(keras.optimizers.Adam(rate))
  learner.fit(
    tasks("train", world).batch(META_BATCH),
    steps_per_epoch=UPDATES,
    verbose=0,
  )
  return learner


def with_samples(learner, num_samples, seed):
  """Returns a learner with the same weights that averages random samples."""
  config = {**learner.get_config(), "num_samples": num_samples, "seed": seed}
  other = tfmeta.LEO.from_config(config)
  other.set_weights(learner.get_weights())
  other.compile()
  return other


@functools.cache
def sampled_probabilities(num_samples, seed):
  """Returns probabilities `[tasks, samples, queries, ways]` of 50 tasks."""
  learner = with_samples(trained(), num_samples, seed)

  @tf.function(autograph=False)
  def outputs_of_task(support_x, support_y, query_x):
    weights = learner.adapt(support_x, support_y)
    return (
      learner.predict_samples(weights, query_x),
      learner.predict_with(weights, query_x),
    )

  inputs, _ = held_out("test", 50)
  tasks = zip(
    inputs["support_x"], inputs["support_y"], inputs["query_x"], strict=True
  )
  outputs = [outputs_of_task(*task) for task in tasks]
  samples, means = map(np.stack, zip(*outputs, strict=True))
  probabilities = tf.nn.softmax(samples).numpy()
  np.testing.assert_allclose(
    tf.nn.softmax(means), probabilities.mean(axis=1), rtol=1e-3, atol=1e-6
  )
  return probabilities


def accuracies(logits, labels):
  """Returns the accuracy on each task."""
  return np.mean(np.argmax(logits, axis=-1) == labels, axis=1)


def of_learner(learner, inputs, labels):
  return accuracies(learner.predict(inputs, batch_size=50, verbose=0), labels)


def of_nearest_mean(inputs, labels):
  # The single example of a class is the mean of its class and has length 1.
  cosines = inputs["query_x"] @ tf.linalg.matrix_transpose(inputs["support_x"])
  names = tf.one_hot(inputs["support_y"], SPEC.ways)
  return accuracies(cosines @ names, labels)


def of_probe(inputs, labels, strength):
  """Returns accuracies of logistic regression on the support sets."""
  x = inputs["support_x"].numpy()
  y = tf.one_hot(inputs["support_y"], SPEC.ways).numpy()
  kernel = np.zeros([len(x), x.shape[-1], SPEC.ways], "float32")
  # For examples of length 1, the curvature is at most 0.5 + strength.
  rate = 1 / (0.5 + strength)
  for _ in range(200):
    wrong = tf.nn.softmax(x @ kernel).numpy() - y
    slope = x.transpose(0, 2, 1) @ wrong / x.shape[1]
    kernel -= rate * (slope + strength * kernel)
  return accuracies(inputs["query_x"].numpy() @ kernel, labels)


class AdvantageTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.test = held_out("test", 1000)
    self.found = of_learner(trained(), *self.test)

  def assert_better_than(self, other, by):
    mean, interval = tfmeta.metrics.mean_and_interval(self.found - other)
    self.assertGreater(mean - interval, by)

  def test_is_better_than_the_nearest_mean(self):
    self.assert_better_than(of_nearest_mean(*self.test), by=0.1)

  def test_is_better_than_a_tuned_probe(self):
    validation = held_out("validation", 200)
    best = max(STRENGTHS, key=lambda s: of_probe(*validation, s).mean())
    self.assert_better_than(of_probe(*self.test, best), by=0.1)

  def test_is_better_than_its_generator_alone(self):
    before = with_samples(trained(), 1, 0)
    before.eval_inner_steps = 0
    self.assert_better_than(of_learner(before, *self.test), by=0.1)
    alone = trained(inner_steps=0)  # Also trained without steps.
    self.assert_better_than(of_learner(alone, *self.test), by=0.1)


class ControlTest(absltest.TestCase):
  def test_has_no_advantage_if_all_directions_are_equal(self):
    test = held_out("test", 1000, uneven=False)
    found = of_learner(trained(uneven=False), *test)
    mean, interval = tfmeta.metrics.mean_and_interval(
      found - of_nearest_mean(*test)
    )
    self.assertLess(mean - interval, 0.0)
    # It has to learn to be the nearest mean, which costs a little accuracy.
    self.assertGreater(mean, -0.03)


class SampleTest(absltest.TestCase):
  def test_evaluation_is_deterministic(self):
    inputs, _ = held_out("test", 50)
    support = inputs["support_x"][0], inputs["support_y"][0]
    # A single sample is the mean, which does not depend on the seed. Several
    # samples do, and are the same each time.
    for num_samples, equal in ((1, True), (2, False)):
      one, same, other = (
        with_samples(trained(), num_samples, seed).adapt(*support)[0].numpy()
        for seed in (0, 0, 1)
      )
      np.testing.assert_array_equal(one, same)
      self.assertEqual(np.array_equal(one, other), equal)

  def test_predictions_converge(self):
    _, labels = held_out("test", 50)

    def accuracy(probabilities):
      return accuracies(probabilities.mean(axis=1), labels).mean()

    limit = accuracy(sampled_probabilities(200, seed=1))
    some = sampled_probabilities(100, seed=0)
    for count in (50, 100):
      found = accuracy(some[:, :count])
      self.assertAlmostEqual(found, limit, delta=0.005)

  def test_ten_times_the_samples_have_a_tenth_of_the_variance(self):
    # Equal samples would have no variance, and samples that depend on each
    # other would lose less of it.
    few, many = (
      np.mean(
        np.square(
          self.means_of(count, sampled_probabilities(100, seed=0))
          - self.means_of(count, sampled_probabilities(200, seed=1))
        )
      )
      for count in (5, 50)
    )
    self.assertGreater(few, 1e-5)
    self.assertBetween(few / many, 7.0, 14.0)

  def means_of(self, count, probabilities):
    """Returns means over groups of `count` of the first 100 samples."""
    tasks, _, *rest = probabilities.shape
    groups = probabilities[:, :100].reshape([tasks, -1, count, *rest])
    return groups.mean(axis=2)


if __name__ == "__main__":
  absltest.main()
