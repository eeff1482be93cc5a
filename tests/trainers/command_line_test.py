import contextlib
import io

from absl import flags
from absl.testing import absltest
from absl.testing import flagsaver
from absl.testing import parameterized

from tfmeta import callbacks
from trainers.run import command_line


class CommandTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    if not flags.FLAGS.is_parsed():
      flags.FLAGS(["program"])
    self.enterContext(flagsaver.flagsaver())

  def attempt(self, main, arguments=("program",)):
    with contextlib.redirect_stderr(io.StringIO()) as err:
      code = command_line.attempt(main, arguments)
    return code, err.getvalue()

  @parameterized.parameters(
    (ValueError("`ways` is\n  wrong."), "`ways` is wrong."),
    (ValueError("It\nmay be\n\n  a\n  b"), "It may be\n\n  a\n  b"),
    (callbacks.DivergenceError("NaN at update 3."), "NaN at update 3."),
    (callbacks.CheckpointError("No room."), "No room."),
    (FileNotFoundError("No data in /x."), "No data in /x."),
    (ImportError("pip install it."), "pip install it."),
    (
      OSError(28, "No space left", "/x/y"),
      "No space left: /x/y. Free some space and start the run again.",
    ),
    (PermissionError(13, "Permission denied"), "Permission denied"),
  )
  def test_what_a_user_can_put_right_is_one_sentence(self, error, sentence):
    def main(_):
      raise error

    self.assertEqual(self.attempt(main), (1, f"error: {sentence}\n"))

  @parameterized.parameters(
    AttributeError("typo"),
    TypeError("typo"),
    ValueError("in user code: typo"),
    ModuleNotFoundError("No module named 'typo'", name="typo"),
  )
  def test_a_fault_of_the_program_keeps_its_traceback(self, error):
    def main(_):
      raise error

    with self.assertRaisesRegex(type(error), "typo"):
      self.attempt(main)

  def test_an_interrupt_says_how_to_go_on(self):
    def main(_):
      raise KeyboardInterrupt

    code, said = self.attempt(main)
    self.assertEqual(code, 130)
    self.assertIn("The same command resumes", said)

  def test_a_word_that_is_no_flag_is_named(self):
    code, said = self.attempt(self.fail, ["program", "ways=5"])
    self.assertEqual(code, 1)
    self.assertIn("Received: ways=5", said)

  def test_success_is_exit_code_zero(self):
    self.assertEqual(self.attempt(lambda _: None), (None, ""))


if __name__ == "__main__":
  absltest.main()
