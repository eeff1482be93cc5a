"""Inner learning rates that the outer loop learns."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfmeta")
class LearnedRates(keras.layers.Layer):
  """Layer that holds inner learning rates as trainable weights.

  The shape of a rate decides which entries of a weight share it. If `shapes`
  are the shapes of the weights, each entry has a rate of its own, as in
  Meta-SGD [1]. If all of them are `()` and `steps` is given, each weight has
  one rate for each inner step, as in MAML++ (LSLR [2]). A learned rate may
  become negative, which reverses the step.

  Args:
    shapes: A shape for each adapted weight. Its rates have this shape and
      broadcast to the weight.
    initial_rate: Float. The initial value of all rates.
    names: A name for each of `shapes`, which logs and plots show. Defaults to
      their indices.
    steps: Integer >= 1. Number of inner steps, each of which has rates of its
      own. Defaults to `None`: all steps share their rates.
    **kwargs: Forwarded to `keras.layers.Layer`.

  Attributes:
    rates: One variable for each of `shapes`, of that shape; with `steps`, its
      first axis counts the steps.

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
      # Rates stay in full precision: autocasting would round small ones.
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
    """Returns a rate for each weight in inner step `step`, counted from 0."""
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
