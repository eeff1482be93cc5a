"""A callback that ends a run whose loss or weights are no longer finite."""

import keras
import numpy as np
import tensorflow as tf

from tfmeta.callbacks import run_state


class DivergenceError(ArithmeticError):
  """Error raised when the loss or a weight is no longer finite."""


class TerminateOnDivergence(keras.callbacks.Callback):
  """Callback that ends `fit` when the loss or a weight is no longer finite.

  The model and the optimizer get back their last good variables, which are
  those at which a finite loss was computed. The loss of an update is computed
  before the update, so a finite loss says nothing about the weights after it.
  Two copies of all variables are kept in memory. With `steps_per_execution=n`,
  the weights are checked after every `n` updates. The message then names `n`
  updates, and the variables are those of an earlier check.

  Raises:
    DivergenceError: From `fit`. The message names the update.
  """

  def on_train_begin(self, logs=None) -> None:
    self._watched = run_state.variables_of(self.model)
    self._copy = tf.function(lambda: _copy(self._watched))
    self._epoch, self._checked = 0, 0
    finite, self._good = self._copy()
    self._last = self._good
    if not finite:
      raise DivergenceError("The weights hold NaN or inf before any update.")

  def on_epoch_begin(self, epoch, logs=None) -> None:
    self._epoch, self._checked = epoch, 0

  def on_train_batch_end(self, batch, logs=None) -> None:
    losses = [v for k, v in (logs or {}).items() if k.endswith("loss")]
    if not np.all(np.isfinite(losses)):
      self._stop("loss", batch)
    # This finite loss was computed at the variables of the last copy.
    self._good = self._last
    finite, self._last = self._copy()
    if not finite:
      self._stop("weights", batch)
    self._checked = batch + 1

  def _stop(self, what, batch):
    for variable, value in zip(self._watched, self._good, strict=True):
      variable.assign(value)
    first, last = self._checked + 1, batch + 1
    updates = f"update {last}" if first == last else f"updates {first}-{last}"
    raise DivergenceError(
      f"The {what} became NaN or inf at {updates} of epoch {self._epoch + 1}; "
      "the last good weights were restored. Check the data for NaN, or try a "
      "smaller learning rate, outer or inner."
    )


def _copy(variables):
  """Returns whether all `variables` are finite, and copies of them."""
  values = [tf.identity(tf.convert_to_tensor(v)) for v in variables]
  checks = [
    tf.reduce_all(tf.math.is_finite(v)) for v in values if v.dtype.is_floating
  ]
  return tf.reduce_all(checks), values
