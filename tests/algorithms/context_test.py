"""Tests that seeds of tasks, steps and samples never coincide."""

import inspect
import itertools

from absl.testing import absltest

import tfmeta


class ContextTest(absltest.TestCase):
  def test_defaults_mean_evaluation(self):
    self.assertEqual(tfmeta.EVALUATION, tfmeta.Context())
    self.assertFalse(tfmeta.EVALUATION.training)
    self.assertTrue(tfmeta.FIRST_STEP.training)
    self.assertEqual(tfmeta.FIRST_STEP.step, 0)

  def test_seeds_differ_by_seed_step_task_and_sample(self):
    seeds = {
      tuple(
        tfmeta.Context(step=step, index=index, sample=sample)
        .seed_from(seed)
        .numpy()
      )
      for seed, step, index, sample in itertools.product(
        (0, 1), (-1, 0, 1), (0, 1), (None, 0, 1)
      )
    }
    self.assertLen(seeds, 36)

  def test_the_first_step_has_the_seed_of_its_first_task(self):
    context = tfmeta.Context(training=True, step=0, index=0)
    self.assertEqual(
      tuple(context.seed_from(3).numpy()),
      tuple(tfmeta.FIRST_STEP.seed_from(3).numpy()),
    )

  def test_the_named_contexts_are_short_in_signatures(self):
    text = str(inspect.signature(tfmeta.MAML.task_loss))
    self.assertRegex(text, "Context = tfmeta.FIRST_STEP")
    self.assertEqual(repr(tfmeta.EVALUATION), "tfmeta.EVALUATION")
    other = tfmeta.FIRST_STEP.replace(index=3)
    self.assertEqual(repr(other), "Context(training=True, step=0, index=3)")


if __name__ == "__main__":
  absltest.main()
