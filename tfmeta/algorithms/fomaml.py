"""First-order MAML (Finn, Abbeel, Levine, 2017, section 5.2)."""

from typing import Any

import keras

from tfmeta.algorithms import maml


@keras.saving.register_keras_serializable("tfmeta")
class FOMAML(maml.MAML):
  """MAML without second derivatives.

  The query loss is differentiated at the adapted weights, and that gradient is
  applied to the initial ones: the gradients of the inner loop are taken for
  constants [1, section 5.2]. It saves time, and the memory for differentiating
  through the steps.

  Differences from the authors' code: those of `MAML`.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`.
    **kwargs: Those of `MetaLearner`.

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017.
        https://arxiv.org/abs/1703.03400
  """

  def __init__(self, model: keras.Model, **kwargs: Any):
    super().__init__(model, first_order=True, **kwargs)

  def get_config(self) -> dict[str, Any]:
    config = super().get_config()
    del config["first_order"]
    return config
