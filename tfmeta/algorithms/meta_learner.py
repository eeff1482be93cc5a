"""The base of all learners: what an algorithm writes for one task."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import export
from tfmeta import layers
from tfmeta.algorithms import losses
from tfmeta.algorithms import one_task
from tfmeta.algorithms import settings
from tfmeta.core import functional
from tfmeta.typing import Reduction
from tfmeta.typing import TaskMap
from tfmeta.typing import Weights


class MetaLearner(one_task.OneTaskModel):
  """A Keras model from a support set and query inputs to query outputs.

  Inputs are a batch of tasks, `{"support_x": [T, S, ...], "support_y": [T, S,
  ...], "query_x": [T, Q, ...]}`; outputs are `[T, Q, ...]`. Adapting to the
  support set is what the forward pass does, so `compile`, `fit`, `evaluate`,
  `predict`, `save` and callbacks are those of Keras.

  A subclass writes `adapt` for one task, without the task axis, and where its
  outer update is not the gradient of the mean query loss, `task_loss`. In both,
  `self.steps` is the number of inner steps to take and `self.task_seed` a seed
  that no other task shares. What `task_loss` assigns to a non-trainable
  variable of the learner is averaged over the tasks of the batch and assigned
  once, after the step.

  Args:
    model: A built `keras.Model` with one input and one output, `[n, ...] ->
      [n, ...]`; for classification, `[n, W]` logits.
    inner_steps: Integer >= 0. Inner steps in training.
    inner_learning_rate: Float > 0. Step size of the inner loop.
    eval_inner_steps: Integer >= 0. Inner steps in `evaluate`, `predict`,
      `adapt` and in exports. Defaults to `inner_steps`.
    inner_loss: A Keras loss, its name, or a function `(y, y_pred) -> [n]`.
      Serves the support set and the query set; regularisers of the model are
      added for the initial weights alone, in `meta_loss`. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    inner_loss_reduction: `"mean"` over the support examples, `"sum"`, or
      `"sum_over_ways"` (the sum divided by the shots), because published inner
      learning rates differ by these factors. The query loss is always a mean.
    normalization: Which statistics batch normalisation uses for query examples.
      `"transductive"`: those of the query batch itself, as most authors' code
      does; a prediction then depends on the other queries in the call.
      `"support_stats"`: those of the support set under the adapted weights.
      `"none"`: the model's own moving statistics, which nothing here updates:
      for models without batch normalisation or with a frozen one. Defaults to
      `"transductive"` if the model has batch normalisation, else `"none"`. The
      support set is always normalised by its own statistics. Only under
      `"transductive"` does `Dropout` stay active in predictions.
    task_map: How tasks are batched: `"map"`, `"vectorize"`, `"unroll"` (see
      `tfmeta.core.map_tasks`) or `"auto"`, which picks one of the first two.
    seed: Integer. With the step and the index of the task it determines all
      random draws.
    clipvalue: Float > 0, to which each element of the outer gradient of a batch
      is held, over all replicas (an optimizer of Keras clips the part of each)
      and before an optimizer accumulates it. `None`, the default, is no bound.
    clipnorm: The same for the norm of each tensor of it, after the elements.
    **kwargs: Forwarded to `keras.Model` (`name`, `dtype`, `trainable`).

  Raises:
    TypeError: If `model` is not a Keras model.
    ValueError: If `model` is not built, has several inputs or outputs or
      computes in float16, or if a setting is out of range.
  """

  # The default is the first, for models with batch normalisation.
  normalizations: tuple[str, ...] = settings.NORMALIZATIONS

  def __init__(
    self,
    model: keras.Model,
    *,
    inner_steps: int = 1,
    inner_learning_rate: float = 0.01,
    eval_inner_steps: int | None = None,
    inner_loss: Any = None,
    inner_loss_reduction: Reduction = "mean",
    normalization: str | None = None,
    task_map: TaskMap = "auto",
    seed: int = 0,
    clipvalue: float | None = None,
    clipnorm: float | None = None,
    **kwargs: Any,
  ):
    settings.check_model(model)
    settings.check_steps("inner_steps", inner_steps)
    settings.check_rate("inner_learning_rate", inner_learning_rate)
    settings.check_reduction(inner_loss_reduction)
    settings.check_task_map(task_map)
    settings.check_seed(seed)
    settings.check_bound("clipvalue", clipvalue)
    settings.check_bound("clipnorm", clipnorm)
    # Keras would cast regression targets in the inputs to the compute type.
    super().__init__(autocast=False, **kwargs)
    self.model = model
    self.inner_steps = inner_steps
    self.inner_learning_rate = inner_learning_rate
    if eval_inner_steps is not None:
      settings.check_steps("eval_inner_steps", eval_inner_steps)
    self.eval_inner_steps = eval_inner_steps
    self.inner_loss = losses.resolve_loss(inner_loss)
    losses.warn_of_probabilities(self.inner_loss, model)
    self.inner_loss_reduction = inner_loss_reduction
    self.normalization = settings.resolve_normalization(
      normalization, model, self.normalizations
    )
    self.task_map = task_map
    self.seed = seed
    self.clipvalue = clipvalue
    self.clipnorm = clipnorm
    if type(self).task_loss is not MetaLearner.task_loss or model.losses:
      self.meta_loss_tracker = keras.metrics.Mean("meta_loss")
    # All weights exist: without this a reload drops the optimizer's slots.
    self.built = True

  def adapt(self, support_x: tf.Tensor, support_y: tf.Tensor) -> Any:
    """Adapts to the support set of one task.

    Args:
      support_x: `[S, ...]`.
      support_y: `[S, ...]`.

    Returns:
      What `predict_with` takes: tensors in the order of
      `model.trainable_variables` (under `"support_stats"` followed by those of
      `model.non_trainable_variables`), or the algorithm's own structure.
    """
    raise NotImplementedError(f"{type(self).__name__} must define `adapt`")

  def adaptation_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Any]:
    """Weights of one task before adapting, after it, and possibly between.

    Returns:
      A list of what `adapt` returns; its last item is `adapt`'s. It has one
      item for each of the inner steps where the algorithm tells them apart.
    """
    initial = functional.weights_of(self.model)
    return [
      self.with_statistics(initial, support_x),
      self.adapt(support_x, support_y),
    ]

  def predict_with(self, weights: Any, x: tf.Tensor) -> tf.Tensor:
    """Outputs `[n, ...]` of the model for examples `x` under `weights`."""
    count = len(self.model.trainable_variables)
    # No inner step draws from this stream: they count from 0.
    state = weights[count:] or self.state_of(self.model, -1)
    outputs, _ = functional.apply(
      self.model,
      weights[:count],
      state,
      x,
      training=self.transductive,
    )
    return outputs

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Scalar of one task that training minimises, and its query outputs."""
    with self.in_training():
      weights = self.adapt(support_x, support_y)
    outputs = self.predict_with(weights, query_x)
    return functional.reduced_loss(self.inner_loss, query_y, outputs), outputs

  @property
  def transductive(self) -> bool:
    """Whether a prediction depends on the other queries of its task."""
    return self.normalization in ("transductive", "per_step_transductive")

  def to_model(self, weights: Weights) -> keras.Model:
    """A plain Keras model that predicts as `predict_with(weights, x)` does.

    Under `"transductive"` its batch normalisation uses the statistics of the
    batch in `predict` too. `Dropout` is inactive there, as in any Keras model.

    Args:
      weights: What `adapt` returned.

    Raises:
      ValueError: If `weights` are not as many as `adapt` returns, or if `model`
        cannot be made again from its configuration.
    """
    trainable = len(self.model.trainable_variables)
    counts = (trainable, trainable + len(self.model.non_trainable_variables))
    if len(weights) not in counts:
      raise ValueError(
        f"`weights` must be what `adapt` returned, {counts[0]} tensors, or "
        f"{counts[1]} with statistics. Received: {len(weights)} tensors"
      )
    if self.transductive:
      copy = layers.transductive(self.model)
    else:
      copy = keras.models.clone_model(self.model)
      copy.set_weights(self.model.get_weights())
    variables = copy.trainable_variables + copy.non_trainable_variables
    for variable, value in zip(variables, weights, strict=False):
      variable.assign(value)
    return copy

  def export(
    self, filepath: Any, format: str = "tf_saved_model", **kwargs: Any
  ) -> Any:
    """Writes a SavedModel that adapts and predicts without this library.

    Its signatures are `serving_default(support_x, support_y, query_x)`, `adapt(
    support_x, support_y)` and `predict(query_x, **adapted)`; any number of
    tasks, shots and queries may be given. See `tfmeta.export`.
    """
    if format != "tf_saved_model" or kwargs.get("input_signature") is not None:
      return super().export(filepath, format=format, **kwargs)
    return export.export_saved_model(self, filepath)

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "model": keras.saving.serialize_keras_object(self.model),
      "inner_steps": self.inner_steps,
      "inner_learning_rate": self.inner_learning_rate,
      "eval_inner_steps": self.eval_inner_steps,
      "inner_loss": keras.saving.serialize_keras_object(self.inner_loss),
      "inner_loss_reduction": self.inner_loss_reduction,
      "normalization": self.normalization,
      "task_map": self.task_map,
      "seed": self.seed,
      "clipvalue": self.clipvalue,
      "clipnorm": self.clipnorm,
    }

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "MetaLearner":
    config = dict(config)
    for key in ("model", "inner_loss"):
      config[key] = keras.saving.deserialize_keras_object(config[key])
    return cls(**config)
