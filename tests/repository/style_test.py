"""Tests sizes that the linter does not measure: files, classes, functions."""

import ast
import io
import statistics
import tokenize

from absl.testing import absltest
import source_tree

LONGEST_FILE = 350  # Lines of code, as `code_lines` counts them.
MOST_METHODS = 30
LONGEST_FUNCTION = 60
LONG_FUNCTION = 40  # At most one in ten may be longer.
USUAL_FUNCTION = 12

PACKAGES = ("tfmeta", "trainers", "benchmarks")

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_WITH_DOCSTRING = (*_FUNCTIONS, ast.ClassDef, ast.Module)
_LAYOUT = (
  tokenize.COMMENT,
  tokenize.NL,
  tokenize.NEWLINE,
  tokenize.INDENT,
  tokenize.DEDENT,
  tokenize.ENDMARKER,
)


def functions(path):
  """Returns all functions and methods in the file."""
  tree = source_tree.syntax_tree(path)
  return [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]


def classes(path):
  """Returns all classes in the file."""
  tree = source_tree.syntax_tree(path)
  return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def methods(cls):
  """Returns the methods that a class defines itself."""
  return [node for node in cls.body if isinstance(node, _FUNCTIONS)]


def length(function):
  """Returns the number of lines of a function without its docstring."""
  body = function.body
  if ast.get_docstring(function, clean=False) is not None:
    if len(body) == 1:
      return 1
    return function.end_lineno - body[0].end_lineno
  return function.end_lineno - function.lineno + 1


def _lines(node):
  return range(node.lineno, node.end_lineno + 1)


def code_lines(text):
  """Returns how many lines of a source text hold code.

  Docstrings, comments, imports and blank lines do not count, so that nobody
  saves on the documentation to stay below a limit.
  """
  found = set()
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    if token.type not in _LAYOUT:
      found.update(range(token.start[0], token.end[0] + 1))
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import | ast.ImportFrom):
      found.difference_update(_lines(node))
    elif isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node):
      found.difference_update(_lines(node.body[0]))
  return len(found)


class StyleTest(absltest.TestCase):
  def test_files_hold_one_topic(self):
    for path in source_tree.python_files(*PACKAGES):
      text = (source_tree.ROOT / path).read_text(encoding="utf-8")
      self.assertLessEqual(code_lines(text), LONGEST_FILE, path)

  def test_classes_have_few_methods_of_their_own(self):
    for path in source_tree.python_files(*PACKAGES):
      for cls in classes(path):
        where = f"{path}:{cls.lineno} {cls.name}"
        self.assertLessEqual(len(methods(cls)), MOST_METHODS, where)

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

  def test_no_file_is_named_for_everything(self):
    for path in source_tree.python_files(*PACKAGES, "tests"):
      self.assertNotRegex(path, r"(^|/)(utils?|helpers?|misc|common)(/|\.py)")


class LengthTest(absltest.TestCase):
  def test_the_docstring_does_not_count(self):
    source = 'def f():\n  """One.\n\n  Two.\n  """\n  a = 1\n  return a\n'
    self.assertEqual(length(ast.parse(source).body[0]), 2)

  def test_a_function_without_docstring_counts_from_its_first_line(self):
    source = "def f():\n  a = 1\n  return a\n"
    self.assertEqual(length(ast.parse(source).body[0]), 3)


class CodeLinesTest(absltest.TestCase):
  def test_docstrings_comments_imports_and_blank_lines_do_not_count(self):
    source = (
      '"""A module.\n\nIt has two paragraphs.\n"""\n\n'
      "import ast\nfrom a import (\n  b,\n)\n\n"
      '# Why.\nclass C:\n  """A class."""\n\n'
      '  def f(self):\n    """Returns 1.\n\n    Two lines.\n    """\n'
      "    # Why.\n    return 1  # A comment beside code.\n"
    )
    self.assertEqual(code_lines(source), 3)

  def test_an_expression_and_a_string_over_several_lines_count_in_full(self):
    source = 'x = f(\n  1,\n  2,\n)\ny = """a\n\nb"""\n'
    self.assertEqual(code_lines(source), 7)

  def test_a_comment_inside_an_expression_does_not_count(self):
    self.assertEqual(code_lines("x = [\n  # Why.\n  1,\n]\n"), 3)


if __name__ == "__main__":
  absltest.main()
