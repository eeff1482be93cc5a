"""Checks that the meta-gradient of a model is right."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta import layers
from tfmeta.testing.second_order import finite_differences
from tfmeta.testing.second_order import layer_derivatives
from tfmeta.testing.second_order import meta_loss

MODES = ("graph", "compiled")
_FLOAT32_TOLERANCE = 1e-4
_EXAMPLES = 4
_WORDS = {True: "right", False: "WRONG", None: "undecided"}


@dataclasses.dataclass(frozen=True)
class ModeReport:
  """The result of a check in one mode.

  Attributes:
    mode: `"graph"` or `"compiled"`.
    passed: Whether the meta-gradient is right, or `None` if this could not be
      decided.
    error: Relative error of the meta-gradient. Where `note` says so, it is the
      largest error among the layers.
    guilty: Mapping from the path of each layer whose second derivatives are
      wrong to its remedy.
    note: A remark on this result, a sentence without its full stop, or an empty
      string.
  """

  mode: str
  passed: bool | None
  error: float
  guilty: Mapping[str, str] = dataclasses.field(default_factory=dict)
  note: str = ""

  def __str__(self) -> str:
    verdict = _WORDS[self.passed]
    lines = [f"  {self.mode:9} {verdict:10} relative error {self.error:.1e}"]
    if self.note:
      lines.append(f"    {self.note}")
    for layer, remedy in self.guilty.items():
      lines.append(f"    guilty: {layer} - {remedy}")
    if self.passed is False and not self.guilty:
      lines.append("    no single layer is wrong by itself")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class SecondOrderReport:
  """The result of `check_second_order`, which `str` turns into a text.

  Attributes:
    model: Name of the model.
    tolerance: Largest relative error at which a gradient counts as right.
    modes: One `ModeReport` for each mode that was checked.
  """

  model: str
  tolerance: float
  modes: tuple[ModeReport, ...]

  @property
  def passed(self) -> bool:
    """Whether the meta-gradient was shown to be right in every mode."""
    return all(mode.passed is True for mode in self.modes)

  @property
  def guilty(self) -> dict[str, str]:
    """Paths of the layers that are wrong in any mode, with remedies."""
    return {k: v for mode in self.modes for k, v in mode.guilty.items()}

  def __str__(self) -> str:
    head = (
      f"Meta-gradient of {self.model!r} against central differences in "
      f"float64 (right if at most {self.tolerance:.0e}):"
    )
    return "\n".join([head, *map(str, self.modes)])


def check_second_order(
  model: keras.Model,
  x: Any,
  *,
  inner_steps: int = 2,
  tolerance: float = 1e-5,
  modes: Sequence[str] = MODES,
  seed: int = 0,
) -> SecondOrderReport:
  """Checks whether a gradient through inner gradient steps is right.

  Some layers have a right gradient whose own gradient is wrong. MAML then
  trains with a wrong meta-gradient and gives no warning. This function copies
  `model` in float64 and takes a meta-loss like MAML's: gradient steps on the
  first half of `x`, then a squared error on the second half. It compares the
  derivative of the meta-loss along a random direction with central differences,
  in graph mode and compiled by XLA. If they disagree, it checks each layer by
  itself, on the inputs that the layer receives, and names the guilty ones.

  ReLU and max pooling have kinks, where derivatives jump. The weights are
  therefore moved by a hundredth before the check, differences are taken at
  several step sizes, and the best agreement counts. A right gradient agrees as
  soon as the steps are too small to cross a kink; a wrong one agrees at no
  size. If the differences do not settle, the verdict is "undecided".

  XLA cannot compile some layers in float64, such as Keras's max pooling. These
  are compared with the graph in float32, layer by layer.

  Args:
    model: A built model with one input that Keras can rebuild from its
      configuration. It is not changed.
    x: `[n, ...]` inputs, n >= 4. Ten examples are plenty.
    inner_steps: Integer >= 1, the number of inner steps in graph mode. Defaults
      to 2. The compiled check takes one, because compilation is slow.
    tolerance: Largest relative error at which a gradient counts as right, in
      (0, 1). Defaults to 1e-5. Right gradients reach 1e-9 in smooth models and
      1e-6 with many kinks; wrong ones were off by 1e-4 or more.
    modes: Any of `"graph"` and `"compiled"`. Defaults to both.
    seed: Seed of the targets, the movement of the weights and the direction.
      Defaults to 0.

  Returns:
    A report with `passed`, `guilty` (a mapping from layers to remedies) and
    `modes`. Its `str` is meant for reading.

  Raises:
    TypeError: If `model` is not a Keras model.
    ValueError: If `model` is not built, has no trainable weights or cannot be
      copied, or if an argument is out of range.

  Example:
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> x = np.random.default_rng(0).normal(size=(10, 3))
    >>> check_second_order(model, x, modes=["graph"]).passed
    True
  """
  _check_arguments(model, x, inner_steps, tolerance, modes)
  options = {"inner_steps": inner_steps, "tolerance": tolerance, "seed": seed}
  found = [_check_mode(model, x, mode, **options) for mode in modes]
  return SecondOrderReport(model.name, tolerance, tuple(found))


def _check_mode(model, x, mode, *, inner_steps, tolerance, seed):
  jit_compile = mode == "compiled"
  copy = meta_loss.in_dtype(model, "float64")
  point = meta_loss.nearby_weights(copy, seed)
  inputs = meta_loss.cast_inputs(copy, x)
  try:
    # On two cores, XLA needs half a minute for each inner step of a small
    # convolutional network.
    steps = 1 if jit_compile else inner_steps
    evaluate = meta_loss.meta_loss(
      copy, point, inputs, inner_steps=steps, seed=seed
    )
    agreement = finite_differences.compare(
      meta_loss.traced(evaluate, point, jit_compile=jit_compile),
      point,
      seed=seed,
      tolerance=tolerance,
    )
  except LookupError as error:
    agreement = finite_differences.Agreement(float("inf"), True)
    note = f"no second derivative exists: {_first_line(error)}"
  except tf.errors.OpError:
    return _check_in_float32(model, x, mode, tolerance, seed)
  else:
    note = "" if agreement.settled else "central differences do not settle"
  passed = agreement.error <= tolerance
  guilty = [] if passed else _guilty(copy, x, point, tolerance, jit_compile)
  return ModeReport(
    mode,
    passed if agreement.settled else None,
    agreement.error,
    _remedies(model, guilty),
    note,
  )


def _guilty(copy, x, point, tolerance, jit_compile):
  """Returns the paths of the layers whose second derivatives are wrong."""
  recordings = _record(copy, point, x)

  def is_wrong(recording):
    try:
      return layer_derivatives.is_wrong(
        recording, tolerance=tolerance, jit_compile=jit_compile
      )
    except tf.errors.OpError:
      return True

  return layer_derivatives.guilty(recordings, is_wrong)


def _check_in_float32(model, x, mode, tolerance, seed):
  """Checks layers one by one, where XLA cannot compile the model in float64.

  Each layer is checked in the graph in float64, and compiled in float32 against
  the graph.
  """
  wide, narrow = (
    {recording.path: recording for recording in _record(copy, None, x, seed)}
    for copy in (
      meta_loss.in_dtype(model, dtype) for dtype in ("float64", "float32")
    )
  )
  errors = {}

  def is_wrong(recording):
    path = recording.path
    errors[path] = layer_derivatives.compiled_error(narrow[path])
    return errors[path] > _FLOAT32_TOLERANCE or layer_derivatives.is_wrong(
      recording, tolerance=tolerance, jit_compile=False
    )

  guilty = layer_derivatives.guilty(list(wide.values()), is_wrong)
  # XLA's max pooling goes wrong where two values of a window are nearly equal.
  # The inputs `x` need not contain such a window.
  known = layers.inexact_layers(model, jit_compile=True)
  unseen = [name for name in known if name not in guilty]
  note = (
    "XLA does not compile the model in float64, so each layer was checked by "
    "itself and compared with the graph in float32 (the error given)"
  )
  if unseen:
    note += f"; wrong, but on other inputs than these: {', '.join(unseen)}"
  return ModeReport(
    mode,
    not (guilty + unseen),
    max(errors.values(), default=0.0),
    _remedies(model, guilty + unseen),
    note,
  )


def _remedies(model, names):
  known = layers.inexact_layers(model, jit_compile=True)
  other = "use another layer, operation or activation there"
  return {name: known.get(name, other) for name in names}


def _record(model, point, x, seed=0):
  point = point or meta_loss.nearby_weights(model, seed)
  inputs = meta_loss.cast_inputs(model, x)
  return layer_derivatives.record(
    model, point, meta_loss.state_of(model), inputs
  )


def _first_line(error):
  return str(error).strip().splitlines()[0].rstrip(".")


def _check_arguments(model, x, inner_steps, tolerance, modes):
  if not isinstance(model, keras.Model):
    raise TypeError(f"`model` must be a keras.Model. Received: {type(model)}")
  if not model.built or not model.trainable_variables:
    raise ValueError(
      "`model` must be built (give it an Input) and have trainable weights. "
      f"Received: model={model.name}"
    )
  if len(model.inputs or [x]) != 1 or isinstance(x, (dict, list, tuple)):
    raise ValueError(
      f"`model` must have one input, `x` one array. Received: x={type(x)}"
    )
  if len(x) < _EXAMPLES:
    raise ValueError(
      f"`x` must hold at least {_EXAMPLES} examples: one half adapts, and the "
      f"other half measures. Received: {len(x)} examples"
    )
  arguments.check_integer("inner_steps", inner_steps, least=1)
  arguments.check_number("tolerance", tolerance, above=0, below=1)
  if not modes or not set(modes) <= set(MODES):
    raise ValueError(
      f"`modes` must be any of {', '.join(MODES)}. Received: modes={modes}"
    )
