"""What a check of second derivatives found, for people to read."""

from collections.abc import Mapping
import dataclasses

_WORDS = {True: "right", False: "WRONG", None: "undecided"}


@dataclasses.dataclass(frozen=True)
class ModeReport:
  """What was found in one mode.

  Attributes:
    mode: `"graph"` or `"compiled"`.
    passed: Whether the meta-gradient is right; None if it cannot be told.
    error: Relative error of the meta-gradient, or, where `note` says so, the
      largest one among the layers.
    guilty: Mapping from the path of each layer whose second derivatives are
      wrong to what to do about it.
    note: What is special, a sentence without its full stop, or empty.
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
  """What `check_second_order` found.

  Attributes:
    model: Name of the model.
    tolerance: Largest relative error of a right gradient.
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
    """Path and remedy of the layers that are wrong in any mode."""
    return {k: v for mode in self.modes for k, v in mode.guilty.items()}

  def __str__(self) -> str:
    head = (
      f"Meta-gradient of {self.model!r} against central differences in "
      f"float64 (right if at most {self.tolerance:.0e}):"
    )
    return "\n".join([head, *map(str, self.modes)])
