"""Calls of the methods of a learner that take data: arguments and errors.

Keras would run such a call forever on a data set without an end, and reports
errors in a graph with the traceback of the graph.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import functools
import inspect
import re
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import unchanged

# Data, and the argument that says how many of its batches to take.
_DATA = {
  "fit": {"x": "steps_per_epoch", "validation_data": "validation_steps"},
  "evaluate": {"x": "steps"},
  "predict": {"x": "steps"},
  "train_on_batch": {},
  "test_on_batch": {},
  "predict_on_batch": {},
}

# Further methods of learners that need the model as it was.
OF_MODEL = (
  "adapt",
  "predict_with",
  "task_loss",
  "export",
  "to_model",
  "save",
)


def checked_calls(check_values: Callable[..., None]) -> Callable[[Any], Any]:
  """Returns a decorator that checks the calls of a class of learners.

  Args:
    check_values: Function `(name, learner, call)` that checks the first batch
      of a call, given the name and the arguments of the method. It is called if
      the learner is compiled by XLA, which leaves out the checks in the graph.
  """

  def decorate(learner_class: Any) -> Any:
    for name in _DATA:
      setattr(learner_class, name, _checked_method(name, check_values))
    learner_class.save = _checked_save(learner_class.save)
    for name in (*_DATA, *OF_MODEL):
      method = getattr(learner_class, name)
      setattr(learner_class, name, unchanged.needs_unchanged_model(method))
    return learner_class

  return decorate


def _checked_method(name: str, check_values: Callable[..., None]) -> Any:
  method = getattr(keras.Model, name)

  @functools.wraps(method)
  def checked_method(self: Any, *args: Any, **kwargs: Any) -> Any:
    call = checked(name, self, *args, **kwargs)
    # `fit` has checked the data that it hands to `evaluate` after an epoch.
    if self.jit_compile and not call.get("_use_cached_eval_dataset"):
      check_values(name, self, call)
    with plain_errors():
      result = method(self, **call)
    _check_not_empty(name, result)
    return result

  return checked_method


def _checked_save(save: Any) -> Any:
  """Makes `save` refuse files that Keras could write, but never load."""

  @functools.wraps(save)
  def checked_save(
    self: Any,
    filepath: Any,
    overwrite: bool = True,
    zipped: Any = None,
    **kwargs: Any,
  ) -> Any:
    path = str(filepath)
    # Folders, and repositories of Hugging Face, may have any name.
    if zipped is None and not path.startswith("hf://"):
      zipped = True
    if zipped and not path.endswith(".keras"):
      raise ValueError(
        "`filepath` must end in '.keras', the only format of files that holds "
        "a learner; `export` writes a SavedModel. Received: "
        f"filepath={path!r}"
      )
    return save(self, filepath, overwrite, zipped, **kwargs)

  return checked_save


def checked(name: str, learner: Any, *args: Any, **kwargs: Any) -> dict:
  """Returns the arguments of a method of `keras.Model` by name.

  Args:
    name: "fit", "evaluate" or another key of the table above.
    learner: The model whose method is called.
    *args: Positional arguments of the method.
    **kwargs: Its other arguments.

  Raises:
    ValueError: If a data set is empty, or is endless and there is no number of
      steps.
  """
  method = getattr(keras.Model, name)
  bound = inspect.signature(method).bind(learner, *args, **kwargs).arguments
  _, *names = bound
  call = {key: bound[key] for key in names}
  call |= call.pop("kwargs", {})
  for data, steps in _DATA[name].items():
    _check_length(data, call.get(data), steps, call.get(steps))
  _check_same_length(call)
  if name == "fit" and not isinstance(call.get("x"), Mapping):
    # Only arrays are shuffled. Keras would warn of its own default.
    call.setdefault("shuffle", False)
  return call


def _check_not_empty(name: str, result: Any) -> None:
  """Checks that `fit` or `evaluate` has seen a batch.

  The length of a data set that is read or filtered is known only afterwards.
  """
  if name == "fit":
    empty = bool(result.epoch) and not result.history
  else:
    empty = (
      name == "evaluate" and isinstance(result, list | dict) and not result
    )
  if empty:
    raise ValueError(
      "`x` must hold at least one batch of tasks. Received: data without any"
    )


def _check_length(name: str, data: Any, steps: str, count: Any) -> None:
  if isinstance(data, tf.data.Dataset):
    _check_dataset(name, data, steps, count)
  elif isinstance(data, Mapping):
    _check_arrays(name, data)


def _check_dataset(
  name: str, data: tf.data.Dataset, steps: str, count: Any
) -> None:
  length = int(data.cardinality())
  if length == 0:
    raise ValueError(
      f"`{name}` must hold at least one batch of tasks. Received: an empty "
      "data set"
    )
  if length == tf.data.INFINITE_CARDINALITY and count is None:
    raise ValueError(
      f"`{name}` has no end: pass `{steps}`, or use .take(n) for n batches. "
      f"Received: {steps}=None"
    )


def _check_arrays(name: str, data: Mapping) -> None:
  """Checks that a dict of arrays holds at least one task."""
  for key, value in data.items():
    _check_types(key, value)
  arrays = tf.nest.flatten(dict(data))
  if any(getattr(array, "shape", (1,))[:1] == (0,) for array in arrays):
    raise ValueError(
      f"`{name}` must hold at least one task. Received: arrays of length 0"
    )


def _check_types(name: str, value: Any) -> None:
  """Checks that Keras can take a structure of arrays.

  Its own error would show all values.
  """
  for array in tf.nest.flatten(value):
    dtype = getattr(array, "dtype", type(array))
    text = getattr(dtype, "kind", "") in ("U", "S")
    if not hasattr(array, "shape") or text:
      raise ValueError(
        f"{name} must be an array of numbers, or a structure of arrays: call "
        "np.asarray on lists, and pass strings as a tf.data.Dataset. Received: "
        f"{getattr(dtype, '__name__', dtype)}"
      )


def _check_same_length(call: dict[str, Any]) -> None:
  """Checks that the arrays of a call hold equally many tasks."""
  if not isinstance(call.get("x"), Mapping):
    return
  arrays = {**call["x"], **{k: call.get(k) for k in ("y", "sample_weight")}}
  lengths = {
    name: len(array)
    for name, value in arrays.items()
    for array in tf.nest.flatten(value)
    if getattr(array, "shape", ())
  }
  if len(set(lengths.values())) > 1:
    found = ", ".join(f"{name} {length}" for name, length in lengths.items())
    raise ValueError(
      "The first axis of all arrays must be that of the tasks; for a single "
      f"task, add it with array[np.newaxis]. Received: lengths of {found}"
    )


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
  """Raises what a check of values in a graph has found as a `ValueError`.

  TensorFlow surrounds the sentence of the check with the operations of the
  graph and their stack.
  """
  try:
    yield
  except tf.errors.InvalidArgumentError as error:
    found = re.search(r"assertion failed: (\[.*Received.*\])", error.message)
    if not found:
      raise
    parts = re.findall(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]", found[1])
    raise ValueError(" ".join(parts)) from None
