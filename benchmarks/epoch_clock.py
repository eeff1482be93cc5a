"""A clock for the training part of epochs."""

import time

import keras


class Clock(keras.callbacks.Callback):
  """Times the epochs without their validation, and the first step's tracing.

  Attributes:
    cpu_seconds: One for each epoch, as are `seconds`, of the wall clock.
  """

  def __init__(self):
    super().__init__()
    self.seconds = []
    self.cpu_seconds = []

  def on_epoch_begin(self, epoch, logs=None) -> None:
    """Starts it."""
    self._begin = time.perf_counter(), time.process_time()

  def on_train_batch_end(self, batch, logs=None) -> None:
    """Starts it anew after the very first step."""
    if batch == 0 and not self.seconds:
      self.on_epoch_begin(0)

  def on_test_begin(self, logs=None) -> None:
    """Stops it: validation ends an epoch."""
    begin, cpu_begin = self._begin
    self.seconds.append(time.perf_counter() - begin)
    self.cpu_seconds.append(time.process_time() - cpu_begin)
