"""Sizes, which the linter does not measure."""

import ast
import statistics

from absl.testing import absltest
import source_tree

LONGEST_FILE = 250
LONGEST_FUNCTION = 60
LONG_FUNCTION = 40  # At most one in ten may be longer.
USUAL_FUNCTION = 12

PACKAGES = ("tfmeta", "trainers", "benchmarks")


def functions(path):
  """All functions and methods in the file."""
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
  tree = source_tree.syntax_tree(path)
  return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def length(function):
  """Lines of a function without its docstring."""
  body = function.body
  if ast.get_docstring(function, clean=False) is not None:
    if len(body) == 1:
      return 1
    return function.end_lineno - body[0].end_lineno
  return function.end_lineno - function.lineno + 1


class StyleTest(absltest.TestCase):
  def test_files_fit_on_a_few_screens(self):
    for path in source_tree.python_files(*PACKAGES):
      text = (source_tree.ROOT / path).read_text(encoding="utf-8")
      self.assertLessEqual(len(text.splitlines()), LONGEST_FILE, path)

  def test_no_function_is_longer_than_a_screen(self):
    for path in source_tree.python_files(*PACKAGES, "examples", "tests"):
      for function in functions(path):
        where = f"{path}:{function.lineno} {function.name}"
        self.assertLessEqual(length(function), LONGEST_FUNCTION, where)

  def test_functions_are_mostly_short(self):
    paths = source_tree.python_files(*PACKAGES)
    lengths = [length(f) for p in paths for f in functions(p)]
    self.assertLessEqual(statistics.median(lengths), USUAL_FUNCTION)
    self.assertLessEqual(statistics.quantiles(lengths, n=10)[8], LONG_FUNCTION)

  def test_every_test_file_also_runs_by_itself(self):
    for path in source_tree.python_files("tests"):
      if path.endswith("_test.py"):
        last = ast.unparse(source_tree.syntax_tree(path).body[-1])
        self.assertIn("if __name__ == '__main__':", last, path)
        self.assertIn(".main()", last, path)

  def test_no_drawer_for_everything(self):
    for path in source_tree.python_files(*PACKAGES, "tests"):
      self.assertNotRegex(path, r"(^|/)(utils?|helpers?|misc|common)(/|\.py)")


class LengthTest(absltest.TestCase):
  def test_the_docstring_does_not_count(self):
    source = 'def f():\n  """One.\n\n  Two.\n  """\n  a = 1\n  return a\n'
    self.assertEqual(length(ast.parse(source).body[0]), 2)

  def test_a_function_without_docstring_counts_from_its_first_line(self):
    source = "def f():\n  a = 1\n  return a\n"
    self.assertEqual(length(ast.parse(source).body[0]), 3)


if __name__ == "__main__":
  absltest.main()
