"""Tests how much a reader must open: chains of classes, chains of files."""

import ast
import collections
import pathlib
import re

from absl.testing import absltest
import source_tree

DEEPEST_CHAIN = 4

MOST_MODULES = 12
READING_LIST = "From a task to its meta-gradient"

# Modules behind maml.py that a reader of it leaves closed, with the reason.
_LAYER = "a layer that a model may hold; MAML calls the model"
CLOSED = {
  "tfmeta/arguments.py": "checks of numbers, as their names say",
  "tfmeta/algorithms/query_normalization.py": "predictions after training",
  "tfmeta/core/calls.py": "arguments of fit and sentences of errors",
  "tfmeta/core/checked_values.py": "checks of values, as their names say",
  "tfmeta/core/compiled_metrics.py": "metrics that do not fit",
  "tfmeta/core/compiled_steps.py": "speed under XLA",
  "tfmeta/core/custom_gradients.py": "gradients in SavedModels",
  "tfmeta/core/shared_function.py": "how functions are compiled",
  "tfmeta/core/threads.py": "cores of the processor",
  "tfmeta/core/example_weights.py": "weights of examples",
  "tfmeta/core/side_effects.py": "what a model may not do in its call",
  "tfmeta/core/unchanged.py": "whether a model is still the same",
  "tfmeta/core/inner_rule.py": "clipping, Adam and mini-batches",
  "tfmeta/core/frozen_body.py": "frozen first layers, computed once",
  "tfmeta/core/model_parts.py": "a model in two parts",
  "tfmeta/core/inputs.py": "models with several inputs",
  "tfmeta/core/exact_gradients.py": "for what TensorFlow differentiates once",
  "tfmeta/core/operation_gradients.py": "formulas for single operations",
  "tfmeta/export.py": "follows training",
  "tfmeta/layers/__init__.py": "a list of names",
  "tfmeta/layers/converted.py": "LoRA and quantization",
  "tfmeta/layers/copying.py": "makes models of adapted weights",
  "tfmeta/layers/cosine_dense.py": "a layer of classifiers",
  "tfmeta/layers/exact.py": "exchanges the layers of a model",
  "tfmeta/layers/fused_normalization.py": _LAYER,
  "tfmeta/layers/learned_inputs.py": "a layer of regressions",
  "tfmeta/layers/learned_rates.py": "used by Meta-SGD and MAML++",
  "tfmeta/layers/log_deviation.py": "a layer of policies",
  "tfmeta/layers/mean_prediction.py": "used by probabilistic learners",
  "tfmeta/layers/missing_derivatives.py": "finds what cannot be trained",
  "tfmeta/layers/normalization.py": _LAYER,
  "tfmeta/layers/per_step.py": _LAYER,
  "tfmeta/layers/pooling.py": _LAYER,
  "tfmeta/layers/recurrent.py": _LAYER,
  "tfmeta/layers/statistics.py": "normalization by the support set",
  "tfmeta/typing.py": "names of types",
}

# Files with a single importer and no test file of their own, with the reason.
SINGLE_IMPORTER = {
  "tfmeta/testing/second_order/layer_derivatives.py": (
    "second_order_test.py checks models layer by layer"
  ),
  "trainers/run/policies/training.py": "rl_test.py trains with it",
}


def importers(*folders):
  """Returns the files that import each file of `folders`, by its path."""
  found = collections.defaultdict(set)
  for path in source_tree.python_files(*folders):
    for imported in source_tree.imported_files(path):
      found[imported].add(path)
  return found


def places_of_test(path):
  """Returns where the test file of a file may be.

  Tests lie in folders with the names of those that they test. A folder of
  small files may have its tests in the folder above.
  """
  folders = pathlib.PurePosixPath(path).parent.parts
  inside = folders[1:] if folders[0] == "tfmeta" else folders
  name = f"{pathlib.PurePosixPath(path).stem}_test.py"
  return [
    pathlib.PurePosixPath("tests", *inside[:depth], name).as_posix()
    for depth in range(bool(inside), len(inside) + 1)
  ]


def is_command(path):
  """Returns whether a file is a program that users start."""
  text = (source_tree.ROOT / path).read_text(encoding="utf-8")
  return '__name__ == "__main__"' in text


def reached_from(path):
  """Returns the files that `path` imports, directly or through others."""
  found, waiting = set(), [path]
  while waiting:
    new = {*source_tree.imported_files(waiting.pop())} - found - {path}
    found |= new
    waiting += new
  return found


