"""A flag as data: its name, its values, and when it would have no effect."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import math
import typing
from typing import Any


def _always_used(config: Any) -> None:
  return None


@dataclasses.dataclass(frozen=True)
class Option:
  """A flag of a trainer.

  Attributes:
    name: Name of the flag, without dashes.
    kind: Type of its values: `bool`, `int`, `float`, `str` or `list`.
    default: Value when neither the command line nor a preset sets it. `None`
      leaves the choice to whoever receives the value.
    help: Text for `--help`.
    choices: The values that are allowed; empty if any value is.
    refused: Values that users may expect, each with the sentence that says what
      to use instead.
    why_unused: Function of a `Configuration` that returns why the flag has no
      effect in that run, as a clause, or `None` if it has one.
  """

  name: str
  kind: type
  default: Any
  help: str
  choices: tuple[str, ...] = ()
  refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
  why_unused: Callable[[Any], str | None] = _always_used


def field(
  default: Any,
  help: str,
  *,
  choices: tuple[str, ...] = (),
  refused: Mapping[str, str] | None = None,
  least: int = 0,
  why_unused: Callable[[Any], str | None] | None = None,
) -> Any:
  """Returns a field of a configuration that is a flag.

  Args:
    default: Value when nothing sets it.
    help: Text for `--help`.
    choices: As in `Option`.
    refused: As in `Option`.
    least: The lowest value of an integer.
    why_unused: As in `Option`.
  """
  metadata = {"help": help, "choices": choices, "least": least}
  if refused:
    metadata["refused"] = refused
  if why_unused:
    metadata["why_unused"] = why_unused
  return dataclasses.field(default=default, metadata=metadata)


def of_fields(configuration: Any) -> list[Option]:
  """Returns the flags that the fields of a configuration class are."""
  return [
    Option(
      one.name,
      _kind_of(one),
      one.default,
      **{k: v for k, v in one.metadata.items() if k != "least"},
    )
    for one in dataclasses.fields(configuration)
    if "help" in one.metadata
  ]


def check_least(config: Any) -> None:
  """Checks the lowest values of the integers in a configuration.

  Raises:
    ValueError: If a value is too low.
  """
  for one in dataclasses.fields(config):
    value, least = getattr(config, one.name), one.metadata.get("least", 0)
    if isinstance(value, int) and value < least:
      raise ValueError(
        f"`{one.name}` must be at least {least}. Received: {one.name}={value}"
      )


def check_finite(config: Any) -> None:
  """Checks the numbers in a configuration.

  Raises:
    ValueError: If a number is infinite or NaN.
  """
  for one in dataclasses.fields(config):
    value = getattr(config, one.name)
    if isinstance(value, float) and not math.isfinite(value):
      raise ValueError(
        f"`{one.name}` must be a finite number. Received: {one.name}={value}"
      )


def _kind_of(one: dataclasses.Field) -> Any:
  """Returns the type of the values of a field: `int` for `int | None`."""
  if one.type == list[int]:
    return list
  kinds = typing.get_args(one.type) or (one.type,)
  return kinds[0]
