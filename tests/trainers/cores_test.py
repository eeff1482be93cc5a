import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from trainers.run import cores

INTRA, INTER = "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"


class CoresTest(parameterized.TestCase):
  def share_out(self, count, tasks, **environment):
    with mock.patch.dict(os.environ, environment, clear=True):
      with mock.patch.object(
        os, "sched_getaffinity", return_value=range(count)
      ):
        cores.share_out(tasks)
      return os.environ[INTRA], os.environ[INTER]

  @parameterized.parameters(
    (2, 8, "1", "2"),  # Each of two tasks at a time has one core.
    (1, 8, "1", "1"),
    (8, 2, "4", "8"),  # Fewer tasks than cores: all cores are used.
    (64, 32, "7", "64"),  # At most ten tasks run at a time.
    (8, 1, "8", "8"),
  )
  def test_each_task_in_work_has_cores_of_its_own(self, count, tasks, *threads):
    self.assertEqual(self.share_out(count, tasks), tuple(threads))

  def test_what_the_environment_says_stays(self):
    given = {INTRA: "3", INTER: "5"}
    self.assertEqual(self.share_out(2, 8, **given), ("3", "5"))


if __name__ == "__main__":
  absltest.main()
