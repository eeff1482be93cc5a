"""Writes a BUILD file for each folder from the imports: `make build_file`."""

import os
import pathlib
import posixpath

import long_tests
import source_tree

FOLDERS = ("benchmarks", "examples", "tests", "tfmeta", "trainers")

_HEADER = """\
# One target per file. Written by `make build_file` from the imports, and held
# to them by tests/repository/build_test.py.
"""

# A glob stops at the folders that have a BUILD file of their own.
_SOURCES = """\
filegroup(
    name = "sources",
    srcs = glob(
        ["**"],
        exclude = {exclude},
    ){more},
{visibility})
"""

_NO_SOURCES = ("**/__pycache__/**",)
_NO_SOURCES_AT_THE_TOP = (
  ".*/**",
  "**/__pycache__/**",
  "*.egg-info/**",
  "bazel-*/**",
  "build/**",
  "dist/**",
  "runs/**",
)

_NOT_SEARCHED = (".", "bazel-", "build", "dist", "runs", "__pycache__")

# Number of parts that Bazel runs a long test in, side by side.
_SHARDS = {"tests/algorithms/common_test.py": 5}


def folder_of(path):
  """Returns the folder that holds the file `path`."""
  return posixpath.dirname(path)


def name_of(path):
  """Returns the name of the target for the file `path`, within its folder."""
  stem = pathlib.PurePosixPath(path).stem
  return posixpath.basename(folder_of(path)) if stem == "__init__" else stem


def label(path, folder=None):
  """Returns the label of the target for the file `path`.

  Args:
    path: Path of a Python file, relative to the root.
    folder: Folder of the BUILD file that the label stands in. Labels are
      absolute unless both are the same.
  """
  home, name = folder_of(path), name_of(path)
  if home == folder:
    return f":{name}"
  return f"//{home}" if posixpath.basename(home) == name else f"//{home}:{name}"


def dependencies(path):
  """Returns the labels of the files that `path` imports, or starts."""
  paths = {*source_tree.imported_files(path), *source_tree.started_files(path)}
  labels = {label(p, folder_of(path)) for p in paths}
  return sorted(labels, key=lambda name: (not name.startswith(":"), name))


def _list(values, indent=4):
  """Returns a list of strings in Bazel's language, as buildifier writes it."""
  if len(values) == 1:
    return f'["{values[0]}"]'
  space = " " * indent
  lines = "".join(f'{space}    "{value}",\n' for value in values)
  return f"[\n{lines}{space}]"


def rule(path):
  """Returns the rule for the file `path`."""
  is_test = path.endswith("_test.py")
  folder, file = posixpath.split(path)
  lines = [f'name = "{name_of(path)}"']
  if is_test:
    size = "large" if path in long_tests.PATHS else "medium"
    lines.append(f'size = "{size}"')
  lines.append(f'srcs = ["{file}"]')
  if path in _SHARDS:
    lines.append(f"shard_count = {_SHARDS[path]}")
  if folder == "tests/repository":
    lines.append('data = ["//:sources"]')
  if "importlib.resources" in source_tree.imported_names(path):
    lines.append('data = glob(["**/*.json"])')
  if folder in source_tree.folders_on_the_path():
    lines.append('imports = ["."]')
  depends = dependencies(path)
  if depends:
    lines.append(f"deps = {_list(depends)}")
  body = "".join(f"    {line},\n" for line in lines)
  return f"{'py_test' if is_test else 'py_library'}(\n{body})\n"


def _sources(exclude, more, visibility):
  stated = f'    visibility = ["{visibility}"],\n' if visibility else ""
  return _SOURCES.format(
    exclude=_list(exclude, indent=8), more=more, visibility=stated
  )


def _text_at_the_top(folders):
  labels = [".bazelrc", *(f"//{folder}:sources" for folder in folders)]
  more = f" + {_list(labels)}"
  sources = _sources(_NO_SOURCES_AT_THE_TOP, more, "//tests:__subpackages__")
  return f"{_HEADER}\n{sources}"


def _text_of_folder(folder, paths):
  kinds = sorted(
    {"py_test" if p.endswith("_test.py") else "py_library" for p in paths}
  )
  names = ", ".join(f'"{kind}"' for kind in kinds)
  load = f'load("@rules_python//python:defs.bzl", {names})'
  is_public = folder.partition("/")[0] == "tfmeta"
  visible = "//visibility:public" if is_public else "//:__subpackages__"
  package = f'package(default_visibility = ["{visible}"])'
  sources = _sources(_NO_SOURCES, "", "" if not is_public else "//:__pkg__")
  rules = [rule(path) for path in paths]
  return "\n".join([f"{_HEADER}{load}\n\n{package}\n", sources, *rules])


def texts():
  """Returns the text of each BUILD file by its path."""
  by_folder = {}
  for path in source_tree.python_files(*FOLDERS):
    by_folder.setdefault(folder_of(path), []).append(path)
  found = {"BUILD": _text_at_the_top(sorted(by_folder))}
  for folder, paths in by_folder.items():
    found[f"{folder}/BUILD"] = _text_of_folder(folder, paths)
  return found


def paths_on_disk():
  """Returns the paths of the BUILD files that are there."""
  found = set()
  for folder, folders, files in os.walk(source_tree.ROOT):
    folders[:] = [f for f in folders if not f.startswith(_NOT_SEARCHED)]
    home = pathlib.Path(folder).relative_to(source_tree.ROOT)
    names = {"BUILD", "BUILD.bazel"} & {*files}
    found.update((home / name).as_posix() for name in names)
  return found


def main():
  """Writes the files that are due and removes those of folders that went."""
  due = texts()
  for path in paths_on_disk() - {*due}:
    if path.startswith(FOLDERS):
      (source_tree.ROOT / path).unlink()
  for path, text in due.items():
    (source_tree.ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
  main()
