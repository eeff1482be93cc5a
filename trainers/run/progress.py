"""Shows the progress of a run and the time left."""

import shutil
import sys
import time

import keras

# Characters in the bar.
_WIDTH = 24

# Seconds between two updates of the bar.
_PAUSE = 0.2


class Progress(keras.callbacks.Callback):
  """A bar for the whole run on a terminal, or else one line for each epoch.

  Args:
    stream: Stream to write to. Default: standard error.
  """

  def __init__(self, stream=None):
    super().__init__()
    self.stream = stream or sys.stderr
    self.is_terminal = self.stream.isatty()

  def on_train_begin(self, logs=None) -> None:
    """Resets the clock."""
    self._first: tuple[float, int] | None = None
    self._updated_at, self._width = 0.0, 0

  def on_epoch_begin(self, epoch, logs=None) -> None:
    """Notes how many updates are done and how many there are."""
    steps, epochs = self.params["steps"], self.params["epochs"]
    self._label = f"epoch {epoch + 1}/{epochs}"
    self._before, self._total = epoch * steps, epochs * steps

  def on_train_batch_end(self, batch, logs=None) -> None:
    """Updates the bar, a few times a second."""
    now, done = time.monotonic(), self._before + batch + 1
    # The first call traces the graph, so time is measured from its end on.
    if self._first is None:
      self._first = (now, done)
    if self.is_terminal and now - self._updated_at > _PAUSE:
      self._updated_at = now
      self._show_bar(done, logs)

  def on_epoch_end(self, epoch, logs=None) -> None:
    """Writes the line of the epoch, which stays."""
    done = self._before + self.params["steps"]
    if self.is_terminal:
      self._show_bar(done, logs, end="\n")
    else:
      self._write(f"{self._text(done, logs)}\n")

  def _show_bar(self, done, logs, end="") -> None:
    filled = _WIDTH * done // self._total
    bar = "#" * filled + "-" * (_WIDTH - filled)
    columns = shutil.get_terminal_size().columns - 1
    line = f"[{bar}] {self._text(done, logs)}"[:columns]
    # Spaces cover the rest of a longer line before.
    self._write("\r" + line.ljust(self._width) + end)
    self._width = 0 if end else len(line)

  def _text(self, done, logs) -> str:
    return "  ".join([self._label, *_metrics(logs), self._time_left(done)])

  def _time_left(self, done) -> str:
    start, before = self._first or (0.0, done)
    if done == before:
      return ""
    seconds_per_update = (time.monotonic() - start) / (done - before)
    return f"{_clock(seconds_per_update * (self._total - done))} left"

  def _write(self, text) -> None:
    self.stream.write(text)
    self.stream.flush()


def _metrics(logs) -> list[str]:
  names = ("loss", "accuracy", "val_loss", "val_accuracy")
  return [f"{name} {logs[name]:.3f}" for name in names if name in (logs or {})]


def _clock(seconds) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}:{minutes:02}:{seconds:02}"
  return f"{minutes}:{seconds:02}"
