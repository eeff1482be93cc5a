"""The variables that Keras makes when `fit` begins."""

from typing import Any

import keras


def build_for_fit(
  model: keras.Model, iterator: Any = None, data_batch: Any = None
) -> None:
  """Builds optimizer and metrics of a model that is built itself.

  Keras 3.15 would call the model symbolically, which fails under a strategy, or
  leave optimizer and metrics to make their variables in the first step, which
  is then traced twice and fails under a strategy too.

  Args:
    model: A compiled model of tasks, whose `output_shape` is that of its
      `model` attribute with a task axis before it.
    iterator: Keras's, of batches of tasks; or None.
    data_batch: A batch of tasks, where there is no iterator; or None.
  """
  if model.optimizer is not None and not model.optimizer.built:
    model.optimizer.build(model.trainable_variables)
  metrics = model._compile_metrics
  target = _target_like(iterator, data_batch)
  if metrics is None or metrics.built or target is None:
    return
  shape = (None, None, *model.model.output_shape[1:])
  outputs = keras.KerasTensor(shape, model.model.compute_dtype)
  metrics.build(keras.KerasTensor(target.shape, target.dtype), outputs)


def _target_like(iterator: Any, data_batch: Any) -> Any:
  """Shape and dtype of the targets in what Keras is about to iterate over."""
  if iterator is not None:
    data_batch = iterator.data_adapter.get_tf_dataset().element_spec
  return keras.utils.unpack_x_y_sample_weight(data_batch)[1]
