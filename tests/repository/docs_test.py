"""Tests the documents: their programs run and their links lead somewhere."""

import contextlib
import doctest
import importlib
import io
import os
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import source_tree

import tfmeta

DOCUMENTS = (
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "trainers/README.md",
)

# The programs of the README run with smaller sizes, and otherwise unchanged.
SMALLER = {
  "ways=5, filters=32": "ways=5, filters=4",
  "inner_steps=5": "inner_steps=1",
  "steps_per_epoch=1000": "steps_per_epoch=2",
  "steps_per_epoch=100,": "steps_per_epoch=2,",
  "steps_per_epoch=10,": "steps_per_epoch=1,",
  "steps_per_epoch=60)": "steps_per_epoch=1)",
  "horizon=100": "horizon=3",
  "epochs=10)": "epochs=1)",
  "epochs=5": "epochs=1",
  "epochs=3": "epochs=1",
  ".batch(20).take(5)": ".batch(2).take(1)",
  ".batch(50).take(12)": ".batch(2).take(2)",
}


def read(name):
  return (source_tree.ROOT / name).read_text(encoding="utf-8")


def blocks(name, language):
  """Returns the fenced blocks of a language in a document."""
  pattern = rf"^```{language}\n(.*?)^```$"
  return re.findall(pattern, read(name), re.MULTILINE | re.DOTALL)


def smaller(program):
  """Returns the program with smaller sizes; each size must occur in it."""
  for text, replacement in SMALLER.items():
    if text not in program:
      raise ValueError(f"README.md no longer says `{text}`.")
    program = program.replace(text, replacement)
  return program


def own_data():
  """Returns the data that a reader brings: 6 classes of 20 images."""
  random = np.random.default_rng(0)
  x = random.random((120, 28, 28, 1), dtype=np.float32)
  return {"x": x, "y": np.repeat(np.arange(6), 20)}


class ReadmeTest(absltest.TestCase):
  def test_its_programs_run_one_after_the_other(self):
    program = smaller("\n".join(blocks("README.md", "python")))
    names = own_data()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    # The first program sets a variable for TensorFlow.
    self.enterContext(mock.patch.dict(os.environ))
    with contextlib.chdir(folder):
      exec(compile(program, "README.md", "exec"), names)
      self.assertTrue(pathlib.Path("maml.keras").is_file())
    self.assertEqual(names["logits"]["outputs"].shape, (75, 5))

  def test_first_line_says_what_it_is(self):
    first = read("README.md").split("\n\n")[1]
    for word in ("Meta-learning", "TensorFlow", "Keras 3"):
      self.assertIn(word, first)


class ContributingTest(absltest.TestCase):
  def test_its_algorithm_trains(self):
    (program,) = blocks("CONTRIBUTING.md", "python")
    names = {}
    exec(compile(program, "CONTRIBUTING.md", "exec"), names)
    model = tfmeta.models.mlp((1,), outputs=1, hidden=(4,))
    learner = names["DecayedMAML"](
      model, inner_steps=2, inner_loss="mse", inner_learning_rate=0.1
    )
    learner.compile(optimizer="sgd")
    spec = tfmeta.TaskSpec(shots=2, query_shots=2)
    tasks = tfmeta.data.sinusoid("train", spec).batch(2).take(1)
    history = learner.fit(tasks, verbose=0).history
    self.assertTrue(np.isfinite(history["loss"][0]))
    self.assertEqual(tfmeta.evaluate(learner, tasks).after_steps, (0, 1, 2))


class DocumentsTest(parameterized.TestCase):
  @parameterized.parameters(*DOCUMENTS)
  def test_links_to_files_lead_somewhere(self, name):
    prose = re.sub(r"^```.*?^```", "", read(name), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)#\s]+)", prose):
      if not link.startswith("https://"):
        folder = (source_tree.ROOT / name).parent
        self.assertTrue((folder / link).exists(), link)

  @parameterized.parameters(*DOCUMENTS)
  def test_named_files_exist(self, name):
    folders = r"(?:tfmeta|trainers|tests|examples|benchmarks|\.ci)/[\w./-]*\w"
    for path in re.findall(rf"(?<![\w./]){folders}", read(name)):
      self.assertTrue((source_tree.ROOT / path).exists(), path)

  @parameterized.parameters(*DOCUMENTS)
  def test_make_targets_exist(self, name):
    targets = set(re.findall(r"^([a-z_]+):", read("Makefile"), re.MULTILINE))
    code = "\n".join(blocks(name, "sh") + re.findall(r"`([^`]+)`", read(name)))
    named = set(re.findall(r"(?:^|\W)make ([a-z_]+)", code))
    self.assertContainsSubset(named, targets)

  @parameterized.parameters(*DOCUMENTS)
  def test_commands_name_programs_and_flags_that_exist(self, name):
    sources = "\n".join(
      read(path) for path in source_tree.python_files("trainers", "benchmarks")
    )
    for module in re.findall(r"python -m ([\w.]+)", read(name)):
      if module.split(".")[0] in ("trainers", "benchmarks", "tfmeta"):
        self.assertIsNotNone(source_tree.file_of(module), module)
    for line in re.findall(
      r"python -m (?:trainers|benchmarks)\S* (.*)", read(name)
    ):
      for flag in re.findall(r"--(\w+)", line):
        self.assertRegex(sources, rf"\b{flag}\b")

  def test_every_trainer_is_in_the_readme(self):
    for path in source_tree.python_files("trainers"):
      if "__main__" in read(path) and not path.endswith("__main__.py"):
        module = path.removesuffix(".py").replace("/", ".")
        self.assertIn(f"python -m {module}", read("README.md"))


class VersionTest(absltest.TestCase):
  def test_all_files_name_the_same_version(self):
    version = re.search(r'__version__ = "(.+)"', read("tfmeta/__init__.py"))[1]
    self.assertIn(f"\nversion: {version}\n", read("CITATION.cff"))
    self.assertIn(f'version = "{version}"', read("MODULE.bazel"))


def modules_with_examples():
  """Yields the modules of tfmeta whose docstrings hold `>>>` examples."""
  for path in source_tree.python_files("tfmeta"):
    if ">>> " in read(path):
      yield path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class DocstringTest(absltest.TestCase):
  def test_examples_run(self):
    for name in modules_with_examples():
      module = importlib.import_module(name)
      report = io.StringIO()
      with contextlib.redirect_stdout(report):
        failed = doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed
      self.assertEqual(failed, 0, report.getvalue())


if __name__ == "__main__":
  absltest.main()
