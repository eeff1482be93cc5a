from absl.testing import absltest
import lowest_versions


class LowestVersionsTest(absltest.TestCase):
  def test_a_lowest_version_becomes_the_only_one(self):
    found = lowest_versions.constraints(["keras>=3.5", "tf-keras>=2.18.0"])
    self.assertEqual(found, ["keras==3.5", "tf-keras==2.18.0"])

  def test_a_requirement_without_a_version_is_not_held(self):
    found = lowest_versions.constraints(["ruff", "tfmeta[trainers]"])
    self.assertEmpty(found)

  def test_all_that_programs_of_users_need_has_a_lowest_version(self):
    requirements = lowest_versions.required("trainers")
    held = lowest_versions.constraints(requirements)
    self.assertLen(held, len(requirements))


if __name__ == "__main__":
  absltest.main()
