"""Shows how far a run is, and the time left of it."""

import shutil
import sys
import time

import keras

_WIDTH = 24
_PAUSE = 0.2  # Seconds between two drawings of the bar.


class Progress(keras.callbacks.Callback):
  """A bar over the whole run on a terminal; elsewhere a line per epoch.

  Args:
    stream: Where to write. Default: standard error.
  """

  def __init__(self, stream=None):
    super().__init__()
    self.stream = stream or sys.stderr
    self.is_terminal = self.stream.isatty()

  def on_train_begin(self, logs=None) -> None:
    """Starts the clock."""
    self._first: tuple[float, int] | None = None
    self._drawn, self._width = 0.0, 0

  def on_epoch_begin(self, epoch, logs=None) -> None:
    """Notes what is done and what is to do."""
    steps, epochs = self.params["steps"], self.params["epochs"]
    self._label = f"epoch {epoch + 1}/{epochs}"
    self._before, self._total = epoch * steps, epochs * steps

  def on_train_batch_end(self, batch, logs=None) -> None:
    """Draws the bar, a few times a second."""
    now, done = time.monotonic(), self._before + batch + 1
    if self._first is None:  # The first call builds the graph: no measure.
      self._first = (now, done)
    if self.is_terminal and now - self._drawn > _PAUSE:
      self._drawn = now
      self._draw(done, logs)

  def on_epoch_end(self, epoch, logs=None) -> None:
    """Leaves the line of the epoch behind."""
    done = self._before + self.params["steps"]
    if self.is_terminal:
      self._draw(done, logs, end="\n")
    else:
      self._write(f"{self._text(done, logs)}\n")

  def _draw(self, done, logs, end=""):
    filled = _WIDTH * done // self._total
    bar = "#" * filled + "-" * (_WIDTH - filled)
    columns = shutil.get_terminal_size().columns - 1
    line = f"[{bar}] {self._text(done, logs)}"[:columns]
    self._write("\r" + line.ljust(self._width) + end)
    self._width = 0 if end else len(line)

  def _text(self, done, logs):
    return "  ".join([self._label, *_figures(logs), self._left(done)])

  def _left(self, done):
    start, before = self._first or (0.0, done)
    if done == before:
      return ""
    rate = (time.monotonic() - start) / (done - before)
    return f"{_clock(rate * (self._total - done))} left"

  def _write(self, text):
    self.stream.write(text)
    self.stream.flush()


def _figures(logs):
  names = ("loss", "accuracy", "val_loss", "val_accuracy")
  return [f"{name} {logs[name]:.3f}" for name in names if name in (logs or {})]


def _clock(seconds):
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}:{minutes:02}:{seconds:02}"
  return f"{minutes}:{seconds:02}"
