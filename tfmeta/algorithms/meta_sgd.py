"""Meta-SGD (Li, Zhou, Chen, Li, 2017)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import layers
from tfmeta.algorithms import meta_learner
from tfmeta.typing import Weights


@keras.saving.register_keras_serializable("tfmeta")
class MetaSGD(meta_learner.MetaLearner):
  """MAML that also learns the inner learning rate of every single weight.

  The rates have the shapes of the weights, are learned with them by the outer
  optimizer, and give the direction of a step as well as its length [1]:

      weights = theta - rates * grad(support_loss)(theta)
      minimise over theta and rates:  mean over tasks of query_loss(weights)

  Differences from the paper (the authors published no code):
    - All rates begin at `inner_learning_rate`; in the paper at one value drawn
      from [0.005, 0.1].
    - More than one inner step is possible; each uses the same rates.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`.
    first_order: Boolean. Whether the gradients of the inner loop are taken for
      constants by the outer one; the rates are learned all the same.
    **kwargs: Those of `MetaLearner`; `inner_learning_rate` is what the rates
      begin with.

  References:
    [1] Z. Li, F. Zhou, F. Chen, H. Li. Meta-SGD: Learning to Learn Quickly for
        Few-Shot Learning. 2017. https://arxiv.org/abs/1707.09835
  """

  def __init__(
    self, model: keras.Model, *, first_order: bool = False, **kwargs: Any
  ):
    super().__init__(model, **kwargs)
    self.first_order = first_order
    variables = model.trainable_variables
    self.learned_rates = layers.LearnedRates(
      [variable.shape for variable in variables],
      initial_rate=self.inner_learning_rate,
      names=[variable.path for variable in variables],
      dtype=variables[0].dtype,
      name="learned_rates",
    )
    if not first_order:
      self.warn_if_inexact()

  def adapt(self, support_x: tf.Tensor, support_y: tf.Tensor) -> Weights:
    return self.adaptation_path(support_x, support_y)[-1]

  def adaptation_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    return self.descend(
      support_x,
      support_y,
      self.learned_rates.at,
      first_order=self.first_order,
    )

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "first_order": self.first_order}
