"""iMAML (Rajeswaran, Finn, Kakade, Levine, 2019)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.algorithms import meta_learner
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import conjugate_gradient as cg
from tfmeta.core import functional
from tfmeta.core import inner_loop
from tfmeta.typing import SupportLoss
from tfmeta.typing import Weights


@keras.saving.register_keras_serializable("tfmeta")
class IMAML(meta_learner.MetaLearner):
  """Meta-learner whose outer gradient does not depend on the inner steps taken.

  The inner loop minimizes the support loss and the squared distance to the
  initial weights [1]:

      phi = argmin over w of support_loss(w) + regularization / 2 |w - theta|^2

  At the minimum, the derivative of phi with respect to theta is known, so the
  outer gradient needs phi alone. It solves a system of linear equations, in
  which H is the Hessian of the support loss at phi:

      (I + H / regularization) gradient = grad(query_loss)(phi)

  Conjugate gradients solve it by products with H. Memory and time of the outer
  gradient therefore do not grow with the number of inner steps. The gradient is
  exact if the inner loop and the conjugate gradients have converged.

  Differences from the authors' code:
    - The code takes its inner steps without the distance and makes up for it
      in one step at the end. Here, each step descends on both terms, as in the
      paper.
    - The code damps the system: its matrix is `2 I + H / (regularization +
      10)`. Here, nothing is damped unless `damping` is set.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`; for classification,
      `[n, W]` logits.
    regularization: Float > 0. Weight of the distance to the initial weights
      (lambda in the paper). Defaults to 2.0.
    cg_iterations: Integer >= 1. Largest number of iterations of the conjugate
      gradients. Defaults to 5.
    damping: Float >= 0. Added to the diagonal of the system. It helps if the
      support loss curves downward at phi. Defaults to 0.0.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. Defaults to 16.
    inner_learning_rate: Float > 0. Step size of the inner loop. Defaults to
      0.01.
    eval_inner_steps: Integer >= 0. Number of inner steps in `evaluate`,
      `predict`, `adapt` and exported models. Defaults to `inner_steps`.
    inner_loss: A Keras loss, its name, or a function `(y, y_pred) -> [n]`, for
      the support set and the query set. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    normalization: Which statistics batch normalization uses for query examples:
      `"transductive"`, `"support_stats"` or `"none"`. `MetaLearner` describes
      them. Defaults to `"transductive"` if the model has batch normalization,
      else to `"none"`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `inner_loss_reduction`, `task_map`,
      `clipvalue`, `clipnorm`, and `name` and `dtype` of the Keras model.

  Raises:
    ValueError: If an argument is out of range.

  References:
    [1] A. Rajeswaran, C. Finn, S. Kakade, S. Levine. Meta-Learning with
        Implicit Gradients. NeurIPS 2019. https://arxiv.org/abs/1909.04630
    Released code: https://github.com/aravindr93/imaml_dev
  """

  takes_weights = True

  def __init__(
    self,
    model: keras.Model,
    *,
    regularization: float = 2.0,
    cg_iterations: int = 5,
    damping: float = 0.0,
    inner_steps: int = 16,
    inner_learning_rate: float = 0.01,
    eval_inner_steps: int | None = None,
    inner_loss: Any = None,
    normalization: str | None = None,
    seed: int = 0,
    **kwargs: Any,
  ):
    super().__init__(
      model,
      inner_steps=inner_steps,
      inner_learning_rate=inner_learning_rate,
      eval_inner_steps=eval_inner_steps,
      inner_loss=inner_loss,
      normalization=normalization,
      seed=seed,
      **kwargs,
    )
    arguments.check_number("regularization", regularization, above=0)
    arguments.check_integer("cg_iterations", cg_iterations, least=1)
    arguments.check_number("damping", damping, least=0)
    self.regularization = regularization
    self.cg_iterations = cg_iterations
    self.damping = damping
    self.warn_if_inexact()

  def adaptation_path(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> list[Weights]:
    support_loss = self.support_loss(support_x, support_y, context)
    path = self._inner_path(support_loss, context)
    return [self.with_statistics(w, support_x, context) for w in path]

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    support_loss = self.support_loss(support_x, support_y, context)
    adapted = self._inner_path(support_loss, context)[-1]
    with tf.GradientTape() as tape:
      tape.watch(adapted)
      weights = self.with_statistics(adapted, support_x, context)
      outputs = self.predict_with(weights, query_x, context)
      loss = self.query_loss(query_y, outputs, context)
    gradients = tape.gradient(loss, adapted, unconnected_gradients="zero")
    # The gradient of an embedding is sparse, and the solver adds dense tensors.
    gradients = [tf.convert_to_tensor(g) for g in gradients]
    gradients = self._implicit_gradients(support_loss, adapted, gradients)
    # This term is zero, and its gradient is the implicit one.
    initial = functional.weights_of(self.model)
    moves = [w - tf.stop_gradient(w) for w in initial]
    moved = cg.dot(moves, [tf.stop_gradient(g) for g in gradients])
    return tf.stop_gradient(loss) + tf.cast(moved, loss.dtype), outputs

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "regularization": self.regularization,
      "cg_iterations": self.cg_iterations,
      "damping": self.damping,
    }

  def _inner_path(
    self, support_loss: SupportLoss, context: Context
  ) -> list[Weights]:
    """Returns constants: the weights before and after the inner steps."""
    initial = [tf.stop_gradient(w) for w in functional.weights_of(self.model)]

    def loss_fn(weights: Weights, step: Any) -> tf.Tensor:
      moves = [w - start for w, start in zip(weights, initial, strict=True)]
      loss = support_loss(weights, step)
      distance = tf.cast(cg.dot(moves, moves), loss.dtype)
      return loss + self.regularization / 2 * distance

    return inner_loop.gradient_path(
      loss_fn,
      initial,
      [self.inner_learning_rate] * len(initial),
      self.inner_steps_for(context),
      first_order=True,
      # Training needs the last weights alone, and a loop keeps no others.
      unroll=self.unrolls(context) and not context.training,
    )

  def _implicit_gradients(
    self, support_loss: SupportLoss, adapted: Weights, gradients: Weights
  ) -> Weights:
    """Returns the gradients with respect to the initial weights.

    Args:
      support_loss: Function of weights and a stream of random numbers.
      adapted: The adapted weights.
      gradients: The gradients of the query loss at the adapted weights.
    """
    stream = self.inner_steps_for(FIRST_STEP)
    # All products with the Hessian run backward through one pass.
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(adapted)
      slopes = inner_loop.gradients_of(
        lambda weights: support_loss(weights, stream), adapted
      )

    def product(vector: Weights) -> Weights:
      curved = tape.gradient(
        slopes,
        adapted,
        output_gradients=vector,
        unconnected_gradients="zero",
      )
      curved = [tf.convert_to_tensor(v) / self.regularization for v in curved]
      return cg.along(curved, 1 + self.damping, vector)

    solution, _ = cg.conjugate_gradient(
      product,
      gradients,
      iterations=self.cg_iterations,
      tolerance=0.0,
      # XLA has no vectorized loops whose length depends on the data.
      unroll=True,
    )
    return solution
