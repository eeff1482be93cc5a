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

  @parameterized.parameters(
    (tfmeta.rl.ProMP, {"clip_ratio": 0.0}, "clip_ratio"),
    (tfmeta.rl.ProMP, {"epochs": 0}, "epochs"),
    (tfmeta.rl.ProMP, {"divergence_penalty": -1.0}, "divergence_penalty"),
    (tfmeta.rl.BMAML, {"meta_loss": "nll"}, "meta_loss"),
    (tfmeta.rl.BMAML, {"temperature": 0.0}, "temperature"),
    (tfmeta.rl.EMAML, {"num_particles": 0}, "num_particles"),
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

  def test_supervised_learner_with_a_trust_region(self):
    learner = tfmeta.MAML(tfmeta.models.mlp((1,), outputs=1), inner_loss="mse")
    learner.compile(tfmeta.rl.TrustRegion())
    spec = tfmeta.TaskSpec(shots=2, query_shots=2)
    tasks = tfmeta.data.sinusoid("train", spec).batch(2)
    with self.assertRaisesRegex(ValueError, "learner of tfmeta.rl"):
      learner.fit(tasks, steps_per_epoch=1, verbose=0)


class DataTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.learner = tfmeta.rl.MAML(gaussian(), NAVIGATION, episodes=2)

  def test_tasks_of_another_environment(self):
    bandits = tfmeta.environments.Bandit().tasks("test").batch(2).take(1)
    with self.assertRaisesRegex(ValueError, "goal.*Received: .*good_arm"):
      tfmeta.rl.evaluate(self.learner, bandits)

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

  def test_episodes_that_are_none(self):
    with self.assertRaisesRegex(TypeError, "tfmeta.rl.Episodes.*Received: "):
      self.learner.adapt([tf.zeros([2, 3, 2])])

  def test_episodes_of_several_tasks(self):
    episodes = tfmeta.rl.Episodes(*[tf.zeros([5, 2, 3, 2])] * 5)
    with self.assertRaisesRegex(ValueError, "those of one task.*Received: "):
      self.learner.adapt(episodes)

  def test_export_in_another_format(self):
    with self.assertRaisesRegex(ValueError, "SavedModel.*Received: "):
      self.learner.export("somewhere", format="onnx")


if __name__ == "__main__":
  absltest.main()
