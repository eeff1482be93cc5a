"""Logs of a run for TensorBoard, in addition to Keras's own logs."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

import tfmeta


def learned_rates(learner) -> dict[str, np.ndarray]:
  """Returns the inner learning rates that a learner has learned.

  Returns:
    For each adapted tensor, by its name, its rates `[steps]`. If every element
    has its own rate, this is their mean; if all steps share one, it has the
    shape `[1]`. Empty if the learner learns no rates.
  """
  layer = getattr(learner, "learned_rates", None)
  if layer is None:
    return {}
  steps = 1 if layer.steps is None else layer.steps
  return {
    name: np.reshape(rate, [steps, -1]).mean(axis=1)
    for name, rate in zip(layer.names, layer.rates, strict=True)
  }


class LearnedRatesLog(keras.callbacks.Callback):
  """A callback that writes the learned rates after each epoch.

  Args:
    log_dir: Folder to write to.
  """

  def __init__(self, log_dir):
    super().__init__()
    self.log_dir = str(log_dir)

  def on_train_begin(self, logs=None) -> None:
    """Opens the file for all epochs, if there are rates to write."""
    if learned_rates(self.model):
      self._writer = tf.summary.create_file_writer(self.log_dir)

  def on_epoch_end(self, epoch, logs=None) -> None:
    """Writes the rates."""
    for name, values in learned_rates(self.model).items():
      with self._writer.as_default(epoch):
        for step, value in enumerate(values):
          tf.summary.scalar(f"learned_rates/{name}/step_{step}", value)

  def on_train_end(self, logs=None) -> None:
    """Closes the file."""
    if learned_rates(self.model):
      self._writer.close()


def write_calibration(
  folder: pathlib.Path, measured, plot: pathlib.Path
) -> None:
  """Writes the calibration plot, and accuracy by the share of queries answered.

  The steps of `selective_accuracy` are percents of the queries.

  Args:
    folder: The workdir.
    measured: An `EvaluationResult` of classification.
    plot: File of the plot.
  """
  picture = tf.io.decode_png(plot.read_bytes(), channels=3)
  pairs = zip(
    tfmeta.metrics.COVERAGES, measured.selective_accuracy, strict=True
  )
  writer = tf.summary.create_file_writer(str(folder / "logs" / "test"))
  with writer.as_default():
    tf.summary.image("calibration", picture[tf.newaxis], step=0)
    for coverage, accuracy in pairs:
      percent = round(100 * coverage)
      tf.summary.scalar("selective_accuracy", accuracy, step=percent)
