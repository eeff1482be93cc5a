"""Weights of the query losses after each inner step, by epoch."""

import tensorflow as tf

# While several losses count, none falls below this fraction of an equal share.
_LEAST_SHARE = 0.03


def multi_step_shares(
  epoch: tf.Tensor | int, *, steps: int, epochs: int
) -> tf.Tensor:
  """Returns the shares of the query losses after inner steps 1 to `steps`.

  At first, all losses count the same. Over `epochs` epochs, the shares of all
  but the last shrink to 0.03 of their initial value. After that, only the last
  loss counts. This is the schedule of the released code of MAML++ [1].

  Args:
    epoch: Integer scalar >= 0, the current epoch.
    steps: Integer >= 1, the number of inner steps.
    epochs: Integer >= 0, the number of epochs in which several losses count.
      With 0, only the last loss counts from the beginning.

  Returns:
    `[steps]` float32, nonnegative, with the sum 1.

  References:
    [1] A. Antoniou, H. Edwards, A. Storkey. How to train your MAML. ICLR 2019.
        https://arxiv.org/abs/1810.09502
    Released code: https://github.com/AntreasAntoniou/HowToTrainYourMAMLPytorch
  """
  only_last = tf.one_hot(steps - 1, steps)
  if not epochs:
    return only_last
  done = tf.cast(epoch, tf.float32) / epochs
  early = tf.maximum(1.0 - done, _LEAST_SHARE) / steps
  last = 1.0 - (steps - 1) * early
  shares = early * (1.0 - only_last) + last * only_last
  return tf.where(done < 1.0, shares, only_last)


def multi_step_loss(
  losses: list[tf.Tensor], epoch: tf.Tensor | int, *, epochs: int
) -> tf.Tensor:
  """Returns the weighted sum of the query losses after each inner step.

  Args:
    losses: Scalars, the query losses after steps 1 to `len(losses)`. A single
      scalar is the loss after the last step, which then counts alone.
    epoch: Integer scalar >= 0, the current epoch.
    epochs: Integer >= 0, the number of epochs in which several losses count.
  """
  if len(losses) == 1:
    return losses[0]
  shares = multi_step_shares(epoch, steps=len(losses), epochs=epochs)
  return tf.tensordot(tf.cast(shares, losses[0].dtype), losses, axes=1)
