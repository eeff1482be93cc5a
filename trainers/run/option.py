"""A flag as data: its name, its values, and when it would have no effect."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
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
