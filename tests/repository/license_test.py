from absl.testing import absltest
import source_tree

# Text that a reader can check: no images, arrays or archives.
PLAIN = {".py", ".json", ".md", ".txt", ".typed"}
NAMES = {"BUILD"}


class LicenseTest(absltest.TestCase):
  def test_the_license_is_apache_2(self):
    text = (source_tree.ROOT / "LICENSE").read_text(encoding="utf-8")
    self.assertIn("Apache License\n", text)
    self.assertIn("Version 2.0, January 2004", text)
    self.assertIn("END OF TERMS AND CONDITIONS", text)

  def test_the_metadata_name_the_same_license(self):
    for name, line in (
      ("pyproject.toml", 'license = "Apache-2.0"'),
      ("CITATION.cff", "license: Apache-2.0"),
    ):
      text = (source_tree.ROOT / name).read_text(encoding="utf-8")
      self.assertIn(line, text, name)

  def test_no_data_set_is_shipped(self):
    for folder in ("tfmeta", "trainers", "tests", "examples"):
      for path in (source_tree.ROOT / folder).rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
          plain = path.suffix in PLAIN or path.name in NAMES
          self.assertTrue(plain, path)
          self.assertLess(path.stat().st_size, 1 << 20, path)


if __name__ == "__main__":
  absltest.main()
