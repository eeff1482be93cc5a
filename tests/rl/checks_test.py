"""Tests that wrong arguments and inputs end in one sentence."""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

NAVIGATION = tfmeta.environments.Navigation(horizon=3)


def gaussian(shape=(2,), actions=2, **options):
  return tfmeta.models.gaussian_policy(
    shape, actions=actions, hidden=(4,), **options
  )


def with_layer(layer):
  inputs = keras.Input((2,))
  return keras.Model(inputs, keras.layers.Dense(4)(layer(inputs)))


class ConstructorTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"episodes": 1}, "episodes"),
    ({"credit": "reinforce"}, "credit"),
    ({"credit_decay": 1.5}, "credit_decay"),
    ({"discount": -0.1}, "discount"),
    ({"gae_decay": 2.0}, "gae_decay"),
    ({"distribution": "beta"}, "distribution"),
    ({"distribution": "categorical"}, "gaussian"),
    ({"inner_loss": "mse"}, "not an argument"),
    ({"inner_loss_reduction": "sum"}, "not an argument"),
    ({"normalization": "none"}, "not an argument"),
    ({"sampling_credit": True}, "log_likelihood"),
    (
      {"sampling_credit": True, "credit": "dice"},
      "log_likelihood",
    ),
  )
  def test_arguments(self, options, words):
    with self.assertRaisesRegex(ValueError, f"(?s){words}.*Received: "):
      tfmeta.rl.MAML(gaussian(), NAVIGATION, **options)

  @parameterized.parameters(
    ("width", "returns|return"),
    ("observations", "observations"),
    ("dropout", "no state.*Received.*dropout"),
    ("batch_normalization", "no state.*Received.*batch_normalization"),
    ("precision", "float32"),
  )
  def test_policies(self, case, words):
    policy = {
      "width": lambda: gaussian(actions=3),
      "observations": lambda: gaussian(shape=(3,)),
      "dropout": lambda: with_layer(keras.layers.Dropout(0.5, name="dropout")),
      "batch_normalization": lambda: with_layer(
        keras.layers.BatchNormalization(name="batch_normalization")
      ),
      "precision": lambda: gaussian(dtype="mixed_bfloat16"),
    }[case]()
    with self.assertRaisesRegex(ValueError, f"(?s)(?=.*Received: ){words}"):
      tfmeta.rl.MAML(policy, NAVIGATION)

  def test_environment_of_another_kind(self):
    with self.assertRaisesRegex(TypeError, "from_gymnasium.*Received"):
      tfmeta.rl.MAML(gaussian(), object())

  def test_environments_that_are_not_complete(self):
    class Own(tfmeta.environments.Environment):
      observation_shape = (2,)
      actions = 2

    with self.assertRaisesRegex(ValueError, "`horizon`. Received: a Own"):
      tfmeta.rl.MAML(gaussian(), Own())
    Own.horizon = 0
    with self.assertRaisesRegex(ValueError, "horizon.*Received: "):
      tfmeta.rl.MAML(gaussian(), Own())

  @parameterized.parameters(
    (tfmeta.rl.ProMP, {"clip_ratio": 0.0}, "clip_ratio"),
    (tfmeta.rl.ProMP, {"epochs": 0}, "epochs"),
    (tfmeta.rl.ProMP, {"divergence_penalty": -1.0}, "divergence_penalty"),
    (tfmeta.rl.BMAML, {"meta_loss": "nll"}, "meta_loss"),
    (tfmeta.rl.BMAML, {"temperature": 0.0}, "temperature"),
    (tfmeta.rl.EMAML, {"num_particles": 0}, "num_particles"),
    (tfmeta.rl.EMAML, {"noise_stddev": 0.1}, "not an argument"),
    (tfmeta.rl.BMAML, {"particle_weights": "head"}, "not an argument"),
    (tfmeta.rl.Reptile, {"inner_optimizer": "adam"}, "not an argument"),
    (tfmeta.rl.Reptile, {"support_batch_size": 2}, "not an argument"),
  )
  def test_arguments_of_one_learner(self, cls, options, words):
    with self.assertRaisesRegex(ValueError, f"{words}.*Received: "):
      cls(gaussian(), NAVIGATION, **options)


