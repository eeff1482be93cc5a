"""Reads from the source text what the files of this repository import."""

import ast
import functools
import pathlib
import re
import textwrap
import tomllib

# Symbolic links stay: Bazel gives each test a tree of links to its files.
ROOT = pathlib.Path(__file__).absolute().parents[2]


@functools.cache
def folders_on_the_path():
  """Returns the folders whose modules tests import by their names alone."""
  text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
  options = tomllib.loads(text)["tool"]["pytest"]["ini_options"]
  return tuple(folder for folder in options["pythonpath"] if folder != ".")


def python_files(*folders):
  """Returns the paths of all Python files below `folders`.

  Paths are relative to the root of the repository, everywhere in this module.
  """
  found = [p for f in folders for p in (ROOT / f).rglob("*.py")]
  return sorted(p.relative_to(ROOT).as_posix() for p in found)


@functools.cache
def syntax_tree(path):
  return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=path)


def package_of(path):
  """Returns the dotted name of the package that holds the file `path`."""
  return ".".join(pathlib.PurePosixPath(path).parts[:-1])


def _absolute(node, path):
  """Returns the absolute dotted name after `from` in an import statement."""
  if not node.level:
    return node.module
  package = package_of(path).split(".")
  package = package[: len(package) - node.level + 1]
  return ".".join(package + ([node.module] if node.module else []))


def imported_names(path):
  """Returns the dotted names that the file imports.

  `from a import b` imports `a.b`.
  """
  return _names_in(syntax_tree(path), path)


def _names_in(tree, path):
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      start = _absolute(node, path)
      names.update(f"{start}.{alias.name}" for alias in node.names)
  return names


def _is_function_of_its_package(module):
  """Returns whether a package replaces its module by what the module defines.

  After `from tfmeta.evaluation.evaluate import evaluate` in a package, its
  users get the function, and not the module, by `from package import evaluate`.
  """
  *package, name = module.split(".")
  init = "/".join([*package, "__init__.py"])
  return (ROOT / init).is_file() and any(
    isinstance(node, ast.ImportFrom)
    and _absolute(node, init) == module
    and name in {alias.asname or alias.name for alias in node.names}
    for node in syntax_tree(init).body
  )


def _candidates(name, base):
  """Yields the files that may hold `name`, those of longer modules first."""
  parts = name.split(".")
  for length in range(len(parts), 0, -1):
    module = ".".join(parts[:length])
    stem = base.joinpath(*parts[:length])
    yield stem / "__init__.py"
    if length < len(parts) or not _is_function_of_its_package(module):
      yield stem.with_suffix(".py")


def file_of(name, importer=None):
  """Returns the file that holds `name`, or `None` if it is not of this project.

  The longest leading part of `name` that is a module decides, so that the name
  of a function leads to the file that defines it, or to the package that passes
  it on.

  Args:
    name: Dotted name, such as `tfmeta.core.svgd.kernel`.
    importer: Path of the file that imports it. Tests may import the modules of
      some folders by their names alone.
  """
  bases = [""]
  if importer is not None and importer.startswith("tests/"):
    bases += folders_on_the_path()
  for base in bases:
    for path in _candidates(name, pathlib.PurePosixPath(base)):
      if (ROOT / path).is_file():
        return path.as_posix()
  return None


def imported_files(path):
  """Returns the files of this repository that the file `path` imports."""
  found = {file_of(name, path) for name in imported_names(path)}
  return sorted(found - {None, path})


def _strings(path):
  """Returns the strings in the file; values inside f-strings read `None`."""
  tree = syntax_tree(path)
  joined = [n for n in ast.walk(tree) if isinstance(n, ast.JoinedStr)]
  pieces = {id(piece) for node in joined for piece in ast.walk(node)}
  texts = {
    "".join(
      part.value if isinstance(part, ast.Constant) else "None"
      for part in node.values
    )
    for node in joined
  }
  return texts | {
    node.value
    for node in ast.walk(tree)
    if isinstance(node, ast.Constant)
    and isinstance(node.value, str)
    and id(node) not in pieces
  }


def _program(text):
  """Returns the syntax tree of a text, an empty one if it is no program."""
  try:
    return ast.parse(textwrap.dedent(text))
  except SyntaxError:
    return ast.Module([], [])


def started_files(path):
  """Returns the files of the programs that `path` starts.

  A program stands in a string: as a name, such as "trainers.x", or as its text,
  whose imports count.
  """
  texts = _strings(path)
  dotted = [text for text in texts if re.fullmatch(r"\w+(\.\w+)+", text)]
  files = {name.replace(".", "/") + ".py" for name in dotted}
  written = [_program(text) for text in texts if "import " in text]
  names = {name for tree in written for name in _names_in(tree, path)}
  files |= {file_of(name, path) for name in names} - {None}
  return sorted(p for p in files if (ROOT / p).is_file() and p != path)


def outside_packages(path):
  """Returns the top-level names of the packages that the file imports.

  Packages of this repository do not count.
  """
  return sorted(
    name.partition(".")[0]
    for name in imported_names(path)
    if file_of(name, path) is None
  )
