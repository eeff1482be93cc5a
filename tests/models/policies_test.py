from absl.testing import absltest
import keras
import numpy as np

import tfmeta
from tfmeta import core


class GaussianPolicyTest(absltest.TestCase):
  def test_returns_means_and_deviations(self):
    policy = tfmeta.models.gaussian_policy(
      (3,), actions=2, hidden=(5,), initial_stddev=0.5
    )
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    outputs = policy(x).numpy()
    np.testing.assert_allclose(outputs[:, 2:], np.full([4, 2], np.log(0.5)))
    # The deviations do not depend on the observation, and the means do.
    self.assertGreater(outputs[:, :2].std(axis=0).min(), 0)
    *_, log_stddev = policy.trainable_variables
    log_stddev.assign([1.0, 2.0])
    np.testing.assert_allclose(policy(x)[:, 2:], [[1.0, 2.0]] * 4)

  def test_tasks_are_vectorized(self):
    policy = tfmeta.models.gaussian_policy((3,), actions=2)
    self.assertEqual(core.choose_method(policy), "vectorize")

  def test_float64(self):
    policy = tfmeta.models.gaussian_policy((3,), actions=2, dtype="float64")
    self.assertEqual(policy(np.zeros([1, 3])).dtype, "float64")

  def test_survives_saving(self):
    policy = tfmeta.models.gaussian_policy((3,), actions=2, initial_stddev=0.2)
    path = self.create_tempdir().full_path + "/policy.keras"
    policy.save(path)
    x = np.ones([2, 3], "float32")
    np.testing.assert_array_equal(keras.saving.load_model(path)(x), policy(x))

  def test_its_configuration_holds_the_initial_deviation(self):
    policy = tfmeta.models.gaussian_policy((3,), actions=2, initial_stddev=0.2)
    again = keras.Model.from_config(policy.get_config())
    deviations = again(np.ones([1, 3], "float32"))[:, 2:]
    np.testing.assert_allclose(deviations, [[np.log(0.2)] * 2], rtol=1e-6)

  def test_refuses_wrong_arguments(self):
    with self.assertRaisesRegex(ValueError, "initial_stddev.*Received: "):
      tfmeta.models.gaussian_policy((3,), actions=2, initial_stddev=0.0)
    with self.assertRaisesRegex(ValueError, "Received: "):
      tfmeta.models.gaussian_policy((3,), actions=0)


class CategoricalPolicyTest(absltest.TestCase):
  def test_returns_logits(self):
    policy = tfmeta.models.categorical_policy((3,), choices=4, hidden=())
    self.assertEqual(policy.output_shape, (None, 4))
    self.assertLen(policy.trainable_variables, 2)


if __name__ == "__main__":
  absltest.main()