def own_bases(path):
  """Returns the bases of each class in a file that are classes of tfmeta.

  Classes are named `path:name`. A base is written `name`, if the same file
  defines it, or `module.name`.
  """
  tree = source_tree.syntax_tree(path)
  classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
  here = {cls.name: path for cls in classes}
  modules = {
    alias.asname or alias.name: source_tree.file_of(
      f"{node.module}.{alias.name}"
    )
    for node in tree.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
  }
  found = {}
  for cls in classes:
    bases = [ast.unparse(base).rpartition(".")[::2] for base in cls.bases]
    homes = [(modules if m else here).get(m or name) for m, name in bases]
    found[f"{path}:{cls.name}"] = [
      f"{home}:{name}"
      for home, (_, name) in zip(homes, bases, strict=True)
      if home
    ]
  return found


def longest_chain(bases, cls):
  """Returns the longest chain of classes from `cls` to its last own base."""
  chains = [longest_chain(bases, base) for base in bases.get(cls, ())]
  return [cls, *max(chains, key=len, default=[])]


def reading_list():
  """Returns the paths that CONTRIBUTING.md lists under the heading."""
  text = (source_tree.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
  section = re.search(
    rf"^## {READING_LIST}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
  )
  return re.findall(r"`(tfmeta/[\w/]+\.py)`", section[1]) if section else []


class ClassesTest(absltest.TestCase):
  def test_chains_of_own_classes_are_short(self):
    bases = {}
    for path in source_tree.python_files("tfmeta"):
      bases.update(own_bases(path))
    for cls in bases:
      chain = longest_chain(bases, cls)
      self.assertLessEqual(len(chain), DEEPEST_CHAIN, " < ".join(chain))

  def test_follows_a_base_into_another_file_and_not_into_keras(self):
    bases = own_bases("tfmeta/layers/normalization.py")
    file = "tfmeta/layers/normalization.py"
    self.assertEmpty(bases[f"{file}:BatchNormalization"])
    self.assertEqual(
      bases[f"{file}:TransductiveBatchNormalization"],
      [f"{file}:BatchNormalization"],
    )
    anil = own_bases("tfmeta/algorithms/anil.py")
    self.assertEqual(
      anil["tfmeta/algorithms/anil.py:ANIL"], ["tfmeta/algorithms/maml.py:MAML"]
    )

  def test_a_chain_counts_the_longest_way(self):
    bases = {"a": ["b", "c"], "b": ["c"], "c": []}
    self.assertEqual(longest_chain(bases, "a"), ["a", "b", "c"])


class FilesTest(absltest.TestCase):
  def test_a_file_with_one_importer_has_its_own_test(self):
    tests = {*source_tree.python_files("tests")}
    alone = [
      path
      for path, users in importers("tfmeta", "trainers", "benchmarks").items()
      if len(users) == 1
      and not path.endswith("/__init__.py")
      and not next(iter(users)).endswith("/__init__.py")
      and tests.isdisjoint(places_of_test(path))
      and not is_command(path)
    ]
    # Equal, not a subset: a reason that nothing needs any longer goes.
    self.assertCountEqual(alone, SINGLE_IMPORTER)

  def test_knows_where_a_test_file_belongs(self):
    for path, expected in (
      ("tfmeta/export.py", ["tests/export_test.py"]),
      ("tfmeta/core/svgd.py", ["tests/core/svgd_test.py"]),
      (
        "trainers/run/plots.py",
        ["tests/trainers/plots_test.py", "tests/trainers/run/plots_test.py"],
      ),
    ):
      self.assertEqual(places_of_test(path), expected)


class ReadingListTest(absltest.TestCase):
  """Tests of the list of files in CONTRIBUTING.md that explain the gradient."""

  def setUp(self):
    super().setUp()
    self.listed = reading_list()
    if not self.listed:
      self.skipTest(f'CONTRIBUTING.md has no section "{READING_LIST}" yet.')

  def test_is_short(self):
    self.assertLessEqual(len(self.listed), MOST_MODULES)
    self.assertLen({*self.listed}, len(self.listed))

  def test_starts_with_maml_and_goes_on_with_what_it_imports(self):
    self.assertEqual(self.listed[0], "tfmeta/algorithms/maml.py")
    reached = reached_from("tfmeta/algorithms/maml.py")
    self.assertContainsSubset(self.listed[1:], reached)

  def test_leaves_out_nothing_without_a_reason(self):
    reached = reached_from("tfmeta/algorithms/maml.py")
    self.assertCountEqual(reached - {*self.listed}, CLOSED)


if __name__ == "__main__":
  absltest.main()
