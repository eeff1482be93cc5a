"""How much the query loss after each inner step counts, as training goes on."""

import tensorflow as tf

# Of its equal share, what a step but the last keeps at least.
_LEAST_SHARE = 0.03


def multi_step_shares(
  epoch: tf.Tensor | int, *, steps: int, epochs: int
) -> tf.Tensor:
  """Shares of the query losses after inner steps 1 to `steps`.

  All losses count the same at first; in the course of `epochs` epochs the
  shares of all but the last shrink to 0.03 of that. Then, at once, the last
  loss alone counts. This is the schedule of the released code of MAML++ [1].

  Args:
    epoch: Integer scalar >= 0.
    steps: Integer >= 1.
    epochs: Integer >= 0. With 0, the last loss alone counts from the beginning.

  Returns:
    `[steps]` float32, not negative, with the sum 1.

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
  """The query losses after steps 1 to `len(losses)`, by their shares.

  Args:
    losses: Scalars; a single one is the last, which then counts alone.
    epoch: As in `multi_step_shares`.
    epochs: As there.
  """
  if len(losses) == 1:
    return losses[0]
  shares = multi_step_shares(epoch, steps=len(losses), epochs=epochs)
  return tf.tensordot(tf.cast(shares, losses[0].dtype), losses, axes=1)
