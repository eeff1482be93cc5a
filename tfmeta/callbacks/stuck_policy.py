"""Warns when the training of a policy stands still."""

from typing import Any
import warnings

import keras
import numpy as np

from tfmeta import arguments

# The logarithm of the least standard deviation of an action.
_LEAST_LOG_STDDEV = float(np.log(1e-6))


class WarnOfStuckPolicy(keras.callbacks.Callback):
  """A callback that warns when a policy no longer learns.

  It warns once in each of two cases. A `TrustRegion` accepted no step in
  several updates running: the divergence may be too large or the gradient zero.
  Or a standard deviation of the actions fell to its least value, 1e-6, so that
  the policy no longer explores.

  Args:
    updates: Integer >= 1. Number of updates without an accepted step after
      which to warn. Defaults to 10.
  """

  def __init__(self, updates: int = 10):
    super().__init__()
    self.updates = arguments.check_integer("updates", updates, least=1)
    self._refused = 0
    self._accepted_before = 0.0
    self._warned: set[str] = set()

  def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
    """Notes that the means of the epoch start anew."""
    self._accepted_before = 0.0

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    """Counts updates without an accepted step."""
    if "accepted" not in (logs or {}):
      return
    # Logs are means over the updates of the epoch so far.
    accepted = float(logs["accepted"]) * (batch + 1)
    grew = accepted - self._accepted_before > 0.5
    self._accepted_before = accepted
    self._refused = 0 if grew else self._refused + 1
    if self._refused >= self.updates:
      self._warn(
        f"The trust region has accepted no step in {self.updates} updates "
        "running, so the weights stay as they are: try a smaller "
        "`max_divergence`, more episodes, or `curvature_episodes=None`."
      )

  def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
    """Looks at the deviations of the actions."""
    for variable in self.model.trainable_variables:
      if variable.name == "log_stddev" and (
        np.min(keras.ops.convert_to_numpy(variable)) <= _LEAST_LOG_STDDEV
      ):
        self._warn(
          "A standard deviation of the actions has fallen to its least value, "
          "1e-6: the policy no longer explores. Try a smaller inner or outer "
          "learning rate."
        )

  def _warn(self, message: str) -> None:
    if message not in self._warned:
      self._warned.add(message)
      warnings.warn(message, stacklevel=2)
