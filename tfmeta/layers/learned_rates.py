"""Step sizes of the inner loop that the outer loop learns."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfmeta")
class LearnedRates(keras.layers.Layer):
  """Inner learning rates as weights: any choice of which share one.

  Trained with the weights they step in, they may become zero or negative, and
  then turn the direction of a step. With `shapes` those of the weights, each
  entry has a rate of its own (Meta-SGD [1]); with `()` for each weight and
  `steps`, each tensor has one in each inner step (LSLR of MAML++ [2]).

  Args:
    shapes: A shape for the rates of each adapted weight, to which they
      broadcast.
    initial_rate: Float. What all rates begin with.
    names: A name for each of `shapes`, to tell them by in logs and pictures;
      their numbers by default.
    steps: Integer >= 1, the inner steps that have rates of their own; `None`
      (default) for the same rates in all steps.
    **kwargs: Forwarded to `keras.layers.Layer`.

  Attributes:
    rates: One variable for each of `shapes`: of that shape, after an axis
      `[steps]` if there are steps.

  References:
    [1] Z. Li, F. Zhou, F. Chen, H. Li. Meta-SGD: Learning to Learn Quickly for
        Few-Shot Learning. 2017. https://arxiv.org/abs/1707.09835
    [2] A. Antoniou, H. Edwards, A. Storkey. How to train your MAML. ICLR 2019.
        https://arxiv.org/abs/1810.09502
  """

  def __init__(
    self,
    shapes: Sequence[Sequence[int]],
    *,
    initial_rate: float,
    names: Sequence[str] | None = None,
    steps: int | None = None,
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    self.shapes = [tuple(shape) for shape in shapes]
    self.names = list(names or map(str, range(len(self.shapes))))
    self.initial_rate = initial_rate
    self.steps = steps
    leading = () if steps is None else (steps,)
    self.rates = [
      self.add_weight(
        shape=(*leading, *shape),
        initializer=keras.initializers.Constant(initial_rate),
        name=name.replace("/", "_"),
        autocast=False,
      )
      for name, shape in zip(self.names, self.shapes, strict=True)
    ]
    self.built = True

  def at(self, step: tf.Tensor | int) -> list[tf.Tensor]:
    """The rates of inner step `step`, counted from 0, one for each weight."""
    rates = [tf.convert_to_tensor(rate) for rate in self.rates]
    return rates if self.steps is None else [rate[step] for rate in rates]

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "shapes": self.shapes,
      "initial_rate": self.initial_rate,
      "names": self.names,
      "steps": self.steps,
    }
