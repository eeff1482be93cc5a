"""Tests that learners that act are ordinary Keras models."""

import os
import subprocess
import sys
import textwrap

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import small
import tensorflow as tf

import tfmeta


def fit(learner, *, first=0, updates=2, **options):
  tasks = learner.environment.tasks("train", seed=0, start=3 * first).batch(3)
  return learner.fit(
    tasks, steps_per_epoch=updates, shuffle=False, verbose=0, **options
  ).history


def weights_of(learner):
  return [np.array(v) for v in learner.trainable_variables]


class FitTest(parameterized.TestCase):
  def test_reports_returns_before_and_after_adapting(self):
    learner = small.navigation_learner(task_map="auto")
    learner.compile(tfmeta.rl.TrustRegion(0.01))
    history = fit(learner, validation_data=small.validation(learner))
    self.assertEqual(
      set(history),
      {
        *("loss", "return", "return_before", "meta_loss"),
        *("divergence", "accepted", "val_loss", "val_return"),
        "val_return_before",
      },
    )
    np.testing.assert_allclose(history["loss"], -np.array(history["return"]))
    self.assertLess(history["divergence"][0], 0.01)

  def test_validation_sees_the_same_tasks_and_noise_each_time(self):
    learner = small.navigation_learner()
    learner.compile(keras.optimizers.Adam())
    first, again = (
      learner.evaluate(small.validation(learner), verbose=0, return_dict=True)
      for _ in range(2)
    )
    self.assertEqual(first, again)
    measured = tfmeta.rl.evaluate(learner, small.validation(learner))
    np.testing.assert_allclose(measured.means[-1], first["return"], rtol=1e-5)
    # Two batches of the same goals have noise of their own.
    goals = next(iter(small.validation(learner, 1)))
    twice = tf.data.Dataset.from_tensors(goals).repeat(2)
    returns = tfmeta.rl.evaluate(learner, twice).returns
    self.assertTrue((returns[:3] != returns[3:]).all())

  def test_each_training_step_has_noise_of_its_own(self):
    learner = small.navigation_learner()
    learner.compile(keras.optimizers.SGD(0.0))
    goals = next(iter(small.validation(learner, 1)))
    same = tf.data.Dataset.from_tensors(goals).repeat(2)
    first, second = learner.fit(
      same.repeat(), steps_per_epoch=1, epochs=2, verbose=0
    ).history["return"]
    self.assertNotEqual(first, second)

  def test_predict_returns_the_mean_return_after_each_step(self):
    learner = small.navigation_learner(eval_inner_steps=2)
    batch = small.validation(learner, 1)
    predicted = learner.predict(batch, verbose=0)
    self.assertEqual(predicted.shape, (3, 3))
    np.testing.assert_allclose(
      predicted, tfmeta.rl.evaluate(learner, batch).returns, rtol=1e-5
    )

  def test_resumed_training_has_the_same_bits(self):
    learner = small.navigation_learner()
    learner.compile(tfmeta.rl.TrustRegion(0.01, curvature_episodes=2))
    fit(learner, updates=2)
    path = os.path.join(self.create_tempdir(), "learner.keras")
    learner.save(path)
    resumed = keras.saving.load_model(path)
    self.assertIsInstance(resumed.optimizer, tfmeta.rl.TrustRegion)
    self.assertEqual(resumed.optimizer.curvature_episodes, 2)
    for one in (learner, resumed):
      fit(one, first=2, updates=2)
    for a, b in zip(weights_of(learner), weights_of(resumed), strict=True):
      np.testing.assert_array_equal(a, b)

  @parameterized.parameters(
    (tfmeta.rl.MAML, {"credit": "log_likelihood", "sampling_credit": True}),
    (tfmeta.rl.FOMAML, {}),
    (tfmeta.rl.ANIL, {}),
    (tfmeta.rl.MetaSGD, {"discount": 0.9, "gae_decay": 0.5}),
    (tfmeta.rl.Reptile, {}),
    (tfmeta.rl.ProMP, {"epochs": 2, "clip_ratio": 0.1}),
    (tfmeta.rl.EMAML, {"num_particles": 2}),
    (tfmeta.rl.BMAML, {"num_particles": 2, "meta_loss": "chaser"}),
  )
  def test_loaded_learners_are_whole(self, cls, options):
    learner = small.navigation_learner(cls, **options)
    path = os.path.join(self.create_tempdir(), "learner.keras")
    learner.save(path)
    loaded = keras.saving.load_model(path)
    self.assertIs(type(loaded), cls)
    configs = [one.get_config() for one in (learner, loaded)]
    for config in configs:
      del config["policy"]
    self.assertEqual(*configs)
    for a, b in zip(weights_of(learner), weights_of(loaded), strict=True):
      np.testing.assert_array_equal(a, b)

  @parameterized.parameters("trust_region", "sgd")
  def test_policies_may_use_what_tensorflow_differentiates_once(self, name):
    learner = small.navigation_learner(activation="softsign")
    optimizer = tfmeta.rl.TrustRegion() if name == "trust_region" else name
    learner.compile(optimizer=optimizer)
    logs = learner.fit(small.validation(learner, 1), verbose=0).history
    self.assertTrue(np.isfinite(logs["return"][0]))

  def test_user_distributions_act_and_learn(self):
    from tensorflow_probability import distributions

    def normal(parameters):
      mean, log_scale = tf.split(parameters, 2, axis=-1)
      return distributions.MultivariateNormalDiag(mean, tf.exp(log_scale))

    learner = small.navigation_learner(distribution=normal)
    tasks = next(iter(small.validation(learner, 1)))
    found = small.collected(learner, tasks)
    noise = found.episodes[0].actions - found.episodes[0].parameters[..., :2]
    self.assertLen(np.unique(noise), 3 * 4 * 5 * 2)
    *support, query = small.slices(found.examples, 0)
    ours = small.navigation_learner()
    for a, b in zip(
      ours.task_loss(support, query),
      learner.task_loss(support, query),
      strict=True,
    ):
      np.testing.assert_allclose(a, b, atol=1e-5)


