"""Old public names, which still work for one version, with a warning."""

from collections.abc import Callable
import sys
from typing import Any
import warnings

from tfmeta.algorithms import leo

# The package and the old name of each object that has moved.
MOVED: dict[tuple[str, str], Any] = {
  ("tfmeta.layers", "ClassifierGenerator"): leo.ClassifierGenerator,
}


def install() -> None:
  """Makes the old names attributes of their packages."""
  for package in {package for package, _ in MOVED}:
    vars(sys.modules[package])["__getattr__"] = _lookup_in(package)


def _lookup_in(package: str) -> Callable[[str], Any]:
  """Returns a `__getattr__` that finds the old names of a package."""

  def lookup(name: str) -> Any:
    if (package, name) not in MOVED:
      raise AttributeError(f"module {package!r} has no attribute {name!r}")
    moved = MOVED[package, name]
    warnings.warn(
      f"{package}.{name} is now {moved.__module__}.{moved.__qualname__}; the "
      "old name will be removed in the next version.",
      DeprecationWarning,
      stacklevel=2,
    )
    return moved

  return lookup
