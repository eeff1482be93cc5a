"""Tests that imports go down only, by the layers that CONTRIBUTING.md draws."""

import ast
import pathlib
import re
import sys

from absl.testing import absltest
from absl.testing import parameterized
import source_tree

# The other parts of tfmeta that each part may import.
_BASE = {"typing", "arguments", "packages", "whole_files"}
BELOW = {
  "typing": set(),
  "arguments": set(),
  "packages": set(),
  "whole_files": set(),
  "core": _BASE,
  "layers": {"core", *_BASE},
  "models": {"layers", "core", *_BASE},
  "export": {"core", *_BASE},
  "algorithms": {"export", "layers", "core", *_BASE},
  "data": _BASE,
  "metrics": _BASE,
  "callbacks": _BASE,
  "evaluation": {
    "metrics",
    "algorithms/context",
    "algorithms/meta_learner",
    "algorithms/query_normalization",
    "core",
    *_BASE,
  },
  "environments": {"data/sampler", "data/splits", "core", *_BASE},
  "rl": {"algorithms", "environments/base", "metrics", "core", *_BASE},
}
BELOW["deprecated_names"] = {"algorithms"}
BELOW["testing"] = {*BELOW}
BELOW["__init__"] = {*BELOW}

# An algorithm builds on another only where its paper calls it a case of it.
SPECIAL_CASES = {
  "tfmeta/algorithms/anil.py": {"tfmeta/algorithms/maml.py"},
  "tfmeta/algorithms/maml_plus_plus.py": {"tfmeta/algorithms/maml.py"},
}

# All algorithms share these files, which are not algorithms themselves.
SHARED_BY_ALGORITHMS = {
  "context",
  "meta_learner",
  "outer_step",
  "probabilistic",
  "query_normalization",
}

OUTSIDE = {
  "tfmeta": {"absl", "keras", "numpy", "tensorflow"},
  "trainers": {"absl", "keras", "matplotlib", "numpy", "tensorflow"},
  "benchmarks": {
    "absl",
    "jax",
    "keras",
    "matplotlib",
    "numpy",
    "tensorflow",
    "torch",
  },
  "examples": {"matplotlib", "numpy", "tensorflow"},
}
ONLY_IN = {
  "tensorflow_datasets": "tfmeta/data/",
}

# Parts of a framework that promise nothing, where there is no other way; the
# file that uses one says why.
PRIVATE = {
  "tfmeta/core/keras_internals.py": {
    "tensorflow.python.eager.polymorphic_function.concrete_function",
    "tensorflow.python.framework.function_def_to_graph",
    "tensorflow.python.framework.ops",
    "tensorflow.python.ops.control_flow_util",
    "tensorflow.python.saved_model.save_context",
    "tensorflow.python.util._pywrap_util_port",
  },
}


def part(path):
  """Returns the part of tfmeta that holds the file: its folder or its name."""
  return pathlib.PurePosixPath(path).with_suffix("").parts[1]


def is_allowed(importer, imported):
  """Returns whether one file of tfmeta may import another."""
  if part(importer) == part(imported):
    return is_allowed_inside(importer, imported)
  stem = imported.removeprefix("tfmeta/").removesuffix(".py")
  return bool({part(imported), stem} & BELOW[part(importer)])


def is_allowed_inside(importer, imported):
  """Returns whether a file may import another one of the same folder."""
  folder, is_package = re.subn(r"__init__\.py$", "", imported)
  if is_package and importer.startswith(folder):
    return False
  if importer.endswith("/__init__.py") or part(importer) != "algorithms":
    return True
  stem = pathlib.PurePosixPath(imported).stem
  return stem in SHARED_BY_ALGORITHMS or imported in SPECIAL_CASES.get(
    importer, ()
  )


def find_cycle(arrows):
  """Finds files that import each other in a ring; returns [] without a ring."""
  done = set()

  def walk(path, trail):
    if path in trail:
      return trail[trail.index(path) :]
    if path in done:
      return []
    done.add(path)
    rings = (walk(p, [*trail, path]) for p in arrows.get(path, ()))
    return next(filter(None, rings), [])

  return next(filter(None, (walk(path, []) for path in arrows)), [])


def attribute_chains(path):
  """Yields the dotted expressions in a file, such as `keras.layers.Dense`."""
  for node in ast.walk(source_tree.syntax_tree(path)):
    if isinstance(node, ast.Attribute):
      yield ast.unparse(node)