class ReplicaTest(absltest.TestCase):
  def test_two_replicas_equal_one(self):
    # The flag must be set before TensorFlow makes its devices.
    program = textwrap.dedent("""
      import keras, numpy as np, tensorflow as tf
      cpu = tf.config.list_physical_devices("CPU")[0]
      tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
      import tfmeta
      strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
      found = []
      for scope in (tf.distribute.get_strategy(), strategy):
        with scope.scope():
          keras.utils.set_random_seed(0)
          env = tfmeta.environments.Navigation(horizon=2)
          learner = tfmeta.rl.MAML(
            tfmeta.models.gaussian_policy((2,), actions=2, hidden=(4,)),
            env, episodes=3, task_map="map")
          learner.compile(tfmeta.rl.TrustRegion(
            0.01, cg_iterations=2, max_backtracks=2))
        tasks = env.tasks("train", seed=0).batch(3)
        logs = learner.fit(tasks, steps_per_epoch=2, verbose=0).history
        found.append([np.array(v) for v in learner.trainable_variables])
        found[-1] += [np.array(logs[k]) for k in sorted(logs)]
      for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
      # Several steps of the optimizer, in which the replicas meet.
      with strategy.scope():
        promp = tfmeta.rl.ProMP(
          tfmeta.models.gaussian_policy((2,), actions=2, hidden=(4,)),
          env, episodes=3, epochs=2, task_map="map")
        promp.compile(keras.optimizers.Adam(1e-2))
      promp.fit(tasks, steps_per_epoch=1, verbose=0)
      assert promp.optimizer.iterations == 2
    """)
    subprocess.run(
      [sys.executable, "-c", program], check=True, env=dict(os.environ)
    )


if __name__ == "__main__":
  absltest.main()
