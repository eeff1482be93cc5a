"""What an algorithm has at hand for the task it is adapting to."""

from typing import Any
import warnings

import keras
import tensorflow as tf

from tfmeta import layers
from tfmeta.algorithms import settings
from tfmeta.algorithms import task_batch
from tfmeta.core import checks
from tfmeta.core import functional
from tfmeta.core import inner_loop
from tfmeta.core import random
from tfmeta.typing import LearningRates
from tfmeta.typing import State
from tfmeta.typing import SupportLoss
from tfmeta.typing import Weights


class OneTaskModel(task_batch.TaskBatchModel):
  """Inner losses, gradient descent, statistics and seeds of one task.

  Internal: derive from `MetaLearner`.
  """

  def support_loss(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> SupportLoss:
    """The inner loss of one task as a function of `(weights, step)`."""
    support_x, support_y = self.checked_support(support_x, support_y)

    def loss_fn(weights: Weights, step: Any) -> tf.Tensor:
      outputs = self.training_outputs(weights, step, support_x)
      return self.reduce_support(support_y, outputs)

    return loss_fn

  def training_outputs(
    self, weights: Weights, step: Any, x: tf.Tensor
  ) -> tf.Tensor:
    """Outputs `[S, ...]` for examples of one task, as an inner step has them.

    Random layers draw anew for each step of each task.
    """
    state = self.state_of(self.model, step)
    outputs, _ = functional.apply(self.model, weights, state, x, training=True)
    return outputs

  def state_of(self, model: keras.Model, stream: Any) -> State:
    """Non-trainable state of `model`, the learner's own or a part of it.

    Args:
      model: A built model.
      stream: Integer, which random numbers of the task random layers draw.
    """
    if not functional.is_random(model):
      return functional.state_of(model)
    seed = random.fold_in(self.task_seed, stream)
    return functional.state_of(model, seed)

  def checked_support(
    self, support_x: Any, support_y: Any
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """The support set of one task as tensors, once they have been checked.

    Raises:
      ValueError: If shapes do not fit or, in eager mode, if examples are not
        finite or labels out of range.
    """
    support_x = tf.convert_to_tensor(support_x)
    support_y = tf.convert_to_tensor(support_y)
    checks.check_rows(support_x.shape, support_y.shape, leading=0)
    shape = self.model.input_shape[1:]
    checks.check_fits("support_x", support_x.shape, shape, leading=0)
    if tf.executing_eagerly():
      checks.check_finite("support_x", support_x)
      checks.check_finite("support_y", support_y)
      return support_x, self.checked_targets(
        "Support labels", support_y, leading=0
      )
    return support_x, support_y

  def descend(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    learning_rates: LearningRates,
    *,
    initial: Weights | None = None,
    first_order: bool = False,
  ) -> list[Weights]:
    """Gradient descent on the support loss.

    Args:
      support_x: `[S, ...]`.
      support_y: `[S, ...]`.
      learning_rates: One per trainable weight, or a function from the step to
        them; tensors broadcast to a weight, and `None` keeps it.
      initial: Where to begin; by default the weights of the model.
      first_order: Whether gradients are constants to the outer gradient.

    Returns:
      The adaptation path.
    """
    path = inner_loop.gradient_path(
      self.support_loss(support_x, support_y),
      functional.weights_of(self.model) if initial is None else initial,
      learning_rates,
      self.steps,
      first_order=first_order,
      unroll=self.unroll,
    )
    return [self.with_statistics(weights, support_x) for weights in path]

  def reduce_support(self, y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Inner loss of the outputs for the support set, a scalar."""
    return functional.reduced_loss(
      self.inner_loss, y, outputs, reduction=self.inner_loss_reduction
    )

  def with_statistics(self, weights: Weights, support_x: tf.Tensor) -> Weights:
    """`weights` with the statistics that `normalization` needs for queries."""
    if self.normalization != "support_stats":
      return weights
    state = functional.state_of(self.model)
    return [
      *weights,
      *layers.support_state(self.model, weights, state, support_x),
    ]

  @property
  def steps(self) -> int:
    """Inner steps of the pass at hand: in training, or otherwise."""
    if self.task_pass.training or self.eval_inner_steps is None:
      return self.inner_steps
    return self.eval_inner_steps

  @property
  def unroll(self) -> bool:
    """Whether the inner steps at hand are few enough to be unrolled."""
    return self.task_pass.training or self.steps <= settings.MAX_UNROLLED_STEPS

  @property
  def task_seed(self) -> tf.Tensor:
    """Integer seed `[2]` of the task at hand, to fold further counters into."""
    step = tf.cast(self.task_pass.step, tf.int32)
    base = tf.stack([tf.constant(self.seed, tf.int32), step])
    seed = random.fold_in(base, self.task_pass.index)
    sample = self.task_pass.sample
    return seed if sample is None else random.fold_in(seed, sample)

  def warn_if_inexact(self) -> None:
    """Warns if a layer of the model has wrong second derivatives."""
    names = layers.inexact_layers(self.model)
    if names:
      warnings.warn(
        f"{type(self).__name__} differentiates twice, and these layers of "
        f"{self.model.name!r} have wrong second derivatives: "
        f"{', '.join(names)}. Use tfmeta.layers.exact(model), which exchanges "
        "them and keeps the weights.",
        stacklevel=3,
      )
