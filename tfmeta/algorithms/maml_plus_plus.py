"""MAML++ (Antoniou, Edwards, Storkey, 2019)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import layers
from tfmeta.algorithms import maml
from tfmeta.algorithms import settings
from tfmeta.core import functional
from tfmeta.core import inner_loop
from tfmeta.core import multi_step
from tfmeta.typing import Weights

# For each moving statistic, its values in all slots.
_Moving = list[list[tf.Tensor]]


@keras.saving.register_keras_serializable("tfmeta")
class MAMLPlusPlus(maml.MAML):
  """MAML with losses, rates and normalisation for each inner step.

  With S = `inner_steps`, w one tensor of the weights and e the epoch [1]:

      w_0 = theta
      w_{j+1} = w_j - rate_j * grad(support_loss in slot j)(w_j)
      minimise over theta, rates, scales and shifts:  mean over tasks of
        sum over j < S of share_j(e) * (query_loss in slot j)(w_{j+1})

  Each ingredient is a switch; with all of them off and `adapt_normalization`
  on, this is `MAML`. The annealed outer rate is Keras's `CosineDecay`, clipping
  the optimizer's `clipvalue`, the ensemble `tfmeta.evaluate([...], tasks)`.
  Epochs are counted by the steps of the optimizer, and so saved with it: give
  `steps_per_epoch` here what `fit` is given. `task_loss` called outside of
  `fit` is that of the first step, and moves running statistics as there.

  Differences from the authors' code:
    - `"per_step_transductive"` is what their code does: queries are normalised
      by their own statistics. `"per_step_running"` is the paper, where in
      evaluation the running statistics of a step normalise support set and
      queries; no figures were published for it.
    - Running statistics move once per update, to the mean over its tasks;
      theirs with each task.
    - With `adapt_normalization`, each slot has a scale and shift of its own,
      which its step adapts; theirs has one pair then, for all steps.
    - Their outer rate falls once an epoch, a `CosineDecay` with every update.
    - Theirs has one more rate for each tensor, which is never used.
    - First-order epochs come from the paper (50 of them are reported); their
      configurations begin at second order, and their setting N means N + 1.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`.
    multi_step_epochs: Integer >= 0. Epochs in which the query losses after all
      steps count (MSL), by `tfmeta.core.multi_step_shares`; theirs: 15 for
      miniImageNet, 10 for Omniglot.
    learn_rates: Boolean. Whether each adapted tensor has a learned rate in each
      step (LSLR), which may become negative.
    first_order_epochs: Integer >= 0. Epochs at the beginning in which inner
      gradients are constants to the outer one (DA).
    adapt_normalization: Boolean. Whether inner steps adapt normalisation.
    steps_per_epoch: Integer >= 1. Training steps in the epochs above.
    inner_steps: Integer >= 1. Inner steps in training; and at most as many in
      evaluation, if rates or normalisation are per step.
    inner_learning_rate: Float > 0. What learned rates begin with; in their code
      0.1, whatever `init_inner_loop_learning_rate` of its configurations says.
    normalization: `"per_step_transductive"` or `"per_step_running"`, with a
      slot of scale and shift for each step (BNWB) and in the second case of
      moving statistics (BNRS), with the momentum of the layers (theirs: 0.9);
      or one of those of `MetaLearner`, which turns this off. The passes before
      and after step j use slot j. Defaults to the first if the model has batch
      normalisation, else to `"none"`.
    **kwargs: Those of `MAML`.

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
    "per_step_running",
    *settings.NORMALIZATIONS,
  )

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
    **kwargs: Any,
  ):
    settings.check_positive("inner_steps", inner_steps)
    settings.check_steps("multi_step_epochs", multi_step_epochs)
    settings.check_steps("first_order_epochs", first_order_epochs)
    settings.check_positive("steps_per_epoch", steps_per_epoch)
    kwargs["inner_learning_rate"] = inner_learning_rate
    super().__init__(model, inner_steps=inner_steps, **kwargs)
    self.multi_step_epochs = multi_step_epochs
    self.learn_rates = learn_rates
    self.first_order_epochs = first_order_epochs
    self.adapt_normalization = adapt_normalization
    self.steps_per_epoch = steps_per_epoch
    self._running = self.normalization == "per_step_running"
    self._per_step = self.normalization.startswith("per_step")
    if self._per_step:
      settings.check_batch_normalization(self.normalization, model)
    if self._per_step or learn_rates:
      settings.check_eval_steps(self.eval_inner_steps, inner_steps)
    self.slots = layers.PerStepNormalization(
      model,
      inner_steps if self._per_step else 1,
      moving=self._running,
      name="slots",
    )
    self._adapted = [
      adapt_normalization or not normalizes
      for normalizes in layers.in_normalization(model)
    ]
    pairs = zip(model.trainable_variables, self._adapted, strict=True)
    learned = [v.path for v, adapted in pairs if adapted and learn_rates]
    self.learned_rates = layers.LearnedRates(
      [()] * len(learned),
      initial_rate=inner_learning_rate,
      names=learned,
      steps=inner_steps,
      dtype=model.trainable_variables[0].dtype,
      name="learned_rates",
    )
    ends = {multi_step_epochs, first_order_epochs} - {0}
    self.phase_starts = tuple(sorted(end * steps_per_epoch for end in ends))

  def adaptation_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    moving = self.slots.initial_moving(self.model)
    path = self._descend(support_x, support_y, moving)
    taken = range(len(path)) if self.unroll else (0, self.steps)
    return [
      self._for_queries(weights, max(steps - 1, 0), support_x, moving)
      for weights, steps in zip(path, taken, strict=True)
    ]

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    moving = self.slots.initial_moving(self.model)
    losses, outputs = [], tf.constant(0.0)
    with self.in_training():
      path = self._descend(support_x, support_y, moving)
      several = self._phase_begins_before(self.multi_step_epochs)
      for slot in range(0 if several else self.steps - 1, self.steps):
        if self._per_step:
          outputs = self._pass(path[slot + 1], slot, query_x, moving, draw=-1)
        else:
          weights = self.with_statistics(path[slot + 1], support_x)
          outputs = self.predict_with(weights, query_x)
        loss = functional.reduced_loss(self.inner_loss, query_y, outputs)
        losses.append(loss)
    self.slots.assign_moving(self.model, moving)
    epoch = tf.maximum(self.task_pass.step, 0) // self.steps_per_epoch
    epochs = self.multi_step_epochs
    return multi_step.multi_step_loss(losses, epoch, epochs=epochs), outputs

  def _phase_begins_before(self, epoch: int) -> bool:
    start = (0, *self.phase_starts)[self.task_pass.phase]
    return start < epoch * self.steps_per_epoch

  def _descend(
    self, support_x: tf.Tensor, support_y: tf.Tensor, moving: _Moving
  ) -> list[Weights]:
    """The inner loop; in training, it updates `moving`."""
    support_x, support_y = self.checked_support(support_x, support_y)

    def loss_fn(weights: Weights, step: Any) -> tf.Tensor:
      outputs = self._pass(weights, step, support_x, moving, draw=step)
      return self.reduce_support(support_y, outputs)

    early = self._phase_begins_before(self.first_order_epochs)
    return inner_loop.gradient_path(
      loss_fn,
      self.slots.initial_weights(self.model),
      self._rates_at,
      self.steps,
      first_order=self.first_order or early,
      unroll=self.unroll,
    )

  def _rates_at(self, step: Any) -> list[Any]:
    """Rates of the weights of the model and of the earlier slots."""
    fixed = [self.inner_learning_rate] * sum(self._adapted)
    rest = iter(self.learned_rates.at(step) or fixed)
    rates = [next(rest) if adapted else None for adapted in self._adapted]
    return [*rates, *[rates[place] for place in self.slots.places]]

  def _pass(
    self, weights: Weights, slot: Any, x: Any, moving: _Moving, *, draw: Any
  ) -> tf.Tensor:
    """Outputs in a slot, by batch statistics or, when tested, running ones."""
    state = self.state_of(self.model, draw)
    outputs, state = functional.apply(
      self.model,
      self.slots.weights_at(weights, slot),
      self.slots.state_at(state, moving, slot),
      x,
      training=self.task_pass.training or not self._running,
    )
    if self.task_pass.training:
      self.slots.record(moving, state, slot)
    return outputs

  def _for_queries(
    self, weights: Weights, slot: int, support_x: Any, moving: _Moving
  ) -> Weights:
    """What `predict_with` takes."""
    chosen = self.slots.weights_at(weights, slot)
    if not self._running:
      return self.with_statistics(chosen, support_x)
    state = functional.state_of(self.model)
    return [*chosen, *self.slots.state_at(state, moving, slot)]

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "multi_step_epochs": self.multi_step_epochs,
      "learn_rates": self.learn_rates,
      "first_order_epochs": self.first_order_epochs,
      "adapt_normalization": self.adapt_normalization,
      "steps_per_epoch": self.steps_per_epoch,
    }
