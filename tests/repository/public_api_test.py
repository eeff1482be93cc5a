import dataclasses
import inspect
import os
import pathlib
import subprocess
import sys

from absl.testing import absltest
import public_names
import source_tree

EXPECTED = pathlib.Path(__file__).with_name("public_api.txt")


def own_methods(cls):
  """Public methods and properties that `cls` adds to its foreign bases."""
  foreign = [b for b in cls.__mro__ if not b.__module__.startswith("tfmeta")]
  for name, value in vars(cls).items():
    value = getattr(value, "__func__", value)
    known = any(name in vars(base) for base in foreign)
    if not name.startswith("_") and not known:
      if inspect.isfunction(value) or isinstance(value, property):
        yield f"{cls.__name__}.{name}", value


def writes_its_constructor(value):
  """Whether it is a class with an `__init__` written by hand."""
  known = "__init__" in vars(value) if inspect.isclass(value) else False
  return known and not dataclasses.is_dataclass(value)


def run_python(program):
  """Runs `program` in a process of its own, in the root of the repository."""
  return subprocess.run(
    [sys.executable, "-c", program],
    cwd=source_tree.ROOT,
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    capture_output=True,
    text=True,
    check=False,
  )


class PublicApiTest(absltest.TestCase):
  maxDiff = None

  def test_names_and_arguments_are_those_on_record(self):
    self.assertMultiLineEqual(
      EXPECTED.read_text(encoding="utf-8"),
      public_names.text(),
      "If this change is meant, run `make public_api` and tell of it in "
      "CHANGELOG.md.",
    )

  def test_modules_are_the_ones_the_readme_speaks_of(self):
    self.assertCountEqual(
      [module.__name__ for module in public_names.public_modules()],
      ["tfmeta"]
      + [
        f"tfmeta.{name}"
        for name in (
          "callbacks",
          "core",
          "data",
          "layers",
          "metrics",
          "models",
          "testing",
        )
      ],
    )

  def test_everything_public_says_what_it_is(self):
    for module in public_names.public_modules():
      self.assertTrue(module.__doc__, module.__name__)
    for name, value in public_names.public_objects():
      if inspect.isclass(value) or inspect.isfunction(value):
        self.assertTrue(value.__doc__, name)

  def test_every_method_of_ours_says_what_it_does(self):
    silent = [
      name
      for _, cls in public_names.public_objects()
      if inspect.isclass(cls)
      for name, method in own_methods(cls)
      if not inspect.getdoc(method)
    ]
    self.assertEmpty(silent)

  def test_settings_after_the_second_argument_are_keyword_only(self):
    for name, value in public_names.public_objects():
      if inspect.isfunction(value) or writes_its_constructor(value):
        parameters = inspect.signature(value).parameters.values()
        free = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        settings = [p.name for p in free[2:] if p.default is not p.empty]
        self.assertEmpty(settings, name)

  def test_the_import_is_silent_and_leaves_heavy_packages_alone(self):
    heavy = ["tensorboard", "tensorflow_datasets", "torch"]
    program = f"import sys, tfmeta; print(set(sys.modules) & set({heavy}))"
    done = run_python(program)
    self.assertEqual(done.stdout, "set()\n", done.stderr)

  def test_another_backend_of_keras_is_refused_with_a_remedy(self):
    done = run_python(
      "import keras; keras.backend.backend = lambda: 'jax'; import tfmeta"
    )
    self.assertNotEqual(done.returncode, 0)
    self.assertIn("KERAS_BACKEND=tensorflow", done.stderr.splitlines()[-1])


if __name__ == "__main__":
  absltest.main()
