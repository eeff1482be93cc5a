"""Finds the layers of a model that have wrong second derivatives."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf

from tfmeta.core import keras_internals
from tfmeta.testing.second_order import finite_differences
from tfmeta.testing.second_order import meta_loss


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


def guilty(
  recordings: Sequence[Recording], is_wrong: Callable[[Recording], bool]
) -> list[str]:
  """Returns the paths of the innermost parts that are wrong.

  Args:
    recordings: The result of `record`.
    is_wrong: Function from a recording to whether its part is wrong. It is
      called for inner parts first, and for an outer part only if no part
      inside it is wrong.
  """
  found: list[str] = []
  deepest_first = sorted(recordings, key=lambda r: -r.path.count("/"))
  for recording in deepest_first:
    inside = f"{recording.path}/"
    if not any(path.startswith(inside) for path in found):
      if is_wrong(recording):
        found.append(recording.path)
  return [r.path for r in recordings if r.path in found]


def is_wrong(
  recording: Recording, *, tolerance: float, jit_compile: bool
) -> bool:
  """Returns whether second derivatives differ from central differences.

  Args:
    recording: Recording of a part of a model in float64.
    tolerance: Largest relative error at which a derivative counts as right.
    jit_compile: Whether to compile with XLA.

  Raises:
    tf.errors.OpError: If XLA cannot compile the part.
  """
  call, point = _as_function(recording)
  if not point:
    return False
  try:
    evaluate = meta_loss.traced(
      _second_order(call, point), point, jit_compile=jit_compile
    )
    agreement = finite_differences.compare(
      evaluate, point, seed=0, tolerance=tolerance
    )
  except LookupError:  # TensorFlow has no gradient of this gradient.
    return True
  return agreement.settled and agreement.error > tolerance


def compiled_error(recording: Recording) -> float:
  """Compares compiled second derivatives with those of the graph.

  This serves parts that XLA does not compile in float64.

  Args:
    recording: Recording of a part of a model in float32.

  Returns:
    The relative difference in the Euclidean norm. It is infinite if the part
    cannot be compiled at all, and 0 for layers with random numbers, which XLA
    samples differently.
  """
  call, point = _as_function(recording)
  if not point or _is_random(recording.part):
    return 0.0
  function = _second_order(call, point)
  try:
    expected, found = (
      meta_loss.traced(function, point, jit_compile=jit_compile)(point)[1]
      for jit_compile in (False, True)
    )
  except (LookupError, tf.errors.OpError):
    return float("inf")
  wrong = [a - b for a, b in zip(expected, found, strict=True)]
  norm = float(tf.linalg.global_norm(expected))
  return float(tf.linalg.global_norm(wrong)) / max(norm, 1e-30)


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


def _is_random(part):
  variables = getattr(part, "non_trainable_variables", ())
  return any("seed_generator" in variable.path for variable in variables)


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
