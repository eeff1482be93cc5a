import io

from absl.testing import absltest
import keras
import numpy as np

from trainers.run import progress


class Terminal(io.StringIO):
  def isatty(self):
    return True


def shown_on(stream, initial_epoch=0):
  model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
  model.compile("sgd", "mse")
  model.fit(
    np.ones([8, 1]),
    np.ones([8, 1]),
    batch_size=1,
    epochs=3,
    initial_epoch=initial_epoch,
    callbacks=[progress.Progress(stream)],
    verbose=0,
  )
  return stream.getvalue()


class ProgressTest(absltest.TestCase):
  def test_elsewhere_than_on_a_terminal_it_is_a_line_per_epoch(self):
    lines = shown_on(io.StringIO()).splitlines()
    self.assertLen(lines, 3)
    self.assertRegex(lines[0], r"^epoch 1/3  loss \d.* left$")
    self.assertRegex(lines[2], r"^epoch 3/3  loss .*  0:00 left$")
    self.assertNotIn("\r", "".join(lines))

  def test_on_a_terminal_the_bar_spans_the_whole_run(self):
    lines = shown_on(Terminal()).splitlines()
    self.assertRegex(lines[-1], r"\[#{24}\] epoch 3/3  loss .*  0:00 left")
    finished = [line for line in lines if "epoch 1/3" in line][-1]
    self.assertIn("[########----------------]", finished)

  def test_a_resumed_run_begins_where_it_was(self):
    lines = shown_on(io.StringIO(), initial_epoch=2).splitlines()
    self.assertLen(lines, 1)
    self.assertStartsWith(lines[0], "epoch 3/3")


if __name__ == "__main__":
  absltest.main()
