"""Tests SavedModels of learners that act, and adapted policies."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import small
import tensorflow as tf

import tfmeta


class ExportTest(parameterized.TestCase):
  @parameterized.parameters(
    (tfmeta.rl.MAML, {}),
    (tfmeta.rl.BMAML, {"num_particles": 2}),
    # Its gradient is one of ours, which no file may hold.
    (tfmeta.rl.MAML, {"activation": "softsign"}),
  )
  def test_saved_model_acts_and_adapts_like_the_learner(self, cls, options):
    learner = small.navigation_learner(cls, **options)
    path = self.create_tempdir().full_path
    learner.export(path)
    tasks = next(iter(small.validation(learner, 1)))
    found = small.collected(learner, tasks, steps=2)
    served = tf.saved_model.load(path).signatures
    weights = served["initial"]()
    expected = learner.initial_weights()
    for step in range(2):
      episodes = small.slices(found.episodes[step], 0)
      mask = np.array(episodes.mask)
      mask[..., 0, 3:] = 0.0
      episodes = episodes._replace(mask=tf.constant(mask))
      weights = served["adapt"](**episodes._asdict(), **weights)
      example = learner.example(episodes)
      expected = learner.inner_step(expected, example)
    names = [v.path.replace("/", "__") for v in learner.policy.variables]
    for name, value in zip(names, expected, strict=True):
      np.testing.assert_allclose(weights[name], value, atol=1e-6)
    observations = small.slices(found.episodes[0], 0).observations[..., 0, :]
    parameters = served["act"](observations=observations, **weights)
    np.testing.assert_allclose(
      parameters["parameters"],
      learner.query_parameters(expected, observations),
      atol=1e-6,
    )

  def test_adapted_policy_is_a_plain_model(self):
    learner = small.navigation_learner()
    tasks = next(iter(small.validation(learner, 1)))
    found = small.collected(learner, tasks, steps=2)
    episodes = [small.slices(one, 0) for one in found.episodes]
    weights = learner.adapt(episodes[:2])
    model = learner.to_model(weights)
    observations = episodes[0].observations[:, 0]
    np.testing.assert_allclose(
      model(observations)[:, :2],
      learner.act(weights, observations),
      atol=1e-6,
    )
    sampled = learner.act(weights, observations, seed=[1, 2])
    again = learner.act(weights, observations, seed=[1, 2])
    np.testing.assert_array_equal(sampled, again)
    self.assertTrue(
      (sampled != learner.act(weights, observations)).numpy().all()
    )


if __name__ == "__main__":
  absltest.main()
