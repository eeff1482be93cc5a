"""Lists the public names of tfmeta with their arguments: `make public_api`."""

import ast
import enum
import inspect
import sys

import source_tree

import tfmeta

PLAIN = (bool, int, float, str, tuple, type(None))


def names_of(module):
  """Returns the public names that the source of `module` imports or defines."""
  path = source_tree.file_of(module.__name__)
  names = []
  for node in _statements(source_tree.syntax_tree(path).body):
    if isinstance(node, ast.ImportFrom):
      # Type checkers read `import x as x` as a name that is exported.
      names += [a.asname for a in node.names if a.asname == a.name]
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
      names.append(node.name)
  return sorted(n for n in names if not n.startswith("_"))


def _statements(body):
  """Yields the statements, also those under `if typing.TYPE_CHECKING`."""
  for node in body:
    yield from node.body if isinstance(node, ast.If) else [node]


def public_modules():
  """Returns `tfmeta` and the modules among its names."""
  members = (getattr(tfmeta, name) for name in names_of(tfmeta))
  return [tfmeta, *filter(inspect.ismodule, members)]


def public_objects():
  """Returns pairs of a full name and the object that has this name."""
  return [
    (f"{module.__name__}.{name}", getattr(module, name))
    for module in public_modules()
    for name in names_of(module)
    if not inspect.ismodule(getattr(module, name))
  ]


def _argument(parameter):
  if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
    return f"*{parameter.name}"
  if parameter.kind is inspect.Parameter.VAR_KEYWORD:
    return f"**{parameter.name}"
  if parameter.default is inspect.Parameter.empty:
    return parameter.name
  plain = isinstance(parameter.default, PLAIN)
  return (
    f"{parameter.name}={parameter.default!r}"
    if plain
    else (f"{parameter.name}=...")
  )


def _arguments(value):
  is_error = inspect.isclass(value) and issubclass(value, Exception)
  if not callable(value) or is_error:
    return ""
  if isinstance(value, enum.EnumMeta):
    # The signature of an enumeration differs between versions of Python.
    return f": {', '.join(member.name for member in value)}"
  texts, keyword_only = [], False
  for parameter in inspect.signature(value).parameters.values():
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
      keyword_only = True
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not keyword_only:
      texts.append("*")
      keyword_only = True
    texts.append(_argument(parameter))
  return f"({', '.join(texts)})"


def text():
  """Returns one line for each public name."""
  modules = [module.__name__ for module in public_modules()]
  lines = [name + _arguments(value) for name, value in public_objects()]
  return "\n".join([*modules, *lines, ""])


if __name__ == "__main__":
  sys.stdout.write(text())
