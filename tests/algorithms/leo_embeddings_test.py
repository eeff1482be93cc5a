"""LEO on synthetic embeddings: what its codes are good for, and its draws.

The means of classes are in a few directions, and the noise is in all of them,
in some ten times as strong as in others: a learner can find out which
directions tell classes apart. Where means and noise are alike in all
directions there is nothing to find out, and the nearest mean is right.
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
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # Of the probe's L2 penalty.
UNEVEN = {"features": 64, "directions": 10, "noise": 2.0, "ratio": 10.0}
EVEN = {"features": 10, "directions": 10, "noise": 1.0, "ratio": 1.0}


def embeddings(split, *, features, directions, noise, ratio):
  """Embeddings of length 1, and their labels."""
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


@functools.lru_cache
def held_out(split, count, uneven=True):
  """Inputs and labels of a batch of tasks."""
  world = UNEVEN if uneven else EVEN
  return next(iter(tasks(split, world).batch(count)))


@functools.lru_cache
def trained(uneven=True, **options):
  world = UNEVEN if uneven else EVEN
  keras.utils.set_random_seed(0)
  learner = tfmeta.LEO(
    tfmeta.models.embedding_head(world["features"], ways=SPEC.ways),
    num_latents=16,
    dropout_rate=0.0,
    **options,
  )
  rate = keras.optimizers.schedules.CosineDecay(3e-3, UPDATES)
  learner.compile(keras.optimizers.Adam(rate), steps_per_execution=50)
  learner.fit(
    tasks("train", world).batch(META_BATCH),
    steps_per_epoch=UPDATES,
    verbose=0,
  )
  learner.compile()  # Many steps in one would be traced for predictions too.
  return learner


def with_draws(learner, num_samples, seed):
  """The same weights, but predictions are means over so many draws."""
  config = {**learner.get_config(), "num_samples": num_samples, "seed": seed}
  other = tfmeta.LEO.from_config(config)
  other.set_weights(learner.get_weights())
  other.compile()
  return other


def accuracies(logits, labels):
  """Of each task."""
  return np.mean(np.argmax(logits, axis=-1) == labels, axis=1)


def of_learner(learner, inputs, labels):
  return accuracies(learner.predict(inputs, batch_size=50, verbose=0), labels)


def of_nearest_mean(inputs, labels):
  # With one shot the example is the mean, and its length is 1.
  cosines = inputs["query_x"] @ tf.linalg.matrix_transpose(inputs["support_x"])
  names = tf.one_hot(inputs["support_y"], SPEC.ways)
  return accuracies(cosines @ names, labels)


def of_probe(inputs, labels, strength):
  """Logistic regression on the support set, all tasks at once."""
  x = inputs["support_x"].numpy()
  y = tf.one_hot(inputs["support_y"], SPEC.ways).numpy()
  kernel = np.zeros([len(x), x.shape[-1], SPEC.ways], "float32")
  rate = 1 / (0.5 + strength)  # What bounds the curvature, for unit lengths.
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
    before = with_draws(trained(), 1, 0)
    before.eval_inner_steps = 0
    self.assert_better_than(of_learner(before, *self.test), by=0.1)
    alone = trained(inner_steps=0)  # Trained so.
    self.assert_better_than(of_learner(alone, *self.test), by=0.1)


class ControlTest(absltest.TestCase):
  def test_has_no_advantage_where_directions_are_alike(self):
    test = held_out("test", 1000, uneven=False)
    found = of_learner(trained(uneven=False), *test)
    mean, interval = tfmeta.metrics.mean_and_interval(
      found - of_nearest_mean(*test)
    )
    self.assertLess(mean - interval, 0.0)
    self.assertGreater(mean, -0.03)  # It has to learn what the mean is given.


class DrawTest(absltest.TestCase):
  def test_evaluation_is_deterministic(self):
    inputs, _ = held_out("test", 50)
    support = inputs["support_x"][0], inputs["support_y"][0]
    # Means do not know the seed; draws do, and are the same each time.
    for num_samples, alike in ((1, True), (2, False)):
      one, same, other = (
        with_draws(trained(), num_samples, seed).adapt(*support)[0].numpy()
        for seed in (0, 0, 1)
      )
      np.testing.assert_array_equal(one, same)
      self.assertEqual(np.array_equal(one, other), alike)

  def test_draws_converge(self):
    test = held_out("test", 50)
    limit = of_learner(with_draws(trained(), 200, 2), *test).mean()
    for seed, num_samples in enumerate((50, 100)):
      learner = with_draws(trained(), num_samples, seed)
      found = of_learner(learner, *test).mean()
      self.assertAlmostEqual(found, limit, delta=0.005)

  def test_ten_times_the_draws_have_a_tenth_of_the_variance(self):
    # Draws that are alike would have none, or keep it.
    inputs, _ = held_out("test", 50)
    few, many = (
      np.mean(np.square(np.subtract(*self.predictions(inputs, num_samples))))
      for num_samples in (5, 50)
    )
    self.assertGreater(few, 1e-5)
    self.assertBetween(few / many, 7.0, 14.0)

  def predictions(self, inputs, num_samples):
    """Probabilities of learners with other draws."""
    for seed in (0, 1):
      learner = with_draws(trained(), num_samples, seed)
      logits = learner.predict(inputs, batch_size=50, verbose=0)
      yield tf.nn.softmax(logits).numpy()


if __name__ == "__main__":
  absltest.main()
