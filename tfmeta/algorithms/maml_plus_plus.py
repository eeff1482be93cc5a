"""MAML++ (Antoniou, Edwards, Storkey, 2019)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta import layers
from tfmeta.algorithms import maml
from tfmeta.algorithms import query_normalization
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import functional
from tfmeta.core import inner_loop
from tfmeta.core import inner_rule
from tfmeta.core import multi_step
from tfmeta.core import shared_function
from tfmeta.layers import statistics
from tfmeta.typing import Weights

# Inner steps use the streams of random numbers from 0 up: see
# `MetaLearner.state_of`.
_QUERY_STREAM = -1


@keras.saving.register_keras_serializable("tfmeta")
class MAMLPlusPlus(maml.MAML):
  """Meta-learner that extends MAML by losses, rates and slots for each step.

  Let S be `inner_steps`, `w` one tensor of the weights, and `e` the epoch. A
  slot holds the variables of normalization for one inner step [1]:

      w_0 = theta
      w_{j+1} = w_j - rate_j * grad(support_loss in slot j)(w_j)
      minimize over theta, rates, scales and shifts:  mean over tasks of
        sum over j < S of share_j(e) * (query_loss in slot j)(w_{j+1})

  Each ingredient can be switched off. With all of them off and
  `adapt_normalization` on, this learner equals `MAML`. Keras and `tfmeta` have
  the remaining ingredients: `keras.optimizers.schedules.CosineDecay` anneals
  the outer rate, `clipvalue` clips the outer gradient, and
  `tfmeta.evaluate([...], tasks)` evaluates an ensemble.

  The learner derives the epoch from the step count of the optimizer, which is
  saved with it. Set `steps_per_epoch` here to the value that `fit` gets. If you
  call `task_loss` outside of `fit`, it computes the loss of the first training
  step, and it moves the running statistics.

  Differences from the authors' code:
    - `"per_step_transductive"` follows their code: it normalizes queries by
      their own statistics. In the paper, running statistics of each step
      normalize the support set and the queries in evaluation. No choice does
      this, because the inner steps then descend on another loss than in
      training, and often ascend (see below). `"per_step_running"` uses running
      statistics for queries alone.
    - Running statistics move once per update, to their mean over its tasks. In
      their code, they move with each task and are never read.
    - With `adapt_normalization`, each slot has its own scale and shift, which
      the inner step of that slot adapts. In their code, all steps then share
      one pair.
    - `CosineDecay` lowers the outer rate with every update. In their code, the
      rate falls once per epoch.
    - Their code has one more rate for each tensor, which it never uses.
    - First-order epochs follow the paper, which reports 50 of them. The
      configurations of their code start with second order, and a setting of N
      means N + 1 epochs there.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, ...]`; for classification,
      `[n, W]` logits.
    multi_step_epochs: Integer >= 0. Number of epochs in which the query losses
      after all steps count (MSL), weighted by `tfmeta.core.multi_step_shares`.
      The authors use 15 for miniImageNet and 10 for Omniglot. Defaults to 10.
    learn_rates: Boolean. Whether each adapted tensor has a learned rate for
      each step (LSLR), which may become negative. Defaults to `True`.
    first_order_epochs: Integer >= 0. Number of first epochs in which the outer
      gradient treats inner gradients as constants (DA). Defaults to 0.
    adapt_normalization: Boolean. Whether inner steps adapt the scales and
      shifts of normalization layers. Defaults to `False`.
    steps_per_epoch: Integer >= 1. Number of training steps in one of the epochs
      above. Defaults to 500.
    inner_steps: Integer >= 1. Number of inner gradient steps per task in
      training. If rates or normalization are learned per step, evaluation takes
      at most as many. Defaults to 5.
    inner_learning_rate: Float > 0. Initial value of the learned rates, or the
      fixed rate if `learn_rates` is `False`. The authors' code always uses 0.1;
      it ignores `init_inner_loop_learning_rate` of its configurations. Defaults
      to 0.1.
    eval_inner_steps: Integer >= 0. Number of inner steps in `evaluate`,
      `predict`, `adapt` and exported models. Defaults to `inner_steps`.
    inner_loss: A Keras loss, its name, or a function `(y, y_pred) -> [n]`, for
      the support set and the query set. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    normalization: Which variables batch normalization has, and which statistics
      it uses for query examples. Inner steps always normalize the support set
      by its own statistics. With `"per_step_..."`, each step has a slot of
      scale and shift (BNWB): the forward passes before and after step j use
      slot j. `"per_step_transductive"`: the statistics of the query set itself.
      `"per_step_support"`: the statistics of the support set under the adapted
      weights, in training and evaluation. `"per_step_running"`: in evaluation,
      the moving statistics of the model, with the momentum of its layers (0.9
      in the authors' code). In training, queries are normalized by their own
      statistics, which the pass after the last step records. The other choices
      have no slots. `"transductive"` and `"support_stats"`: the same statistics
      as the first two. `"none"`: the moving statistics of the model, which
      training does not update. Defaults to `"per_step_transductive"` if the
      model has batch normalization, else to `"none"`.
    first_order: Boolean. Whether the outer gradient treats the inner gradients
      as constants. Defaults to `False`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `inner_loss_reduction`, `task_map`,
      `clipvalue`, `clipnorm`, and `name` and `dtype` of the Keras model.

  Example:
  ```python
  model = tfmeta.models.conv4((28, 28, 1), ways=20)
  learner = tfmeta.MAMLPlusPlus(model, steps_per_epoch=500)
  learner.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
  learner.fit(tasks.batch(8), steps_per_epoch=500, epochs=100)
  ```

  References:
    [1] A. Antoniou, H. Edwards, A. Storkey. How to train your MAML. ICLR 2019.
        https://arxiv.org/abs/1810.09502
    Released code: https://github.com/AntreasAntoniou/HowToTrainYourMAMLPytorch
  """

  normalizations = (
    "per_step_transductive",
    "per_step_support",
    "per_step_running",
    *query_normalization.NORMALIZATIONS,
  )

  takes_weights = True

  def __init__(
    self,
    model: keras.Model,
    *,
    multi_step_epochs: int = 10,
    learn_rates: bool = True,
    first_order_epochs: int = 0,
    adapt_normalization: bool = False,
    steps_per_epoch: int = 500,
    inner_steps: int = 5,
    inner_learning_rate: float = 0.1,
    eval_inner_steps: int | None = None,
    inner_loss: Any = None,
    normalization: str | None = None,
    first_order: bool = False,
    seed: int = 0,
    **kwargs: Any,
  ):
    arguments.check_integer("inner_steps", inner_steps, least=1)
    arguments.check_integer("multi_step_epochs", multi_step_epochs, least=0)
    arguments.check_integer("first_order_epochs", first_order_epochs, least=0)
    arguments.check_integer("steps_per_epoch", steps_per_epoch, least=1)
    super().__init__(
      model,
      inner_steps=inner_steps,
      inner_learning_rate=inner_learning_rate,
      eval_inner_steps=eval_inner_steps,
      inner_loss=inner_loss,
      normalization=normalization,
      first_order=first_order,
      seed=seed,
      **kwargs,
    )
    self.multi_step_epochs = multi_step_epochs
    self.learn_rates = learn_rates
    self.first_order_epochs = first_order_epochs
    self.adapt_normalization = adapt_normalization
    self.steps_per_epoch = steps_per_epoch
    self._per_step = self.normalization.startswith("per_step")
    self._check_steps()
    self._adapted = [
      adapt_normalization or not normalizes
      for normalizes in layers.in_normalization(model)
    ]
    self._add_slots_and_rates()
    ends = {multi_step_epochs, first_order_epochs} - {0}
    self.phase_starts = tuple(sorted(end * steps_per_epoch for end in ends))

  def adaptation_path(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    context: Context = EVALUATION,
  ) -> list[Weights]:
    path = self._descend(support_x, support_y, context)
    last = self.inner_steps_for(context)
    taken = range(len(path)) if self.unrolls(context) else (0, last)
    # Queries use the slot of the last step taken, or slot 0 before any step.
    return [
      self._for_queries(weights, max(steps - 1, 0), support_x, context)
      for weights, steps in zip(path, taken, strict=True)
    ]

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    path = self._descend(support_x, support_y, context)
    steps = self.inner_steps_for(context)
    several = self._phase_begins_before(self.multi_step_epochs, context)
    query_losses, outputs = [], tf.constant(0.0)
    running = self.normalization == "per_step_running"

    def query_loss(slot: Any, weights: Weights) -> Any:
      weights = self._for_queries(weights, slot, support_x, context)
      if running:
        outputs = self._recorded_outputs(weights, query_x, slot, context)
      else:
        outputs = self.predict_with(weights, query_x, context)
      return self.query_loss(query_y, outputs, context), outputs

    shared = inner_rule.may_share(self, [], context) and not running
    measure = shared_function.SharedFunction(query_loss)
    for slot in range(0 if several else steps - 1, steps):
      # A shared function cannot assign running statistics.
      call = measure if shared else query_loss
      loss, outputs = call(slot, path[slot + 1])
      query_losses.append(loss)
    epoch = context.step // self.steps_per_epoch
    epochs = self.multi_step_epochs
    loss = multi_step.multi_step_loss(query_losses, epoch, epochs=epochs)
    return loss, outputs

  def _check_steps(self) -> None:
    """Checks that the model and the number of steps fit the learned slots."""
    if self._per_step and not layers.has_batch_normalization(self.model):
      raise ValueError(
        f"normalization={self.normalization!r} needs a model with trainable "
        f"batch normalization. Received: model={self.model.name!r}, which has "
        "none"
      )
    learned = self._per_step or self.learn_rates
    if learned and (self.eval_inner_steps or 0) > self.inner_steps:
      raise ValueError(
        "`eval_inner_steps` must be at most `inner_steps`, because rates or "
        "normalization are learned for each inner step. Received: "
        f"eval_inner_steps={self.eval_inner_steps}, "
        f"inner_steps={self.inner_steps}"
      )

  def _add_slots_and_rates(self) -> None:
    self.slots = layers.PerStepNormalization(
      self.model,
      self.inner_steps if self._per_step else 1,
      name="slots",
    )
    variables = self.model.trainable_variables
    pairs = zip(variables, self._adapted, strict=True)
    learned = [v.path for v, adapted in pairs if adapted and self.learn_rates]
    self.learned_rates = layers.LearnedRates(
      [()] * len(learned),
      initial_rate=self.inner_learning_rate,
      names=learned,
      steps=self.inner_steps,
      dtype=variables[0].dtype,
      name="learned_rates",
    )

  def _phase_begins_before(self, epoch: int, context: Context) -> bool:
    # A phase starts where a schedule ends, so no schedule ends within a phase.
    start = (0, *self.phase_starts)[context.phase]
    return start < epoch * self.steps_per_epoch

  def _descend(
    self, support_x: tf.Tensor, support_y: tf.Tensor, context: Context
  ) -> list[Weights]:
    """Returns the weights before the first inner step and after each step."""
    support_loss = self.support_loss(support_x, support_y, context)

    def loss_fn(weights: Weights, step: Any) -> tf.Tensor:
      return support_loss(self.slots.weights_at(weights, step), step)

    early = self._phase_begins_before(self.first_order_epochs, context)
    return inner_loop.gradient_path(
      loss_fn,
      self.slots.initial_weights(self.model),
      self._rates_at,
      self.inner_steps_for(context),
      first_order=self.first_order or early,
      unroll=self.unrolls(context),
      share=inner_rule.may_share(self, [], context),
    )

  def _rates_at(self, step: Any) -> list[Any]:
    """Returns the rates of the model's weights and of the earlier slots."""
    fixed = [self.inner_learning_rate] * sum(self._adapted)
    rest = iter(self.learned_rates.at(step) or fixed)
    rates = [next(rest) if adapted else None for adapted in self._adapted]
    # A tensor in an earlier slot has the rate of the tensor that it replaces.
    return [*rates, *[rates[place] for place in self.slots.places]]

  def _for_queries(
    self, weights: Weights, slot: Any, support_x: Any, context: Context
  ) -> Weights:
    """Returns the weights that `predict_with` takes."""
    chosen = self.slots.weights_at(weights, slot)
    if self.normalization == "per_step_support":
      context = context.replace(normalization="support_stats")
    return self.with_statistics(chosen, support_x, context)

  def _recorded_outputs(
    self, weights: Weights, query_x: Any, slot: int, context: Context
  ) -> tf.Tensor:
    """Returns the outputs for queries in training, normalized by themselves.

    After the last inner step, it moves the moving statistics of the model.
    """
    outputs, state = functional.apply(
      self.model,
      weights,
      self.state_of(self.model, _QUERY_STREAM, context),
      context.examples(query_x),
      training=True,
      example_weight=context.query_weight,
    )
    if slot == self.inner_steps - 1:
      statistics.assign_moving_statistics(self.model, state)
    return outputs

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "multi_step_epochs": self.multi_step_epochs,
      "learn_rates": self.learn_rates,
      "first_order_epochs": self.first_order_epochs,
      "adapt_normalization": self.adapt_normalization,
      "steps_per_epoch": self.steps_per_epoch,
    }
