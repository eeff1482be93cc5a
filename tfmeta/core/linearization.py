"""A function near one point: products of its Jacobian with vectors."""

from collections.abc import Callable

import tensorflow as tf

from tfmeta.typing import Weights


class Linearization:
  """A function near one point, whose products share one pass through it.

  Both products are gradients: `J' u` is the gradient of `u . f`, and it is
  linear in u, so that its own gradient with respect to u, in the direction v,
  is `J v`. All products run backward through the tensors of the pass that the
  constructor makes, also those in the body of a `tf.while_loop`. A
  `tf.autodiff.ForwardAccumulator` would repeat the pass for each `J v`.

  Args:
    fn: Maps a list of tensors to a tensor.
    start: The point, a list of tensors.

  Attributes:
    outputs: The value of `fn` at the point.
  """

  def __init__(self, fn: Callable[[Weights], tf.Tensor], start: Weights):
    self._start = start
    self._tape = tf.GradientTape(persistent=True)
    with self._tape:
      self._tape.watch(start)
      self.outputs = fn(start)
    # The value does not matter, because the products are linear.
    self._cotangent = tf.zeros_like(self.outputs)
    self._transposed = tf.GradientTape(persistent=True)
    with self._transposed:
      self._transposed.watch(self._cotangent)
      self._pulled = self.pull(self._cotangent)

  def push(self, vector: Weights) -> tf.Tensor:
    """Returns `J v`, shaped as the outputs.

    Args:
      vector: One tensor v for each tensor of the point.
    """
    return self._transposed.gradient(
      self._pulled,
      self._cotangent,
      output_gradients=vector,
      unconnected_gradients="zero",
    )

  def pull(self, cotangent: tf.Tensor) -> Weights:
    """Returns `J' u`, one tensor for each tensor of the point.

    Args:
      cotangent: The tensor u, shaped as the outputs.
    """
    gradients = self._tape.gradient(
      self.outputs,
      self._start,
      output_gradients=cotangent,
      unconnected_gradients="zero",
    )
    # The gradient of an embedding is sparse, and callers add dense tensors.
    return [tf.convert_to_tensor(g) for g in gradients]
