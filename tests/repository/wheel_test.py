"""Tests what `pip install` puts into site-packages."""

import ast
import email
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile

from absl.testing import absltest
import source_tree

# Folders and files of a checkout that are no source: they may be large.
NO_SOURCE = shutil.ignore_patterns(
  ".*", "bazel-*", "build", "dist", "runs", "*.egg-info", "__pycache__"
)

BUILD_WHEEL = """
import sys
from setuptools import build_meta
build_meta.build_wheel(sys.argv[1])
"""


def project():
  """Returns the table `[project]` of pyproject.toml."""
  text = (source_tree.ROOT / "pyproject.toml").read_text(encoding="utf-8")
  return tomllib.loads(text)["project"]


def build_wheel(folder):
  """Builds the wheel from a copy of the sources, without a network.

  Args:
    folder: Path of an empty folder for the copy and the wheel.

  Returns:
    Path of the wheel.
  """
  copy = folder / "copy"
  shutil.copytree(source_tree.ROOT, copy, ignore=NO_SOURCE)
  done = subprocess.run(
    [sys.executable, "-c", BUILD_WHEEL, str(folder)],
    cwd=copy,
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise RuntimeError(
      "The wheel cannot be built; `make install` installs what this needs.\n"
      f"{done.stdout}{done.stderr}"
    )
  return next(folder.glob("*.whl"))


class WheelTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    with zipfile.ZipFile(build_wheel(pathlib.Path(folder))) as wheel:
      cls.files = wheel.namelist()
      path = next(f for f in cls.files if f.endswith(".dist-info/METADATA"))
      cls.metadata = email.message_from_bytes(wheel.read(path))

  def test_installs_the_package_and_nothing_else_at_the_top_level(self):
    top_level = {file.split("/")[0] for file in self.files}
    version = self.metadata["Version"]
    self.assertEqual(top_level, {"tfmeta", f"tfmeta-{version}.dist-info"})

  def test_holds_every_module_of_tfmeta(self):
    modules = [file for file in self.files if file.endswith(".py")]
    self.assertCountEqual(modules, source_tree.python_files("tfmeta"))

  def test_holds_every_other_file_of_tfmeta(self):
    others = [
      path.relative_to(source_tree.ROOT).as_posix()
      for path in (source_tree.ROOT / "tfmeta").rglob("*")
      if path.is_file() and path.suffix in (".json", ".typed")
    ]
    self.assertIn("tfmeta/py.typed", others)
    self.assertTrue([path for path in others if path.endswith(".json")])
    self.assertContainsSubset(others, self.files)

  def test_holds_the_license(self):
    version = self.metadata["Version"]
    self.assertIn(f"tfmeta-{version}.dist-info/licenses/LICENSE", self.files)
    self.assertEqual(self.metadata["License-Expression"], "Apache-2.0")

  def test_the_version_is_the_one_of_the_package(self):
    source = source_tree.syntax_tree("tfmeta/__init__.py")
    versions = [
      ast.literal_eval(node.value)
      for node in source.body
      if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"
    ]
    self.assertEqual([self.metadata["Version"]], versions)

  def test_the_description_is_the_readme(self):
    readme = (source_tree.ROOT / "README.md").read_text(encoding="utf-8")
    description = self.metadata.get_payload(decode=True).decode("utf-8")
    self.assertEqual(description.strip(), readme.strip())
    self.assertEqual(self.metadata["Description-Content-Type"], "text/markdown")

  def test_classifiers_leave_the_license_to_its_expression(self):
    classifiers = self.metadata.get_all("Classifier")
    self.assertEmpty([c for c in classifiers if c.startswith("License ::")])


class RequirementsTest(absltest.TestCase):
  def test_extras_are_the_ones_the_documents_speak_of(self):
    extras = project()["optional-dependencies"]
    self.assertCountEqual(extras, ["trainers", "rl", "benchmarks", "dev"])

  def test_no_requirement_comes_with_tfmeta_that_only_trainers_need(self):
    names = [
      re.match(r"[\w.-]+", line).group() for line in project()["dependencies"]
    ]
    self.assertNoCommonElements(names, ["matplotlib", "tensorboard"])

  def test_the_shim_holds_no_metadata(self):
    calls = [
      ast.unparse(node)
      for node in ast.walk(source_tree.syntax_tree("setup.py"))
      if isinstance(node, ast.Call)
    ]
    self.assertEqual(calls, ["setuptools.setup()"])


if __name__ == "__main__":
  absltest.main()
