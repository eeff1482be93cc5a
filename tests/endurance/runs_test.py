from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from tests.endurance import runs


class LostEpochsTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("all_were_found", 5, 5, 5, 0, 0),
    ("a_run_starts_anew", 0, 5, 5, 0, 5),
    ("a_run_resumes_too_early", 3, 5, 5, -9, 2),
    ("a_checkpoint_is_gone", None, 5, 3, -9, 2),
    ("a_killed_run_said_nothing", None, 5, 5, -9, 0),
    ("a_run_with_some_workers_said_nothing", None, 5, 5, None, 0),
    ("a_run_that_ended_said_nothing", None, 5, 6, 0, 5),
  )
  def test_if(self, resumed_after, before, done, code, expected):
    run = mock.Mock()
    run.resumed_after.return_value = resumed_after
    run.process.returncode = code
    self.assertEqual(runs.lost_epochs(run, before, done), expected)


if __name__ == "__main__":
  absltest.main()
