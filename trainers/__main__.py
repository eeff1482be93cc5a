"""Lists the commands of the trainers.

python -m trainers
"""

import ast
import pathlib


def commands() -> dict[str, str]:
  """Returns the first line of the docstring of each command, by its name."""
  found = {}
  for path in sorted(pathlib.Path(__file__).parent.glob("[!_]*.py")):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    found[path.stem] = (text or "").partition("\n")[0]
  return found


def main() -> None:
  """Prints the commands."""
  print("Run one of these; --help lists its flags.\n")
  for name, line in commands().items():
    print(f"  python -m trainers.{name:15} {line}")


if __name__ == "__main__":
  main()
