"""Tests the warnings of a policy that no longer learns."""

import warnings

from absl.testing import absltest
import keras
import numpy as np

import tfmeta


def run(accepted, *, updates=3, epochs=1):
  """Feeds the callback what `fit` would, and returns the warnings."""
  callback = tfmeta.callbacks.WarnOfStuckPolicy(updates)
  callback.set_model(keras.Sequential([keras.Input((1,))]))
  with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    for epoch, values in enumerate(np.split(np.array(accepted), epochs)):
      callback.on_epoch_begin(epoch)
      for batch in range(len(values)):
        mean = values[: batch + 1].mean()
        callback.on_train_batch_end(batch, {"accepted": mean})
      callback.on_epoch_end(epoch, {})
  return [str(one.message) for one in found]


class WarnOfStuckPolicyTest(absltest.TestCase):
  def test_warns_once_after_refusals_running(self):
    self.assertLen(run([1, 0, 0, 0, 0, 0, 1, 0, 0, 0]), 1)
    self.assertRegex(run([0, 0, 0])[0], "no step in 3 updates.*max_divergence")

  def test_an_accepted_step_in_between_counts(self):
    self.assertEmpty(run([0, 0, 1, 0, 0, 1, 0, 0]))

  def test_counts_over_the_end_of_an_epoch(self):
    self.assertLen(run([1, 1, 0, 0, 0, 1], epochs=2), 1)

  def test_other_optimizers_have_nothing_to_accept(self):
    callback = tfmeta.callbacks.WarnOfStuckPolicy(1)
    callback.on_train_batch_end(0, {"loss": 1.0})

  def test_warns_of_a_deviation_at_its_least_value(self):
    policy = tfmeta.models.gaussian_policy((2,), actions=2, hidden=())
    callback = tfmeta.callbacks.WarnOfStuckPolicy()
    callback.set_model(policy)
    with warnings.catch_warnings():
      warnings.simplefilter("error", UserWarning)
      callback.on_epoch_end(0)
    policy.trainable_variables[-1].assign([0.0, -14.0])
    with self.assertWarnsRegex(UserWarning, "no longer explores"):
      callback.on_epoch_end(0)

  def test_refuses_wrong_arguments(self):
    with self.assertRaisesRegex(ValueError, "updates.*Received: "):
      tfmeta.callbacks.WarnOfStuckPolicy(0)


if __name__ == "__main__":
  absltest.main()
