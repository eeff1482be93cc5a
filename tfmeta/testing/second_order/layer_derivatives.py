"""Finds the layers of a model that have wrong second derivatives."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf

from tfmeta.core import exact_gradients
from tfmeta.core import keras_internals
from tfmeta.testing.second_order import finite_differences
from tfmeta.testing.second_order import meta_loss

_EXAMPLES = 4


class Recording(NamedTuple):
  """A part of a model and the inputs of its first call.

  Attributes:
    path: Names of the parts around it and its own name, joined by slashes.
    part: A layer, or an operation of `keras.ops`.
    args: Positional arguments of its first call.
    kwargs: Keyword arguments of its first call.
    values: Values of its trainable variables at that call.
  """

  path: str
  part: Any
  args: tuple[Any, ...]
  kwargs: dict[str, Any]
  values: list[tf.Tensor]


def record(
  model: keras.Model,
  weights: Sequence[tf.Tensor],
  state: Sequence[tf.Tensor],
  x: tf.Tensor,
) -> list[Recording]:
  """Runs `model` and records the inputs of each of its parts.

  Args:
    model: A built model, usually a copy: its layers are wrapped while it runs.
    weights: Values of its trainable variables.
    state: Values of its non-trainable variables.
    x: `[n, ...]` inputs of the model.

  Returns:
    One recording for each part that was called, in the order of the calls.
  """
  values = {
    id(variable): value
    for variable, value in zip(model.trainable_variables, weights, strict=True)
  }
  calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
  parts = dict(_parts(model))
  with contextlib.ExitStack() as stack:
    for path, part in parts.items():
      stack.enter_context(_recorded(part, path, calls))
    model.stateless_call(weights, state, x, training=True)
  return [
    Recording(
      path,
      parts[path],
      args,
      kwargs,
      [values[id(v)] for v in getattr(parts[path], "trainable_variables", ())],
    )
    for path, (args, kwargs) in calls.items()
  ]


class Verdicts(NamedTuple):
  """The result of checking each part of a model by itself.

  Attributes:
    wrong: Paths of the innermost parts that are wrong.
    open: Paths of the innermost parts for which this could not be decided.
    error: The largest relative error of the other parts.
    checked: The number of parts that were checked.
  """

  wrong: list[str]
  open: list[str]
  error: float
  checked: int


def verdicts(
  recordings: Sequence[Recording], *, tolerance: float, jit_compile: bool
) -> Verdicts:
  """Checks each part of a model by itself.

  Inner parts come first. An outer part is checked only if all parts inside it
  are right.

  Args:
    recordings: The result of `record`.
    tolerance: Largest relative error at which a derivative counts as right.
    jit_compile: Whether to compile with XLA.
  """
  found: dict[str, finite_differences.Agreement] = {}
  deepest_first = sorted(recordings, key=lambda r: -r.path.count("/"))
  for recording in deepest_first:
    inside = f"{recording.path}/"
    inner = [a for path, a in found.items() if path.startswith(inside)]
    if all(agreement.passed for agreement in inner):
      found[recording.path] = _agreement(recording, tolerance, jit_compile)
  order = [(r.path, found[r.path]) for r in recordings if r.path in found]
  return Verdicts(
    [path for path, agreement in order if agreement.passed is False],
    [path for path, agreement in order if agreement.passed is None],
    max((a.error for _, a in order if a.passed), default=0.0),
    len(found),
  )


def _agreement(
  recording: Recording, tolerance: float, jit_compile: bool
) -> finite_differences.Agreement:
  """Compares the second derivatives of a part with central differences.

  A single example has fewer kinks than all of them.
  """
  agreement = finite_differences.Agreement(float("inf"), False, tolerance)
  for chosen in _examples(recording):
    agreement = _agreement_for(chosen, tolerance, jit_compile)
    if agreement.settled:
      break
  return agreement


def _examples(recording: Recording) -> Iterator[Recording]:
  """Yields a recording, and then its first examples one by one."""
  yield recording
  entries = keras.tree.flatten((recording.args, recording.kwargs))
  tensors = [e for e in entries if isinstance(e, tf.Tensor) and e.shape.rank]
  counts = {tensor.shape[0] for tensor in tensors}
  if len(counts) == 1:
    for row in range(min(_EXAMPLES, *counts)):
      args, kwargs = keras.tree.map_structure(
        lambda entry, row=row: (
          entry[row : row + 1]
          if isinstance(entry, tf.Tensor) and entry.shape.rank
          else entry
        ),
        (recording.args, recording.kwargs),
      )
      yield recording._replace(args=args, kwargs=kwargs)


def _agreement_for(
  recording: Recording, tolerance: float, jit_compile: bool
) -> finite_differences.Agreement:
  call, point = _as_function(recording)
  if not point:
    return finite_differences.Agreement(0.0, True, tolerance)
  call = exact_gradients.exactly(call)
  try:
    evaluate = meta_loss.traced(
      _second_order(call, point), point, jit_compile=jit_compile
    )
    return finite_differences.compare(
      evaluate, point, seed=0, tolerance=tolerance
    )
  except (LookupError, tf.errors.OpError):
    # TensorFlow has no gradient of this gradient, or XLA no kernel.
    return finite_differences.Agreement(float("inf"), True, tolerance)


def _second_order(call, point):
  """Returns a function from a point to a scalar and its gradient.

  The scalar is a weighted sum of the first derivatives of a loss. The loss is
  quadratic in the outputs, so that its gradient with respect to them depends on
  them. Otherwise a layer would pass that loses the derivative with respect to
  this gradient.
  """
  mix = finite_differences.random_like(point, 11, point[0].dtype)

  def above(values):
    outputs = call(values)
    weights = finite_differences.random_like(outputs, 12, outputs[0].dtype)
    return _dot([w + y for w, y in zip(weights, outputs, strict=True)], outputs)

  def first(values):
    return _dot(mix, meta_loss.value_and_gradients(above, values)[1])

  return lambda values: meta_loss.value_and_gradients(first, values)


def _as_function(recording):
  """Returns the part as a function of one list of tensors, and that list.

  The list holds its trainable weights, then its floating-point inputs.
  """
  path, part, args, kwargs, values = recording
  flat = keras.tree.flatten((args, kwargs))
  places = [i for i, entry in enumerate(flat) if _is_float(entry)]
  state = [
    tf.convert_to_tensor(v)
    for v in getattr(part, "non_trainable_variables", ())
  ]

  def call(point):
    entries = list(flat)
    for place, value in zip(places, point[len(values) :], strict=True):
      entries[place] = value
    new_args, new_kwargs = keras.tree.pack_sequence_as((args, kwargs), entries)
    if isinstance(part, keras.Layer):
      weights = point[: len(values)]
      outputs, _ = part.stateless_call(weights, state, *new_args, **new_kwargs)
    else:
      outputs = part.call(*new_args, **new_kwargs)
    return [out for out in keras.tree.flatten(outputs) if _is_float(out)]

  return call, [*values, *(flat[place] for place in places)]


def _is_float(entry):
  return isinstance(entry, tf.Tensor) and entry.dtype.is_floating


def _dot(left, right):
  return tf.add_n(
    [tf.reduce_sum(a * b) for a, b in zip(left, right, strict=True)]
  )


def _parts(model, prefix="") -> Iterator[tuple[str, Any]]:
  """Yields the path of each layer and operation, and the part itself.

  Models that only chain layers are left out; the layers in them are not.
  """
  for part in getattr(model, "operations", None) or _children(model):
    path = prefix + part.name
    if not isinstance(part, keras.Sequential) and not hasattr(
      part, "operations"
    ):
      yield path, part
    yield from _parts(part, f"{path}/")


def _children(layer):
  if not isinstance(layer, keras.Layer):
    return ()
  return keras_internals.flatten_layers(
    layer, include_self=False, recursive=False
  )


@contextlib.contextmanager
def _recorded(part, path, calls):
  """Stores the arguments of the first call of `part` in `calls[path]`."""
  original = part.call

  def call(*args, **kwargs):
    calls.setdefault(path, (args, kwargs))
    return original(*args, **kwargs)

  part.__dict__["call"] = call
  try:
    yield
  finally:
    del part.__dict__["call"]
