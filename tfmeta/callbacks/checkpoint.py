"""A callback that saves a run, so that it can be killed at any moment."""

import contextlib
import json
import os
import re
import time

from absl import logging
import keras
import numpy as np

from tfmeta import arguments
from tfmeta import whole_files
from tfmeta.callbacks import run_state


class CheckpointError(OSError):
  """Error raised when a checkpoint cannot be written or cannot be used."""


class Checkpoint(keras.callbacks.Callback):
  """Callback that saves a run after every epoch.

  The run can be killed at any moment. Each epoch writes one file that holds the
  history and all variables of the model and its optimizer. The file includes
  the random seeds, which Keras's own weight files leave out. All files are
  written under a temporary name, flushed, and renamed. A SHA-256 beside each
  file is written last; a file counts only if it matches its SHA-256. The files
  of the last two epochs are kept.

  A resumed run ends with the same weights, bit for bit, as a run that was never
  stopped, provided that epoch `i` reads the same batches in both.
  `tfmeta.data` guarantees this with `start=`. The state of other callbacks,
  such as `EarlyStopping`, is not saved.

  Args:
    directory: Folder for the files; made when missing. Each run needs its own.
    monitor: Name of a log, such as `"val_accuracy"`, that decides which weights
      are the best. These weights are kept as well. Defaults to `None`, which
      keeps no best weights.
    mode: Whether larger (`"max"`) or smaller (`"min"`) values of `monitor` are
      better. If values are equal, the earlier epoch wins. Defaults to
      `"max"`.
    keep: Integer >= 1, how many of the best weights are kept. Defaults to 1.

  Attributes:
    epoch: Number of finished epochs.
    history: Dict from the name of a log to its values, one for each finished
      epoch. `seconds` is the duration of each epoch, including validation and
      saving.
    best_epochs: Numbers of the epochs whose weights are kept, the best first.
      The first epoch is number 1.

  Raises:
    ValueError: If `mode` or `keep` is out of range. From `fit`, if `monitor`
      is not in the logs, if `initial_epoch` is not the number of finished
      epochs, or if `directory` holds a run that was not restored.
    CheckpointError: From `fit`, when a file cannot be written, for example
      because the disk is full. Earlier checkpoints stay as they were.

  Example:
    checkpoint = tfmeta.callbacks.Checkpoint("run", monitor="val_accuracy")
    done = checkpoint.restore(learner)  # Finished epochs; 0 in a new run.
    tasks = tfmeta.data.glyphs("train", spec, start=done * 100 * 8)
    learner.fit(tasks.batch(8), steps_per_epoch=100, epochs=20,
                initial_epoch=done, validation_data=validation,
                callbacks=[checkpoint])
    checkpoint.load_best(learner)
  """

  def __init__(self, directory, *, monitor=None, mode="max", keep=1):
    super().__init__()
    self.directory = os.fspath(directory)
    self.monitor = monitor
    self.mode = arguments.check_choice("mode", mode, ("max", "min"))
    self.keep = arguments.check_integer("keep", keep, least=1)
    self.epoch = 0
    self.history = {}

  def restore(self, model) -> int:
    """Loads the newest whole checkpoint into a model.

    A damaged checkpoint is skipped, and a warning is logged. If both
    checkpoints of the last epochs are damaged, the run goes on from the newest
    of the best weights. Nothing is written or removed.

    Args:
      model: A compiled model.

    Returns:
      The number of finished epochs, which is the `initial_epoch` for `fit`. It
      is 0 if there is no checkpoint; `model` is then left as it was.

    Raises:
      CheckpointError: If there are checkpoints but none is whole, or if the
        newest whole one belongs to another model.
    """
    paths = self._saved("best") + self._saved("epoch")
    for path in reversed(paths):
      found = _read(path)
      if found is not None:
        state, values = found
        self._assign(model, values, path)
        self.epoch, self.history = state["epoch"], state["history"]
        return self.epoch
      logging.warning("The checkpoint %s is damaged and was passed over.", path)
    if paths:
      raise CheckpointError(
        f"None of the {len(paths)} checkpoints in {self.directory} is whole. "
        "Remove the folder to start the run again."
      )
    return 0

  @property
  def best_epochs(self) -> list[int]:
    """The numbers of the epochs whose weights are kept, the best first."""
    values = self.history.get(self.monitor, [])
    sign = -1 if self.mode == "max" else 1
    # The epoch breaks ties: if values are equal, the earlier epoch comes first.
    ranked = sorted(
      (sign * value, epoch)
      for epoch, value in enumerate(values, start=1)
      if np.isfinite(value)
    )
    return [epoch for _, epoch in ranked[: self.keep]]

  def load_best(self, model, rank=0) -> bool:
    """Loads the best weights and the optimizer state that belongs to them.

    Args:
      model: A compiled model.
      rank: Integer below `keep`: 0 for the best weights, 1 for the second best,
        and so on. Defaults to 0.

    Returns:
      Whether weights were loaded. If there is no `monitor`, if too few epochs
      are finished, or if the file is damaged, `model` keeps its weights. A
      damaged file is logged.
    """
    if rank >= len(self.best_epochs):
      return False
    path = self._best_path(self.best_epochs[rank])
    found = _read(path)
    if found is None:
      logging.warning("The best weights, %s, are damaged or missing.", path)
      return False
    self._assign(model, found[1], path)
    return True

  def on_train_begin(self, logs=None) -> None:
    os.makedirs(self.directory, exist_ok=True)
    self._remove_unfinished()
    self._clock = time.monotonic()
    if not self.epoch and self._saved("epoch"):
      raise ValueError(
        "`directory` holds the checkpoints of a run: call `restore(model)` "
        f"first, or choose another. Received: directory={self.directory!r}"
      )

  def on_epoch_begin(self, epoch, logs=None) -> None:
    if epoch != self.epoch:
      raise ValueError(
        f"`fit` must continue after {self.epoch} finished epochs: call it with "
        f"`initial_epoch={self.epoch}`. Received: initial_epoch={epoch}"
      )

  def on_epoch_end(self, epoch, logs=None) -> None:
    now = time.monotonic()
    logs = {**(logs or {}), "seconds": now - self._clock}
    self._clock = now
    self.epoch = epoch + 1
    for name, value in logs.items():
      self.history.setdefault(name, []).append(float(value))
    if self.monitor is not None and self.monitor not in logs:
      raise ValueError(
        f"`monitor` must be one of the logs, {sorted(logs)}. "
        f"Received: monitor={self.monitor!r}"
      )
    if self.epoch in self.best_epochs:
      self._write(self._best_path(self.epoch))
    self._write(self._file("epoch", self.epoch))
    self._prune()

  def _assign(self, model, values, path):
    try:
      run_state.assign(model, values)
    except ValueError as error:
      raise CheckpointError(
        f"The checkpoint {path} belongs to another model. {error}"
      ) from error

  def _write(self, path):
    state = json.dumps({"epoch": self.epoch, "history": self.history})
    data = run_state.pack(self.model, state)
    try:
      run_state.write(path, data)
    except OSError as error:
      raise CheckpointError(
        f"The checkpoint of epoch {self.epoch} could not be saved in "
        f"{self.directory}: {error.strerror or error}. Earlier checkpoints are "
        "whole; make room on the disk and start the run again."
      ) from error

  def _prune(self):
    last = [self._file("epoch", n) for n in (self.epoch - 1, self.epoch)]
    kept = {*last, *map(self._best_path, self.best_epochs)}
    # A kill between two removals leaves a file without its mark.
    for path in {*self._saved("epoch", ""), *self._saved("best", "")} - kept:
      run_state.remove(path)

  def _remove_unfinished(self):
    for name in os.listdir(self.directory):
      if name.startswith(whole_files.UNFINISHED):
        # Another worker of the same run may have removed it already.
        with contextlib.suppress(FileNotFoundError):
          os.remove(os.path.join(self.directory, name))

  def _saved(self, kind, ending=run_state.MARK):
    """Returns the paths of the files that have this ending, the oldest first.

    Args:
      kind: "epoch" or "best".
      ending: What follows the path. Defaults to that of the marks of whole
        files.
    """
    pattern = re.compile(rf"{kind}-(\d{{5,}})\.npz{re.escape(ending)}")
    names = os.listdir(self.directory) if os.path.isdir(self.directory) else []
    found = filter(None, map(pattern.fullmatch, names))
    return [self._file(kind, n) for n in sorted(int(m[1]) for m in found)]

  def _best_path(self, epoch):
    return self._file("best", epoch)

  def _file(self, kind, epoch):
    return os.path.join(self.directory, f"{kind}-{epoch:05d}.npz")


def _read(path):
  """Returns the state and the variables in a file, or `None` if damaged."""
  data = run_state.read(path)
  if data is None:
    return None
  try:
    note, values = run_state.unpack(data)
    state = json.loads(note)
  except (ValueError, RecursionError):
    return None
  return (state, values) if _is_state(state) else None


def _is_state(state) -> bool:
  """Returns whether a value is what `Checkpoint` writes beside variables."""
  if not isinstance(state, dict):
    return False
  epoch, history = state.get("epoch"), state.get("history")
  if not isinstance(epoch, int) or not isinstance(history, dict) or epoch < 1:
    return False
  return all(
    isinstance(values, list) and all(isinstance(v, float) for v in values)
    for values in history.values()
  )
