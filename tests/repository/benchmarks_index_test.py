import ast
import pathlib
import re

from absl.testing import absltest
from absl.testing import parameterized

# Not resolved: Bazel runs tests in a tree of links.
ROOT = pathlib.Path(__file__).absolute().parents[2]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
INDEX = BENCHMARKS / "README.md"
DOCUMENTS = sorted([INDEX, *RESULTS.rglob("*.md")])
COMMANDS = sorted(
  path for path in BENCHMARKS.glob("*.py") if path.name != "__init__.py"
)

# The index is a table of contents; details belong in the notes.
LONGEST_INDEX = 120


def read(path):
  return path.read_text(encoding="utf-8")


def links(path):
  """Returns the targets of all links and images in a document."""
  return re.findall(r"\]\(([^)#\s]+)", read(path))


def row_of(command):
  """Returns the row of the index that begins with the command's link."""
  start = f"| [`python -m benchmarks.{command.stem}`]({command.name}) |"
  rows = [row for row in read(INDEX).splitlines() if row.startswith(start)]
  return rows[0] if len(rows) == 1 else ""


def defined_flags(source):
  """Returns the names of the flags that a program defines."""
  names = re.findall(r"flags\.DEFINE_\w+\(\s*\"(\w+)\"", source)
  return {*names, "help"}


class CommandsTest(parameterized.TestCase):
  @parameterized.named_parameters((path.stem, path) for path in COMMANDS)
  def test_is_a_program(self, path):
    tree = ast.parse(read(path))
    functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    self.assertIn("main", functions)
    self.assertEqual(
      ast.unparse(tree.body[-1]),
      "if __name__ == '__main__':\n    app.run(main)",
    )
    self.assertIn(f"python -m benchmarks.{path.stem}", ast.get_docstring(tree))

  @parameterized.named_parameters((path.stem, path) for path in COMMANDS)
  def test_is_in_the_index_with_a_link_to_its_note(self, path):
    row = row_of(path)
    self.assertLen(row.strip("|").split("|"), 5, f"no row for {path.stem}")
    results = [p for p in RESULTS.iterdir() if p.stem == path.stem]
    if results:
      self.assertIn(f"(results/{path.stem}.md)", row)

  def test_no_command_is_in_the_index_that_does_not_exist(self):
    pattern = r"^\| \[`python -m benchmarks\.(\w+)`\]"
    named = re.findall(pattern, read(INDEX), re.M)
    self.assertCountEqual(named, [path.stem for path in COMMANDS])

  @parameterized.named_parameters(
    (path.relative_to(BENCHMARKS).as_posix(), path) for path in DOCUMENTS
  )
  def test_documents_name_flags_that_exist(self, document):
    pattern = r"python -m benchmarks\.(\w+)([^`\n|]*)"
    for name, rest in re.findall(pattern, read(document)):
      known = defined_flags(read(BENCHMARKS / f"{name}.py"))
      self.assertContainsSubset(re.findall(r"--(\w+)", rest), known)


class DocumentsTest(parameterized.TestCase):
  def test_the_index_is_short(self):
    self.assertLessEqual(len(read(INDEX).splitlines()), LONGEST_INDEX)

  @parameterized.named_parameters(
    (path.relative_to(BENCHMARKS).as_posix(), path) for path in DOCUMENTS
  )
  def test_links_and_pictures_exist(self, document):
    for link in links(document):
      if not link.startswith("https://"):
        self.assertTrue((document.parent / link).exists(), link)

  def test_the_index_leads_to_every_note(self):
    linked = {(INDEX.parent / link).as_posix() for link in links(INDEX)}
    notes = {path.as_posix() for path in DOCUMENTS if path != INDEX}
    self.assertContainsSubset(notes, linked)

  def test_every_result_has_a_note_that_links_it(self):
    linked = {
      (note.parent / link).as_posix()
      for note in DOCUMENTS
      for link in links(note)
    }
    for path in RESULTS.rglob("*"):
      if path.suffix in (".json", ".png"):
        # A note may link the folder of all its results.
        places = {path.as_posix(), path.parents[1].as_posix()}
        self.assertNotEmpty(places & linked, path)


if __name__ == "__main__":
  absltest.main()