class CompileTest(parameterized.TestCase):
  def fit(self, learner):
    tasks = NAVIGATION.tasks("train").batch(2)
    learner.fit(tasks, steps_per_epoch=1, verbose=0)

  @parameterized.parameters(
    (tfmeta.rl.Reptile, {}),
    (tfmeta.rl.ProMP, {}),
    (tfmeta.rl.BMAML, {"meta_loss": "chaser", "num_particles": 2}),
    (tfmeta.rl.MAML, {"clipvalue": 1.0}),
  )
  def test_trust_region_without_a_meaning(self, cls, options):
    learner = cls(gaussian(), NAVIGATION, **options)
    learner.compile(tfmeta.rl.TrustRegion())
    with self.assertRaisesRegex(ValueError, "TrustRegion.*Received: "):
      self.fit(learner)

  def test_loss(self):
    learner = tfmeta.rl.MAML(gaussian(), NAVIGATION)
    learner.compile(keras.optimizers.Adam(), loss="mse")
    with self.assertRaisesRegex(ValueError, "takes no loss.*Received: "):
      self.fit(learner)

  def test_metrics(self):
    learner = tfmeta.rl.MAML(gaussian(), NAVIGATION)
    learner.compile(keras.optimizers.Adam(), metrics=["accuracy"])
    with self.assertRaisesRegex(ValueError, "takes no metrics.*Received: "):
      self.fit(learner)

  def test_supervised_learner_with_a_trust_region(self):
    learner = tfmeta.MAML(tfmeta.models.mlp((1,), outputs=1), inner_loss="mse")
    learner.compile(tfmeta.rl.TrustRegion())
    spec = tfmeta.TaskSpec(shots=2, query_shots=2)
    tasks = tfmeta.data.sinusoid("train", spec).batch(2)
    with self.assertRaisesRegex(ValueError, "learner of tfmeta.rl"):
      learner.fit(tasks, steps_per_epoch=1, verbose=0)


class DataTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.learner = tfmeta.rl.MAML(gaussian(), NAVIGATION, episodes=2)

  def test_episodes_that_are_none(self):
    with self.assertRaisesRegex(TypeError, "tfmeta.rl.Episodes.*Received: "):
      self.learner.adapt([tf.zeros([2, 3, 2])])

  def test_tasks_of_another_environment(self):
    bandits = tfmeta.environments.Bandit().tasks("test").batch(2).take(1)
    with self.assertRaisesRegex(ValueError, "goal.*Received: .*good_arm"):
      tfmeta.rl.evaluate(self.learner, bandits)

  @parameterized.parameters(
    (np.nan, "goal of the tasks must be finite. Received: NaN"),
    ("a", "'goal' must be float32.*Received: "),
    (None, "'goal' must be float32.*Received: "),
  )
  def test_tasks_of_wrong_values(self, value, words):
    tasks = {"goal": np.array([[value, value]])}
    with self.assertRaisesRegex(ValueError, f"^{words}[^\n]*$"):
      tfmeta.rl.collect_episodes(self.learner, tasks, steps=0)
    if value is not None:
      data = tf.data.Dataset.from_tensors(tasks)
      with self.assertRaisesRegex(ValueError, words):
        tfmeta.rl.evaluate(self.learner, data, steps=0)

  def test_tasks_are_cast(self):
    tasks = {"goal": np.array([[1, 0]])}
    before, *_ = tfmeta.rl.collect_episodes(self.learner, tasks, steps=0)
    self.assertEqual(before.rewards.shape[0], 1)

  def test_tasks_without_a_batch(self):
    with self.assertRaisesRegex(ValueError, "call .batch.*Received: "):
      tfmeta.rl.evaluate(self.learner, NAVIGATION.tasks("test").take(1))

  def test_endless_tasks(self):
    with self.assertRaisesRegex(ValueError, "finite.*Received: "):
      tfmeta.rl.evaluate(self.learner, NAVIGATION.tasks("test").batch(2))

  def test_no_tasks(self):
    empty = NAVIGATION.tasks("test").batch(2).take(0)
    with self.assertRaisesRegex(ValueError, "at least one.*Received: "):
      tfmeta.rl.evaluate(self.learner, empty)

  def test_learner_of_another_kind(self):
    learner = tfmeta.MAML(tfmeta.models.mlp((1,), outputs=1), inner_loss="mse")
    with self.assertRaisesRegex(TypeError, "tfmeta.evaluate.*Received: "):
      tfmeta.rl.evaluate(learner, NAVIGATION.tasks("test").batch(2).take(1))

  def test_data_of_supervised_learners(self):
    self.learner.compile(keras.optimizers.Adam())
    with self.assertRaisesRegex(ValueError, "tasks of the environment"):
      self.learner.fit(np.zeros([4, 2]), np.zeros([4, 2]), verbose=0)

  def test_endless_tasks_without_a_batch(self):
    self.learner.compile(keras.optimizers.Adam())
    with self.assertRaisesRegex(ValueError, "call .batch.*Received: "):
      self.learner.fit(NAVIGATION.tasks("train"), steps_per_epoch=1, verbose=0)

  def test_tasks_that_end_before_the_epoch_warn(self):
    self.learner.compile(keras.optimizers.Adam())
    tasks = NAVIGATION.tasks("train").take(2).batch(2)
    with self.assertWarnsRegex(UserWarning, "ran out of data"):
      self.learner.fit(tasks, steps_per_epoch=2, verbose=0)

  def test_negative_numbers_of_steps(self):
    tasks = next(iter(NAVIGATION.tasks("test").batch(1)))
    with self.assertRaisesRegex(ValueError, "steps.*Received: "):
      tfmeta.rl.collect_episodes(self.learner, tasks, steps=-1)

  def test_observations_to_act_on(self):
    weights = self.learner.initial_weights()
    for wrong in (np.zeros([3, 3]), np.zeros(2)):
      with self.assertRaisesRegex(ValueError, r"\[n, 2\].*Received: "):
        self.learner.act(weights, wrong)
    actions = self.learner.act(weights, np.zeros([3, 2]))
    self.assertEqual(actions.shape, (3, 2))
    with self.assertRaisesRegex(ValueError, "two integers.*Received: seed=3"):
      self.learner.act(weights, np.zeros([3, 2]), seed=3)


