import ast
import collections
import difflib

from absl.testing import absltest
import build_file
import long_tests
import source_tree


def rules():
  """Returns the rules of all BUILD files by their absolute labels."""
  found = {}
  for path in build_file.paths_on_disk():
    folder = build_file.folder_of(path)
    for node in source_tree.syntax_tree(path).body:
      call = node.value
      attributes = {k.arg: k.value for k in call.keywords}
      if call.func.id in ("py_library", "py_test"):
        name = ast.literal_eval(attributes["name"])
        found[f"//{folder}:{name}"] = (call.func.id, attributes)
  return found


def absolute(label, folder):
  """Returns a label in its long form: `//a/b` means `//a/b:b`."""
  if label.startswith(":"):
    return f"//{folder}{label}"
  return label if ":" in label else f"{label}:{label.rpartition('/')[2]}"


def lines(path):
  """Returns the lines of a file, or none if it does not exist."""
  file = source_tree.ROOT / path
  text = file.read_text(encoding="utf-8") if file.is_file() else ""
  return text.splitlines()


class BuildTest(absltest.TestCase):
  def test_every_file_has_a_target_with_the_imports_as_its_deps(self):
    due = build_file.texts()
    differences = []
    for path in sorted(due.keys() | build_file.paths_on_disk()):
      imports = due.get(path, "").splitlines()
      differences += difflib.unified_diff(
        lines(path), imports, path, "imports", n=1
      )
    if differences:
      found = "\n".join(differences)
      self.fail(f"BUILD files are out of date: run `make build_file`.\n{found}")

  def test_no_two_files_share_a_target(self):
    paths = source_tree.python_files(*build_file.FOLDERS)
    labels = collections.Counter(build_file.label(path) for path in paths)
    self.assertEmpty([label for label, n in labels.items() if n > 1])

  def test_every_test_file_is_a_test_of_its_own(self):
    tests = [label for label, (kind, _) in rules().items() if kind == "py_test"]
    paths = source_tree.python_files("tests")
    self.assertCountEqual(
      tests,
      [
        absolute(build_file.label(path), "")
        for path in paths
        if path.endswith("_test.py")
      ],
    )

  def test_no_target_depends_on_a_missing_one(self):
    known = rules()
    for label, (_, attributes) in known.items():
      if "deps" in attributes:
        folder = label[2:].partition(":")[0]
        deps = ast.literal_eval(attributes["deps"])
        missing = {absolute(d, folder) for d in deps} - known.keys()
        self.assertEmpty(missing, f"deps of {label}")

  def test_long_tests_exist(self):
    for name in long_tests.NAMES:
      path, *inner = name.split("::")
      body = source_tree.syntax_tree(path).body
      for part in inner:
        # A test with parameters ends in their number.
        names = (part, part.rstrip("0123456789"))
        found = [n for n in body if getattr(n, "name", None) in names]
        self.assertLen(found, 1, name)
        body = found[0].body


class LabelTest(absltest.TestCase):
  def test_a_file_of_another_folder_has_an_absolute_label(self):
    label = build_file.label("tfmeta/core/checks.py", "tfmeta/layers")
    self.assertEqual(label, "//tfmeta/core:checks")

  def test_a_file_of_the_same_folder_has_a_relative_label(self):
    label = build_file.label("tfmeta/core/checks.py", "tfmeta/core")
    self.assertEqual(label, ":checks")

  def test_a_package_has_the_label_of_its_folder(self):
    label = build_file.label("tfmeta/core/__init__.py", "tfmeta/layers")
    self.assertEqual(label, "//tfmeta/core")


class SourceTreeTest(absltest.TestCase):
  """Tests of the reading of imports, on which many of these tests rely."""

  def test_a_module_and_a_name_in_a_module_lead_to_the_same_file(self):
    for name in ("tfmeta.typing", "tfmeta.typing.Weights"):
      self.assertEqual(source_tree.file_of(name), "tfmeta/typing.py")

  def test_a_name_of_a_package_leads_to_its_init(self):
    self.assertEqual(source_tree.file_of("tfmeta.MAML"), "tfmeta/__init__.py")

  def test_a_function_that_a_package_passes_on_leads_to_its_init(self):
    # Without the package, the same import returns the module of that name.
    self.assertEqual(
      source_tree.file_of("tfmeta.evaluation.evaluate"),
      "tfmeta/evaluation/__init__.py",
    )
    self.assertEqual(
      source_tree.file_of("tfmeta.evaluation.evaluate.evaluate"),
      "tfmeta/evaluation/evaluate.py",
    )

  def test_tests_find_the_modules_of_other_folders_as_pytest_does(self):
    for importer in ("tests/core/credit_test.py", "tests/rl/outer_test.py"):
      self.assertEqual(
        source_tree.file_of("enumeration", importer),
        "tests/rl/enumeration.py",
      )
    self.assertIsNone(source_tree.file_of("enumeration", "tfmeta/typing.py"))

  def test_a_program_in_a_string_brings_its_imports(self):
    # Bazel runs it without them: an empty package takes the place of tfmeta.
    for path in ("layers/fused_normalization_test", "repository/import_test"):
      started = source_tree.started_files(f"tests/{path}.py")
      self.assertIn("tfmeta/__init__.py", started)

  def test_no_module_of_the_tests_counts_as_a_package_outside(self):
    paths = source_tree.python_files("tests")
    names = {build_file.name_of(path) for path in paths}
    for path in paths:
      taken = names.intersection(source_tree.outside_packages(path))
      self.assertEmpty(taken, f"{path} gets no target for an import")

  def test_a_package_outside_has_no_file(self):
    self.assertIsNone(source_tree.file_of("tensorflow.nn"))

  def test_reads_this_file(self):
    here = "tests/repository/build_test.py"
    self.assertEqual(
      source_tree.imported_files(here),
      [
        "tests/repository/build_file.py",
        "tests/repository/long_tests.py",
        "tests/repository/source_tree.py",
      ],
    )
    self.assertIn("absl", source_tree.outside_packages(here))


if __name__ == "__main__":
  absltest.main()
