"""What the files of this repository import, read from their source text."""

import ast
import functools
import pathlib
import re

# Not resolved: under Bazel this is the tree of links that the test declares.
ROOT = pathlib.Path(__file__).absolute().parents[2]


def python_files(*folders):
  """Paths of all Python files below `folders`, relative to the root."""
  found = [p for f in folders for p in (ROOT / f).rglob("*.py")]
  return sorted(p.relative_to(ROOT).as_posix() for p in found)


@functools.cache
def syntax_tree(path):
  return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=path)


def package_of(path):
  """Dotted name of the package that holds the file `path`."""
  return ".".join(pathlib.PurePosixPath(path).parts[:-1])


def _absolute(node, path):
  """Dotted name that `from ... import` starts with, relative ones resolved."""
  if not node.level:
    return node.module
  package = package_of(path).split(".")
  package = package[: len(package) - node.level + 1]
  return ".".join(package + ([node.module] if node.module else []))


def imported_names(path):
  """Dotted names the file imports: `from a import b` counts as `a.b`."""
  names = set()
  for node in ast.walk(syntax_tree(path)):
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      start = _absolute(node, path)
      names.update(f"{start}.{alias.name}" for alias in node.names)
  return names


def file_of(name, importer=None):
  """File of this repository that importing `name` needs, or None.

  The longest leading part of `name` that is a module counts, so that the name
  of a function leads to the file which holds it.
  """
  bases = [pathlib.PurePosixPath()]
  if importer is not None and importer.startswith("tests/"):
    bases.append(pathlib.PurePosixPath(importer).parent)
  parts = name.split(".")
  for base in bases:
    for length in range(len(parts), 0, -1):
      stem = base.joinpath(*parts[:length])
      for candidate in (stem / "__init__.py", stem.with_suffix(".py")):
        if (ROOT / candidate).is_file():
          return candidate.as_posix()
  return None


def imported_files(path):
  """Files of this repository that the file `path` imports."""
  found = {file_of(name, path) for name in imported_names(path)}
  return sorted(found - {None, path})


def started_files(path):
  """Files of the programs that the file starts by name: `"trainers.maml"`."""
  names = {
    node.value
    for node in ast.walk(syntax_tree(path))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
  }
  modules = (name for name in names if re.fullmatch(r"\w+(\.\w+)+", name))
  programs = {module.replace(".", "/") + ".py" for module in modules}
  return sorted(p for p in programs if (ROOT / p).is_file() and p != path)


def outside_packages(path):
  """Top-level names of what the file imports from outside the repository."""
  return sorted(
    name.partition(".")[0]
    for name in imported_names(path)
    if file_of(name, path) is None
  )