class EpisodesTest(parameterized.TestCase):
  """Mistakes in the episodes that `adapt` takes."""

  def setUp(self):
    super().setUp()
    self.learner = tfmeta.rl.MAML(gaussian(), NAVIGATION, episodes=2)
    rng = np.random.default_rng(0)
    self.episodes = tfmeta.rl.Episodes(
      observations=rng.normal(size=(2, 3, 2)),
      actions=rng.normal(size=(2, 3, 2)),
      rewards=rng.normal(size=(2, 3)),
      mask=np.array([[1, 1, 1], [1, 0, 0]]),
      parameters=rng.normal(size=(2, 3, 4)),
    )

  def test_numbers_of_other_types_are_taken(self):
    found = self.learner.adapt(self.episodes)
    as_float32 = tfmeta.rl.Episodes(
      *(np.float32(part) for part in self.episodes)
    )
    for a, b in zip(found, self.learner.adapt(as_float32), strict=True):
      np.testing.assert_array_equal(a, b)

  @parameterized.parameters(
    ("observations", (2, 3, 1)),
    ("actions", (2, 3, 1)),
    ("actions", (2, 3)),
    ("rewards", (2, 2)),
    ("mask", (3,)),
    ("parameters", (2, 3, 2)),
    ("parameters", (1, 3, 4)),
  )
  def test_parts_of_another_shape(self, name, shape):
    episodes = self.episodes._replace(**{name: np.ones(shape)})
    with self.assertRaisesRegex(ValueError, f"one task, with {name}.*Received"):
      self.learner.adapt(episodes)

  def test_episodes_of_several_tasks(self):
    episodes = tfmeta.rl.Episodes(*(part[None] for part in self.episodes))
    with self.assertRaisesRegex(ValueError, "those of one task.*Received: "):
      self.learner.adapt(episodes)

  def test_an_episode_without_a_first_step(self):
    mask = np.array([[1, 1, 1], [0, 1, 1]])
    with self.assertRaisesRegex(ValueError, "first step.*Received: "):
      self.learner.adapt(self.episodes._replace(mask=mask))

  @parameterized.parameters("observations", "rewards", "parameters")
  def test_numbers_that_are_not_finite(self, name):
    values = np.array(getattr(self.episodes, name))
    # What follows the end of an episode may be anything.
    values[1, 1:] = np.nan
    episodes = self.episodes._replace(**{name: values})
    for weight in self.learner.adapt(episodes):
      self.assertTrue(np.isfinite(weight).all())
    values[0, 2] = np.inf
    with self.assertRaisesRegex(ValueError, f"finite {name}.*Received: "):
      self.learner.adapt(episodes)


class ExportTest(absltest.TestCase):
  def test_export_in_another_format(self):
    learner = tfmeta.rl.MAML(gaussian(), NAVIGATION)
    with self.assertRaisesRegex(ValueError, "SavedModel.*Received: "):
      learner.export("somewhere", format="onnx")


if __name__ == "__main__":
  absltest.main()
