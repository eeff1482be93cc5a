"""Old public names, which keep working for one version with a warning."""

from collections.abc import Callable
import importlib
import sys
from typing import Any
import warnings

# Package and old name, and where the object is now.
MOVED = {
  ("tfmeta.layers", "ClassifierGenerator"): (
    "tfmeta.algorithms.leo",
    "ClassifierGenerator",
  ),
}


def install() -> None:
  """Makes the old names attributes of their packages."""
  for package in {package for package, _ in MOVED}:
    vars(sys.modules[package])["__getattr__"] = _lookup_in(package)


def _lookup_in(package: str) -> Callable[[str], Any]:
  def lookup(name: str) -> Any:
    if (package, name) not in MOVED:
      raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module, attribute = MOVED[package, name]
    warnings.warn(
      f"{package}.{name} is now {module}.{attribute}; the old name will be "
      "removed in the next version.",
      DeprecationWarning,
      stacklevel=2,
    )
    return getattr(importlib.import_module(module), attribute)

  return lookup
