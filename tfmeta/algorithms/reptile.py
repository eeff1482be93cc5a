"""Reptile (Nichol, Achiam, Schulman, 2018)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import meta_learner
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import functional
from tfmeta.core import inner_loop
from tfmeta.core import inner_rule
from tfmeta.typing import Weights


@keras.saving.register_keras_serializable("tfmeta")
class Reptile(meta_learner.MetaLearner):
  """Meta-learner that moves its initial weights toward the adapted weights.

  Reptile needs no second derivatives and no query set [1]:

      weights = inner_steps mini-batch steps on the support set from theta
      theta = theta + epsilon * mean over tasks of (weights - theta)

  The second line is a step of the outer optimizer on `meta_loss`. This loss is
  half the squared distance between `theta` and the adapted weights, so its
  gradient is `theta - weights`. `keras.optimizers.SGD(epsilon)` makes the
  update of the paper, and a schedule such as `PolynomialDecay(1.0, steps, 0.0)`
  anneals `epsilon`. A batch of one task gives the serial version of Reptile; a
  larger batch gives the batched version. Training usually has more shots than
  the test. To do the same, pass tasks of another `TaskSpec` to `fit`.

  Differences from the authors' code:
    - All tasks of a batch start with the same second moments of Adam, and the
      learner keeps the mean of their final values. In the authors' code, the
      moments pass from task to task. Batches of one task do the same here.
    - If predictions must not depend on other queries, set
      `normalization="support_stats"`. The authors instead put each query into a
      batch with the support set.
    - The authors' inner loss is a sum over the mini-batch. With Adam, this
      factor cancels, up to `epsilon`. With `"sgd"`, set
      `inner_loss_reduction="sum"`.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`; for classification,
      `[n, W]` logits.
    inner_optimizer: `"adam"` (default) or `"sgd"`. Adam has `beta_1 = 0`. Its
      second moments and step count persist over tasks and training steps, as in
      the released code.
    support_batch_size: Integer >= 1. Number of support examples in each inner
      step. They are sampled without replacement. If the support set is
      exhausted, sampling starts anew. Defaults to the whole support set.
    inner_steps: Integer >= 0. Number of inner gradient steps per task in
      training. Defaults to 1.
    inner_learning_rate: Float > 0. Step size of the inner loop. Defaults to
      0.01.
    eval_inner_steps: Integer >= 0. Number of inner steps in `evaluate`,
      `predict`, `adapt` and exported models. Defaults to `inner_steps`.
    inner_loss: A Keras loss, its name, or a function `(y, y_pred) -> [n]`, for
      the support set and the query set. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    normalization: Which statistics batch normalization uses for query examples.
      `"transductive"`: the statistics of the query set itself.
      `"support_stats"`: the statistics of the support set under the adapted
      weights. `"none"`: the moving statistics of the model, which training does
      not update. Defaults to `"transductive"` if the model has batch
      normalization, else to `"none"`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `inner_clipnorm`,
      `inner_loss_reduction`, `task_map`, `clipvalue`, `clipnorm`, and `name`
      and `dtype` of the Keras model.

  References:
    [1] A. Nichol, J. Achiam, J. Schulman. On First-Order Meta-Learning
        Algorithms. 2018. https://arxiv.org/abs/1803.02999
    Released code: https://github.com/openai/supervised-reptile
  """

  takes_weights = True
  inner_options = inner_rule.FIRST_ORDER_NAMES

  def __init__(
    self,
    model: keras.Model,
    *,
    inner_optimizer: str = "adam",
    support_batch_size: int | None = None,
    inner_steps: int = 1,
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
      inner_optimizer=inner_optimizer,
      support_batch_size=support_batch_size,
      **kwargs,
    )
    self.second_moments: list[keras.Variable] = []
    self.adam_count: keras.Variable | None = None
    if inner_optimizer == "adam":
      self._add_adam_slots()

  def adaptation_path(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> list[Weights]:
    path = self._run(support_x, support_y, context)
    return [self.with_statistics(w, support_x, context) for w, _ in path]

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    weights, slots = self._run(support_x, support_y, context)[-1]
    self._keep(slots)
    # The adapted weights are constants, so the gradient is `theta - w`.
    distances = [
      tf.reduce_sum(tf.math.squared_difference(theta, tf.stop_gradient(w)))
      for theta, w in zip(
        functional.weights_of(self.model), weights, strict=True
      )
    ]
    weights = self.with_statistics(weights, support_x, context)
    outputs = self.predict_with(weights, query_x, context)
    return tf.add_n(distances) / 2, outputs

  def _run(
    self, support_x: tf.Tensor, support_y: tf.Tensor, context: Context
  ) -> list[Any]:
    """Returns `(weights, state of Adam)` before and after the inner steps."""
    loss_fn = self.support_loss(support_x, support_y, context)
    rule = inner_rule.rule_of(self, beta_1=0.0, epsilon=1e-8)
    initial = functional.weights_of(self.model)
    rates = [self.inner_learning_rate] * len(initial)
    return inner_loop.run_inner_loop(
      lambda step, carry: rule.step(
        lambda w: loss_fn(w, step), carry, rates, first_order=True
      ),
      (initial, self._slots()),
      self.inner_steps_for(context),
      unroll=self.unrolls(context),
    )

  def _add_adam_slots(self) -> None:
    self.second_moments = [
      self._add_slot(f"second_moment_{index}", variable.shape, variable.dtype)
      for index, variable in enumerate(self.model.trainable_variables)
    ]
    self.adam_count = self._add_slot("adam_count", (), "float32")

  def _add_slot(self, name: str, shape: Any, dtype: str) -> keras.Variable:
    return self.add_weight(
      name=name,
      shape=shape,
      dtype=dtype,
      initializer="zeros",
      trainable=False,
      aggregation="mean",
    )

  def _slots(self) -> Any:
    if self.adam_count is None:
      return ()
    second = [tf.convert_to_tensor(v) for v in self.second_moments]
    # With `beta_1 = 0`, a first moment is the last gradient, so none is kept.
    first = [tf.zeros_like(v) for v in second]
    count = tf.convert_to_tensor(self.adam_count)
    return inner_loop.AdamState(count, first, second)

  def _keep(self, slots: Any) -> None:
    """Assigns the state of Adam, which `MetaLearner` averages over tasks."""
    if self.adam_count is None:
      return
    self.adam_count.assign(slots.count)
    pairs = zip(self.second_moments, slots.second_moments, strict=True)
    for variable, value in pairs:
      variable.assign(value)
