"""Reptile (Nichol, Achiam, Schulman, 2018)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import meta_learner
from tfmeta.algorithms import settings
from tfmeta.core import functional
from tfmeta.core import inner_loop
from tfmeta.typing import Weights

INNER_OPTIMIZERS = ("adam", "sgd")


@keras.saving.register_keras_serializable("tfmeta")
class Reptile(meta_learner.MetaLearner):
  """Moves the initial weights towards the weights that adapting ends with.

  No second derivatives and no query set are needed [1]:

      weights = inner_steps mini-batch steps on the support set from theta
      theta = theta + epsilon * mean over tasks of (weights - theta)

  The second line is a step of the outer optimizer on `meta_loss`, half the
  squared distance to the adapted weights, whose gradient is `theta - weights`:
  `keras.optimizers.SGD(epsilon)` is the paper's update, with a schedule such as
  `PolynomialDecay(1.0, steps, 0.0)` to anneal `epsilon`. Batches of one task
  are the serial version, larger ones the batched version. Training usually has
  more shots than the test: give `fit` tasks of another `TaskSpec`.

  Differences from the authors' code:
    - Within a batch of tasks each one begins with the same second moments of
      Adam, and their mean is kept; theirs go from task to task. Batches of one
      task do as theirs.
    - Non-transductive predictions use `normalization="support_stats"`; theirs
      puts each query into a batch with the support set.
    - Their inner loss is a sum over the mini-batch; Adam does not see the
      difference, for `"sgd"` choose `inner_loss_reduction="sum"`.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`.
    inner_optimizer: `"adam"`, with beta_1 = 0 and second moments and step
      count that persist over tasks and training, as released; or `"sgd"`.
    support_batch_size: Integer. Examples per inner step, drawn without
      replacement until the support set is exhausted, then anew. Defaults to
      the whole support set.
    **kwargs: Those of `MetaLearner`.

  References:
    [1] A. Nichol, J. Achiam, J. Schulman. On First-Order Meta-Learning
        Algorithms. 2018. https://arxiv.org/abs/1803.02999
    Released code: https://github.com/openai/supervised-reptile
  """

  def __init__(
    self,
    model: keras.Model,
    *,
    inner_optimizer: str = "adam",
    support_batch_size: int | None = None,
    **kwargs: Any,
  ):
    settings.check_choice("inner_optimizer", inner_optimizer, INNER_OPTIMIZERS)
    if support_batch_size is not None:
      settings.check_positive("support_batch_size", support_batch_size)
    super().__init__(model, **kwargs)
    self.inner_optimizer = inner_optimizer
    self.support_batch_size = support_batch_size
    self.second_moments: list[keras.Variable] = []
    self.adam_count: keras.Variable | None = None
    if inner_optimizer == "adam":
      self._add_adam_slots()

  def adapt(self, support_x: tf.Tensor, support_y: tf.Tensor) -> Weights:
    return self.adaptation_path(support_x, support_y)[-1]

  def adaptation_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    path = self._run(support_x, support_y)
    return [self.with_statistics(w, support_x) for w, _ in path]

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    with self.in_training():
      weights, slots = self._run(support_x, support_y)[-1]
    self._keep(slots)
    distances = [
      tf.reduce_sum(tf.math.squared_difference(theta, tf.stop_gradient(w)))
      for theta, w in zip(
        functional.weights_of(self.model), weights, strict=True
      )
    ]
    weights = self.with_statistics(weights, support_x)
    return tf.add_n(distances) / 2, self.predict_with(weights, query_x)

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "inner_optimizer": self.inner_optimizer,
      "support_batch_size": self.support_batch_size,
    }

  def _run(self, support_x: tf.Tensor, support_y: tf.Tensor) -> list[Any]:
    """The inner loop: `(weights, state of Adam)` before, between, after."""
    support_x, support_y = self.checked_support(support_x, support_y)
    batches = self._batches(tf.shape(support_x)[0])

    def step_fn(step: Any, carry: Any) -> Any:
      x, y = support_x, support_y
      if batches is not None:
        x, y = tf.gather(x, batches[step]), tf.gather(y, batches[step])
      loss_fn = self.support_loss(x, y)
      return self._step(lambda w: loss_fn(w, step), carry)

    carry = (functional.weights_of(self.model), self._slots())
    return inner_loop.run_inner_loop(
      step_fn, carry, self.steps, unroll=self.unroll
    )

  def _step(self, loss_fn: Any, carry: Any) -> Any:
    weights, slots = carry
    rate = self.inner_learning_rate
    if self.inner_optimizer == "adam":
      return inner_loop.adam_step(
        loss_fn, weights, slots, learning_rate=rate, beta_1=0.0
      )
    rates = [rate] * len(weights)
    weights = inner_loop.gradient_step(
      loss_fn, weights, rates, first_order=True
    )
    return weights, slots

  def _batches(self, examples: tf.Tensor) -> tf.Tensor | None:
    """Indices `[steps, b]` of the mini-batches; None for the whole set."""
    if self.support_batch_size is None or self.steps == 0:
      return None
    size = tf.minimum(self.support_batch_size, examples)
    epochs = (self.steps * size - 1) // examples + 1
    # Integers, because floats of one seed differ between graphs and XLA.
    noise = tf.random.stateless_uniform(
      [epochs, examples],
      self.task_seed,
      minval=None,
      maxval=None,
      dtype=tf.int32,
      alg="philox",
    )
    order = tf.reshape(tf.argsort(noise, axis=-1), [-1])
    return tf.reshape(order[: self.steps * size], [self.steps, size])

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
    first = [tf.zeros_like(v) for v in second]
    count = tf.convert_to_tensor(self.adam_count)
    return inner_loop.AdamState(count, first, second)

  def _keep(self, slots: Any) -> None:
    """Lets the state of Adam persist: see `MetaLearner` on assigning."""
    if self.adam_count is None:
      return
    self.adam_count.assign(slots.count)
    pairs = zip(self.second_moments, slots.second_moments, strict=True)
    for variable, value in pairs:
      variable.assign(value)