class LayeringTest(parameterized.TestCase):
  def test_every_part_of_tfmeta_has_its_place(self):
    parts = {part(p) for p in source_tree.python_files("tfmeta")}
    self.assertContainsSubset(parts, BELOW)

  def test_tfmeta_imports_go_down_only(self):
    wrong = [
      f"{path} -> {other}"
      for path in source_tree.python_files("tfmeta")
      for other in source_tree.imported_files(path)
      if not other.startswith("tfmeta/") or not is_allowed(path, other)
    ]
    self.assertEmpty(wrong)

  def test_no_ring_of_imports(self):
    files = source_tree.python_files("tfmeta", "trainers", "benchmarks")
    arrows = {path: source_tree.imported_files(path) for path in files}
    self.assertEmpty(find_cycle(arrows))

  @parameterized.parameters("trainers", "benchmarks")
  def test_programs_use_the_public_names_only(self, folder):
    for path in source_tree.python_files(folder):
      others = set(source_tree.imported_files(path))
      # Programs write their files in the way of the package.
      others -= {"tfmeta/__init__.py", "tfmeta/whole_files.py"}
      foreign = [o for o in others if not o.startswith(f"{folder}/")]
      self.assertEmpty(foreign, f"{path} imports more than `tfmeta`")
      private = [
        chain
        for chain in attribute_chains(path)
        if re.match(r"tfmeta\.(.+\.)?_(?!_)", chain)
      ]
      self.assertEmpty(private, f"{path} uses private names")

  @parameterized.parameters(*OUTSIDE)
  def test_imports_from_outside_are_declared(self, folder):
    for path in source_tree.python_files(folder):
      allowed = OUTSIDE[folder] | {
        name for name, home in ONLY_IN.items() if path.startswith(home)
      }
      outside = set(source_tree.outside_packages(path))
      unknown = outside - sys.stdlib_module_names - allowed
      self.assertEmpty(unknown, path)

  def test_private_parts_of_the_frameworks_are_the_known_ones(self):
    for path in source_tree.python_files("tfmeta", "trainers", "benchmarks"):
      inner = {
        name
        for name in source_tree.imported_names(path)
        if name.startswith(("keras.src", "tensorflow.python"))
      }
      self.assertEqual(inner, PRIVATE.get(path, set()), path)

  def test_core_makes_no_layers(self):
    for path in source_tree.python_files("tfmeta/core"):
      calls = [
        ast.unparse(node.func)
        for node in ast.walk(source_tree.syntax_tree(path))
        if isinstance(node, ast.Call)
      ]
      made = [call for call in calls if call.startswith("keras.layers.")]
      self.assertEmpty(made, path)


class RulesTest(parameterized.TestCase):
  """Tests of the rules on imports that do not occur in tfmeta."""

  @parameterized.parameters(
    ("tfmeta/algorithms/maml.py", "tfmeta/core/functional.py"),
    ("tfmeta/algorithms/maml.py", "tfmeta/algorithms/meta_learner.py"),
    ("tfmeta/algorithms/anil.py", "tfmeta/algorithms/maml.py"),
    ("tfmeta/algorithms/__init__.py", "tfmeta/algorithms/maml.py"),
    ("tfmeta/evaluation.py", "tfmeta/algorithms/meta_learner.py"),
    ("tfmeta/testing/second_order/check.py", "tfmeta/layers/exact.py"),
    ("tfmeta/__init__.py", "tfmeta/algorithms/maml.py"),
    ("tfmeta/testing/learner_test_case.py", "tfmeta/testing/exam/__init__.py"),
  )
  def test_down_is_allowed(self, importer, imported):
    self.assertTrue(is_allowed(importer, imported))

  @parameterized.parameters(
    ("tfmeta/core/functional.py", "tfmeta/algorithms/meta_learner.py"),
    ("tfmeta/core/functional.py", "tfmeta/core/__init__.py"),
    ("tfmeta/core/functional.py", "tfmeta/__init__.py"),
    ("tfmeta/data/sampler.py", "tfmeta/algorithms/meta_learner.py"),
    ("tfmeta/data/sampler.py", "tfmeta/core/functional.py"),
    ("tfmeta/evaluation.py", "tfmeta/algorithms/maml.py"),
    ("tfmeta/algorithms/reptile.py", "tfmeta/algorithms/maml.py"),
    ("tfmeta/models/conv4.py", "tfmeta/algorithms/meta_learner.py"),
    ("tfmeta/callbacks/checkpoint.py", "tfmeta/metrics.py"),
  )
  def test_up_and_sideways_are_not(self, importer, imported):
    self.assertFalse(is_allowed(importer, imported))

  def test_finds_a_ring(self):
    arrows = {"a": ["b"], "b": ["c"], "c": ["b"]}
    self.assertCountEqual(find_cycle(arrows), ["b", "c"])
    self.assertEmpty(find_cycle({"a": ["b", "c"], "b": ["c"], "c": []}))


if __name__ == "__main__":
  absltest.main()
