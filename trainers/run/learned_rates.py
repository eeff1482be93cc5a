"""The inner rates that a learner has learned: for TensorBoard, as a picture."""

import keras
from matplotlib import figure
import numpy as np
import tensorflow as tf

PICTURE = "learned_rates.png"


def of_learner(learner) -> dict[str, np.ndarray]:
  """Rates `[steps]` of each adapted tensor, by its name; empty if none learn.

  Where each entry has its own, their mean; `[1]` where steps share them.
  """
  layer = getattr(learner, "learned_rates", None)
  if layer is None:
    return {}
  leading = 1 if layer.steps is None else layer.steps
  return {
    name: np.reshape(rate, [leading, -1]).mean(axis=1)
    for name, rate in zip(layer.names, layer.rates, strict=True)
  }


class LogLearnedRates(keras.callbacks.Callback):
  """Writes the rates after each epoch for TensorBoard."""

  def __init__(self, log_dir):
    super().__init__()
    self.log_dir = str(log_dir)

  def on_train_begin(self, logs=None) -> None:
    """Opens the one file that all epochs go to."""
    if of_learner(self.model):
      self._writer = tf.summary.create_file_writer(self.log_dir)

  def on_epoch_end(self, epoch, logs=None) -> None:
    """Writes them."""
    for name, values in of_learner(self.model).items():
      with self._writer.as_default(epoch):
        for step, value in enumerate(values):
          tf.summary.scalar(f"learned_rates/{name}/step_{step}", value)

  def on_train_end(self, logs=None) -> None:
    """Closes it."""
    if of_learner(self.model):
      self._writer.close()


def draw(folder, learner) -> None:
  """Draws the rates of each tensor in each step, if there are any."""
  rates = of_learner(learner)
  if not rates:
    return
  table = np.stack(list(rates.values()))
  rows, columns = table.shape
  canvas = figure.Figure(
    figsize=(3.2 + 0.8 * columns, 1.7 + 0.3 * rows), layout="constrained"
  )
  axes = canvas.subplots()
  middle = learner.inner_learning_rate
  reach = max(np.abs(table - middle).max(), 1e-9)
  axes.imshow(
    table, cmap="RdBu", aspect="auto", vmin=middle - reach, vmax=middle + reach
  )
  for row, column in np.ndindex(table.shape):
    value = table[row, column]
    strong = abs(value - middle) > 0.6 * reach
    axes.text(
      column,
      row,
      f"{value:.3g}",
      ha="center",
      va="center",
      size=8,
      color="white" if strong else "black",
    )
  axes.set_yticks(range(rows), list(rates))
  steps = [f"step {step}" for step in range(columns)]
  axes.set_xticks(range(columns), steps if columns > 1 else ["all steps"])
  axes.set_title(f"learned inner rates (all began at {middle:g})")
  canvas.savefig(folder / PICTURE, dpi=120)
