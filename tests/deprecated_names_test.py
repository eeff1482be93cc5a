"""Old public names still work, and say where their objects are now."""

from absl.testing import absltest

import tfmeta
from tfmeta import deprecated_names
from tfmeta.algorithms import leo


class DeprecatedNamesTest(absltest.TestCase):
  def test_an_old_name_is_the_object_and_warns(self):
    with self.assertWarnsRegex(DeprecationWarning, "is now tfmeta.algorithms"):
      old = tfmeta.layers.ClassifierGenerator
    self.assertIs(old, leo.ClassifierGenerator)

  def test_every_old_name_leads_somewhere(self):
    for package, name in deprecated_names.MOVED:
      parent = getattr(tfmeta, package.removeprefix("tfmeta."))
      with self.assertWarns(DeprecationWarning):
        self.assertIsNotNone(getattr(parent, name))

  def test_other_names_are_missing_as_before(self):
    with self.assertRaisesRegex(AttributeError, "has no attribute 'Nothing'"):
      tfmeta.layers.Nothing  # noqa: B018


if __name__ == "__main__":
  absltest.main()
