"""Checks that the meta-gradient of a model is right."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import keras_internals
from tfmeta.layers import missing_derivatives
from tfmeta.testing.second_order import finite_differences
from tfmeta.testing.second_order import layer_derivatives
from tfmeta.testing.second_order import meta_loss

MODES = ("graph", "compiled")
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
  size. If every step crosses a kink, each layer is checked by itself, which has
  fewer of them. If that does not settle it either, the verdict is "undecided".

  TensorFlow has some operations in float32 only, and XLA others. They are
  checked with larger steps, and count as right up to an error of 3e-4.

  Args:
    model: A built model with one input. It is not changed. If Keras cannot
      rebuild it from its configuration, it is checked in float32, and no layer
      is named.
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
    ValueError: If `model` is not built or has no trainable weights, if it
      cannot be copied and does not compute in float32, or if an argument is
      out of range.

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


def _check_mode(model, x, mode, **options):
  try:
    copy = meta_loss.in_dtype(model, "float64")
    return _check_copy(model, copy, x, mode, **options)
  except (TypeError, ValueError, tf.errors.OpError):
    # TensorFlow or XLA may have an operation in float32 only.
    return _check_copy(model, _in_float32(model), x, mode, **options)


def _in_float32(model):
  """Returns a copy of `model`, or `model` itself if it cannot be copied."""
  try:
    return meta_loss.in_dtype(model, "float32")
  except ValueError:
    parts = keras_internals.flatten_layers(model)
    if any(part.compute_dtype != "float32" for part in parts):
      raise
    return model


def _check_copy(model, copy, x, mode, *, inner_steps, tolerance, seed):
  jit_compile = mode == "compiled"
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
    note = ""
  except LookupError as error:
    agreement = finite_differences.Agreement(float("inf"), True, tolerance)
    note = f"no second derivative exists: {_first_line(error)}"
  except tf.errors.OpError as error:
    if not jit_compile or point[0].dtype != tf.float32:
      raise
    agreement = finite_differences.Agreement(float("inf"), True, tolerance)
    note = f"XLA does not compile the model: {_first_line(error)}"
  if agreement.tolerance > tolerance:
    note = (
      "computed in float32, at least in part, so that errors up to "
      f"{agreement.tolerance:.0e} count as right"
    )
  if agreement.passed:
    return ModeReport(mode, True, agreement.error, note=note)
  # The layers of the user's own model are not wrapped.
  recordings = [] if copy is model else _record(copy, point, inputs)
  verdicts = layer_derivatives.verdicts(
    recordings, tolerance=tolerance, jit_compile=jit_compile
  )
  return _report(model, mode, agreement, verdicts, note)


def _report(model, mode, agreement, verdicts, note):
  """Returns the report on a mode in which not all is right."""
  passed, error = agreement.passed, agreement.error
  if passed is None:
    note += "; " if note else ""
    if verdicts.wrong:
      passed = False
    elif verdicts.checked and not verdicts.open:
      passed, error = True, verdicts.error
      note += (
        "every step crosses a kink somewhere, so each layer was checked by "
        "itself (the error is the largest of them)"
      )
    else:
      note += "central differences do not settle"
      note += f" in {', '.join(verdicts.open)}" if verdicts.open else ""
  guilty = verdicts.wrong
  if passed is False and not verdicts.checked:
    guilty = list(missing_derivatives.find(model))
  return ModeReport(mode, passed, error, _remedies(model, guilty), note)


def _remedies(model, names):
  missing = missing_derivatives.find(model) if names else {}
  return {
    name: "use tfmeta.layers.exact(model)"
    if missing.get(name, "").startswith("Cudnn")
    else "use another layer, operation or activation there"
    for name in names
  }


def _record(model, point, x):
  return layer_derivatives.record(model, point, meta_loss.state_of(model), x)


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
