import ast
import difflib
import os

from absl.testing import absltest
import build_file
import source_tree


def rules():
  """The rules in BUILD by name: what they are, and their attributes."""
  found = {}
  for node in source_tree.syntax_tree("BUILD").body:
    call = node.value
    attributes = {k.arg: k.value for k in call.keywords}
    if call.func.id in ("py_library", "py_test"):
      name = ast.literal_eval(attributes["name"])
      found[name] = (call.func.id, attributes)
  return found


class BuildTest(absltest.TestCase):
  def test_every_file_has_a_target_with_the_imports_as_its_deps(self):
    text = (source_tree.ROOT / "BUILD").read_text(encoding="utf-8")
    differences = difflib.unified_diff(
      text.splitlines(), build_file.text().splitlines(), "BUILD", "imports", n=1
    )
    found = "\n".join(differences)
    if found:
      self.fail(f"BUILD is out of date: run `make build_file`.\n{found}")

  def test_every_test_file_is_a_test_of_its_own(self):
    tests = [n for n, (kind, _) in rules().items() if kind == "py_test"]
    paths = source_tree.python_files("tests")
    self.assertCountEqual(
      tests, [p.removesuffix(".py") for p in paths if p.endswith("_test.py")]
    )

  def test_no_target_depends_on_a_missing_one(self):
    known = {f":{name}" for name in rules()}
    for name, (_, attributes) in rules().items():
      if "deps" in attributes:
        missing = set(ast.literal_eval(attributes["deps"])) - known
        self.assertEmpty(missing, f"deps of {name}")

  def test_the_only_build_file_is_at_the_top(self):
    found = []
    for folder, folders, files in os.walk(source_tree.ROOT):
      folders[:] = [f for f in folders if not f.startswith((".", "bazel-"))]
      found += [os.path.join(folder, f) for f in files if f in NAMES]
    self.assertEqual(found, [str(source_tree.ROOT / "BUILD")])


NAMES = ("BUILD", "BUILD.bazel")


class SourceTreeTest(absltest.TestCase):
  """BUILD and the layering test are no better than this reading."""

  def test_a_module_and_a_name_in_a_module_lead_to_the_same_file(self):
    for name in ("tfmeta.typing", "tfmeta.typing.Weights"):
      self.assertEqual(source_tree.file_of(name), "tfmeta/typing.py")

  def test_a_name_of_a_package_leads_to_its_init(self):
    self.assertEqual(source_tree.file_of("tfmeta.MAML"), "tfmeta/__init__.py")

  def test_a_package_outside_has_no_file(self):
    self.assertIsNone(source_tree.file_of("tensorflow.nn"))

  def test_reads_this_file(self):
    here = "tests/repository/build_test.py"
    self.assertEqual(
      source_tree.imported_files(here),
      ["tests/repository/build_file.py", "tests/repository/source_tree.py"],
    )
    self.assertIn("absl", source_tree.outside_packages(here))


if __name__ == "__main__":
  absltest.main()
