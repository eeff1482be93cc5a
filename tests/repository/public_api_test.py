import dataclasses
import inspect
import pathlib

from absl.testing import absltest
import public_names

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


if __name__ == "__main__":
  absltest.main()
