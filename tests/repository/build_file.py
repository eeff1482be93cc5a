"""Writes BUILD from the imports: `make build_file`."""

import pathlib
import sys

import source_tree

_HEADER = """\
# One target per file. Written by `make build_file` from the imports, and held
# to them by tests/repository/build_test.py.
load("@rules_python//python:defs.bzl", "py_library", "py_test")

package(default_visibility = ["//visibility:public"])

filegroup(
    name = "sources",
    srcs = glob(
        ["**"],
        exclude = [
            ".*/**",
            "**/__pycache__/**",
            "*.egg-info/**",
            "bazel-*/**",
            "build/**",
            "dist/**",
            "runs/**",
        ],
    ) + [".bazelrc"],
)
"""

_FOLDERS = ("benchmarks", "examples", "tests", "tfmeta", "trainers")

# What a file reads at run time and an import does not show.
_DATA = {
  "tfmeta/data/class_lists.py": 'glob(["tfmeta/data/splits/*.json"])',
}

# Longer than a minute on two cores; Bazel allows them 15 minutes.
_LARGE = (
  "tests/algorithms/common_test.py",
  "tests/repository/docs_test.py",
  "tests/trainers/kill_test.py",
  "tests/trainers/launch_test.py",
  "tests/trainers/smoke_test.py",
)

# Parts that a long test is run in, each for itself.
_SHARDS = {"tests/algorithms/common_test.py": 5}

# Folders whose files import each other by their names alone.
_WITH_OWN_MODULES = ("tests/algorithms/", "tests/repository/")


def target(path):
  """Name of the target that holds the file `path`."""
  path = pathlib.PurePosixPath(path)
  return str(
    path.parent if path.name == "__init__.py" else path.with_suffix("")
  )


def dependencies(path):
  """Names of the targets that the file `path` imports, or starts."""
  paths = {*source_tree.imported_files(path), *source_tree.started_files(path)}
  return sorted(target(p) for p in paths)


def _strings(values):
  if len(values) == 1:
    return f'["{values[0]}"]'
  lines = "".join(f'        "{value}",\n' for value in values)
  return f"[\n{lines}    ]"


def rule(path):
  """Text of the rule for the file `path`."""
  is_test = path.endswith("_test.py")
  lines = [f'name = "{target(path)}"']
  if is_test:
    lines.append(f'size = "{"large" if path in _LARGE else "medium"}"')
  lines.append(f'srcs = ["{path}"]')
  if path in _SHARDS:
    lines.append(f"shard_count = {_SHARDS[path]}")
  if path.startswith("tests/repository/"):
    lines.append('data = [":sources"]')
  if path.startswith(_WITH_OWN_MODULES):
    folder = pathlib.PurePosixPath(path).parent
    lines.append(f'imports = ["{folder}"]')
  if path in _DATA:
    lines.append(f"data = {_DATA[path]}")
  depends = dependencies(path)
  if depends:
    lines.append(f"deps = {_strings([f':{name}' for name in depends])}")
  body = "".join(f"    {line},\n" for line in lines)
  return f"{'py_test' if is_test else 'py_library'}(\n{body})\n"


def text():
  """The whole of BUILD."""
  paths = source_tree.python_files(*_FOLDERS)
  return "\n".join([_HEADER, *(rule(path) for path in paths)])


if __name__ == "__main__":
  sys.stdout.write(text())
