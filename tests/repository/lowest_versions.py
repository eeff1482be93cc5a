"""Lists the lowest versions that pyproject.toml allows, for `make test_lowest`.

  python tests/repository/lowest_versions.py > constraints.txt

Each requirement `name>=version` becomes the constraint `name==version` for pip.
"""

import pathlib
import re
import sys
import tomllib

PROJECT = pathlib.Path(__file__).absolute().parents[2] / "pyproject.toml"


def constraints(requirements):
  """Returns constraints that hold `requirements` at their lowest versions.

  Args:
    requirements: Strings such as `"keras>=3.5"`. Those without a lowest version
      are left out.
  """
  found = [re.fullmatch(r"([\w.-]+)>=([\w.]+)", r) for r in requirements]
  return sorted({f"{match[1]}=={match[2]}" for match in found if match})


def required(*extras):
  """Returns the requirements of tfmeta and of some of its extras."""
  project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
  optional = project["optional-dependencies"]
  return sum((optional[name] for name in extras), project["dependencies"])


if __name__ == "__main__":
  lines = constraints(required("trainers", "dev"))
  sys.stdout.write("".join(f"{line}\n" for line in lines))
