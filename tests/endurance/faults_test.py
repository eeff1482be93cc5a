from absl.testing import absltest

from tests.endurance import faults


class FaultsTest(absltest.TestCase):
  def test_counts_what_each_part_may_not_find(self):
    counts = {"kills": 9, "orphans": 1, "lost_epochs": 2, "tracebacks": 0}
    self.assertEqual(faults.count(counts), 3)
    damages = {"tars": {"same": 7, "crash": 1}, "images": {"wrong": 2}}
    self.assertEqual(faults.count(damages), 3)
    repeats = {"repeats": 5, "different_weights": {"MAML": 1, "BMAML": 3}}
    self.assertEqual(faults.count(repeats), 2)

  def test_finds_nothing_wrong_in_a_good_report(self):
    self.assertEqual(faults.count({"disks": 3, "full": 2}), 0)


if __name__ == "__main__":
  absltest.main()
