import dataclasses
import inspect
import pathlib

from absl.testing import absltest
import public_names

EXPECTED = pathlib.Path(__file__).with_name("public_api.txt")


def own_methods(cls):
  """Yields the public methods and properties that `cls` adds to its bases.

  Only bases from outside tfmeta count: their users know what they define.
  """
  foreign = [b for b in cls.__mro__ if not b.__module__.startswith("tfmeta")]
  for name, value in vars(cls).items():
    value = getattr(value, "__func__", value)
    known = any(name in vars(base) for base in foreign)
    if not name.startswith("_") and not known:
      if inspect.isfunction(value) or isinstance(value, property):
        yield f"{cls.__name__}.{name}", value


def writes_its_constructor(value):
  """Returns whether `value` is a class that defines `__init__` itself."""
  known = "__init__" in vars(value) if inspect.isclass(value) else False
  return known and not dataclasses.is_dataclass(value)


class PublicApiTest(absltest.TestCase):
  maxDiff = None

  def test_names_and_arguments_are_those_on_record(self):
    self.assertMultiLineEqual(
      EXPECTED.read_text(encoding="utf-8"),
      public_names.text(),
      "If this change is intended, run `make public_api` and describe it in "
      "CHANGELOG.md.",
    )

  def test_public_modules_are_the_ones_on_record(self):
    self.assertCountEqual(
      [module.__name__ for module in public_names.public_modules()],
      ["tfmeta"]
      + [
        f"tfmeta.{name}"
        for name in (
          "callbacks",
          "core",
          "data",
          "environments",
          "layers",
          "metrics",
          "models",
          "rl",
          "testing",
        )
      ],
    )

  def test_every_public_object_has_a_docstring(self):
    for module in public_names.public_modules():
      self.assertTrue(module.__doc__, module.__name__)
    for name, value in public_names.public_objects():
      if inspect.isclass(value) or inspect.isfunction(value):
        self.assertTrue(value.__doc__, name)

  def test_every_public_method_has_a_docstring(self):
    silent = [
      name
      for _, cls in public_names.public_objects()
      if inspect.isclass(cls)
      for name, method in own_methods(cls)
      if not inspect.getdoc(method)
    ]
    self.assertEmpty(silent)

  def test_options_after_the_second_argument_are_keyword_only(self):
    for name, value in public_names.public_objects():
      if inspect.isfunction(value) or writes_its_constructor(value):
        parameters = inspect.signature(value).parameters.values()
        free = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        options = [p.name for p in free[2:] if p.default is not p.empty]
        self.assertEmpty(options, name)


if __name__ == "__main__":
  absltest.main()
