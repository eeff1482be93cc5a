"""MAML (Finn, Abbeel, Levine, 2017)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import meta_learner
from tfmeta.typing import Weights


@keras.saving.register_keras_serializable("tfmeta")
class MAML(meta_learner.MetaLearner):
  """Learns initial weights from which a few gradient steps solve a new task.

  For each task, `inner_steps` gradient steps on the support loss give adapted
  weights, and their loss on the query set is differentiated with respect to
  the initial weights `theta`, through the steps [1]:

      weights = theta
      repeat inner_steps times:
        weights = weights - inner_learning_rate * grad(support_loss)(weights)
      minimise over theta:  mean over tasks of query_loss(weights)

  Differences from the authors' code:
    - The inner loss is a mean over the support examples; theirs is the sum
      over them divided by the shots. `inner_loss_reduction="sum_over_ways"`
      gives theirs; with `"mean"`, multiply their rate by the ways.
    - All trainable weights are adapted, those of normalisation layers too;
      theirs has no scale there, and a shift that is learned but not adapted.
      `ANIL(model, adapted=...)` chooses otherwise.
    - The outer gradient is not clipped; `clipvalue=10` is theirs for
      miniImageNet.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`.
    first_order: Boolean. Whether the gradients of the inner loop are taken for
      constants by the outer one. `FOMAML` is this learner with True.
    **kwargs: Those of `MetaLearner`: `inner_steps`, `inner_learning_rate`
      (alpha in the paper), and so on.

  Example:
  ```python
  learner = tfmeta.MAML(tfmeta.models.conv4((28, 28, 1), ways=5),
                        inner_steps=1, inner_learning_rate=0.4)
  learner.compile(optimizer=keras.optimizers.Adam(1e-3), metrics=["accuracy"])
  learner.fit(tasks.batch(32), steps_per_epoch=500, epochs=10)
  ```

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017.
        https://arxiv.org/abs/1703.03400
    Released code: https://github.com/cbfinn/maml
  """

  def __init__(
    self, model: keras.Model, *, first_order: bool = False, **kwargs: Any
  ):
    super().__init__(model, **kwargs)
    self.first_order = first_order
    if not first_order:
      self.warn_if_inexact()

  def adapt(self, support_x: tf.Tensor, support_y: tf.Tensor) -> Weights:
    return self.adaptation_path(support_x, support_y)[-1]

  def adaptation_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    rates = [self.inner_learning_rate] * len(self.model.trainable_variables)
    return self.descend(
      support_x, support_y, rates, first_order=self.first_order
    )

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "first_order": self.first_order}
