"""Tests that `LearnerTestCase` is public and loaded only when it is used."""

import os
import pathlib
import subprocess
import sys

from absl.testing import absltest

import tfmeta

ROOT = pathlib.Path(__file__).absolute().parents[2]


def run_python(program):
  """Returns what `program` prints, run in a process of its own."""
  return subprocess.run(
    [sys.executable, "-c", program],
    cwd=ROOT,
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    capture_output=True,
    text=True,
    check=True,
  ).stdout


class LearnerTestCaseTest(absltest.TestCase):
  def test_is_loaded_when_it_is_used(self):
    # TensorFlow itself loads absl.testing, so that is no sign.
    printed = run_python(
      "import sys, tfmeta\n"
      "name = 'tfmeta.testing.learner_test_case'\n"
      "print(name in sys.modules)\n"
      "print(tfmeta.testing.LearnerTestCase.__name__)\n"
      "print(name in sys.modules)\n"
    )
    self.assertEqual(printed.split(), ["False", "LearnerTestCase", "True"])

  def test_is_listed(self):
    self.assertIn("LearnerTestCase", dir(tfmeta.testing))
    self.assertIn("check_second_order", dir(tfmeta.testing))

  def test_an_unknown_name_is_an_error_of_the_usual_kind(self):
    with self.assertRaisesRegex(AttributeError, "no attribute 'Learner'"):
      tfmeta.testing.Learner  # noqa: B018


class RunLearnerTestTest(absltest.TestCase):
  def test_asks_each_question_on_each_network(self):
    asked = []

    def check_something(case, subject):
      asked.append((case, subject.backbone, subject.learner_class))

    class Exam(tfmeta.testing.LearnerTestCase):
      def runTest(self):
        self.run_learner_test(tfmeta.MAML, checks=[check_something])

    case = Exam()
    case.runTest()
    self.assertEqual(
      asked, [(case, "mlp", tfmeta.MAML), (case, "conv", tfmeta.MAML)]
    )


if __name__ == "__main__":
  absltest.main()
