"""Checks of plain arguments: numbers, choices, seeds and paths.

Each function returns the value that it was given, or raises an error that says
what the argument must be and ends in `Received: name=value`.
"""

from collections.abc import Iterable
import math
import os
import pathlib
from typing import Any
import warnings

import numpy as np


class ArgumentTypeError(TypeError, ValueError):
  """Error for an argument of the wrong type.

  Python raises `TypeError` for such an argument, and Keras raises `ValueError`.
  This class derives from both.
  """


def check_integer(
  name: str, value: Any, least: int, most: int | None = None
) -> int:
  """Returns `value` as an `int`, if it is an integer within the bounds.

  Args:
    name: Name of the argument, for the message.
    value: Python or NumPy integer; booleans are refused.
    least: Smallest value that is allowed.
    most: Largest value that is allowed. Defaults to no upper bound.

  Raises:
    ArgumentTypeError: If `value` is not an integer.
    ValueError: If `value` is out of bounds.
  """
  bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
  expected = f"`{name}` must be an integer {bounds}. Received: {name}={value!r}"
  if isinstance(value, bool) or not isinstance(value, int | np.integer):
    raise ArgumentTypeError(expected)
  if value < least or (most is not None and value > most):
    raise ValueError(expected)
  return int(value)


def check_number(
  name: str,
  value: Any,
  *,
  above: float | None = None,
  least: float | None = None,
  below: float | None = None,
  most: float | None = None,
) -> float:
  """Returns `value`, if it is a finite number within the given bounds.

  Args:
    name: Name of the argument, for the message.
    value: Python or NumPy number; booleans are refused.
    above: Exclusive lower bound. Defaults to no bound.
    least: Inclusive lower bound. Defaults to no bound.
    below: Exclusive upper bound. Defaults to no bound.
    most: Inclusive upper bound. Defaults to no bound.

  Raises:
    ValueError: If `value` is not a finite number, or if it is out of bounds.
  """
  kinds = int | float | np.integer | np.floating
  number = isinstance(value, kinds) and not isinstance(value, bool)
  if (
    number
    and math.isfinite(value)
    and (above is None or value > above)
    and (least is None or value >= least)
    and (below is None or value < below)
    and (most is None or value <= most)
  ):
    return value
  bounds = (
    ("above", above),
    ("of at least", least),
    ("below", below),
    ("of at most", most),
  )
  stated = [f"{word} {x:.2g}" for word, x in bounds if x is not None]
  kind = "a number" if stated else "a finite number"
  raise ValueError(
    f"`{name}` must be {' '.join([kind, ' and '.join(stated)]).strip()}. "
    f"Received: {name}={value!r}"
  )


def check_range(name: str, bounds: Any) -> tuple[float, float]:
  """Returns `bounds` as a tuple, if it is a pair of finite numbers in order.

  Args:
    name: Name of the argument, for the message.
    bounds: Pair `(low, high)` with `low <= high`.

  Raises:
    ValueError: If `bounds` is not such a pair.
  """
  values = np.asarray(bounds, np.float64)
  if values.shape != (2,) or not np.isfinite(values).all():
    raise ValueError(
      f"`{name}` must be two finite numbers. Received: {name}={bounds!r}"
    )
  low, high = bounds
  if low > high:
    raise ValueError(
      f"`{name}` must start with its lower bound. Received: {name}={bounds!r}"
    )
  return low, high


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> Any:
  """Returns `value`, if it is one of `choices`."""
  choices = tuple(choices)
  if value not in choices:
    expected = ", ".join(repr(choice) for choice in choices)
    raise ValueError(
      f"`{name}` must be one of {expected}. Received: {name}={value!r}"
    )
  return value


def check_seed(name: str, value: Any) -> int:
  """Returns `value` as an `int`, if it is an integer of 32 bits.

  The seeds of TensorFlow's stateless operations must fit into 32 bits.
  """
  integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not integer or not -(2**31) <= value < 2**31:
    raise ValueError(
      f"`{name}` must be an integer of 32 bits, from -2**31 to 2**31 - 1. "
      f"Received: {name}={value!r}"
    )
  return int(value)


def path(name: str, value: Any) -> pathlib.Path:
  """Returns a path that a user gave, with `~` expanded.

  Args:
    name: Name of the argument, for the message.
    value: String or path.

  Raises:
    ValueError: If it is empty, or begins with the home of an unknown user.
  """
  _check_not_empty(name, value)
  try:
    return pathlib.Path(value).expanduser()
  except RuntimeError:
    raise ValueError(
      f"`{name}` must not begin with the home of a user who does not exist "
      f"here. Received: {name}={os.fspath(value)!r}"
    ) from None


def check_export_path(value: Any) -> None:
  """Checks the folder to which a SavedModel shall be written.

  Warns if TensorFlow will not find the files in it, because it takes their
  path for a pattern.

  Raises:
    ValueError: If the path is empty.
  """
  _check_not_empty("filepath", value)
  found = os.path.abspath(value)
  if set("[*?\\") & set(found):
    warnings.warn(
      "TensorFlow takes the path of a SavedModel for a pattern, and may not "
      "find the files of this one. Copy it to a folder without [, *, ? and \\ "
      f"in its path to load it. Received: filepath={found!r}",
      stacklevel=4,
    )


def _check_not_empty(name: str, value: Any) -> None:
  if not os.fspath(value):
    raise ValueError(
      f"`{name}` must name a folder or a file. Received: {name}={value!r}"
    )


def counted(count: int, singular: str, plural: str) -> str:
  """Returns a count with its noun, such as "1 class" or "5 classes"."""
  return f"{count} {singular if count == 1 else plural}"
