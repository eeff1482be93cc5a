"""Saves a run after every epoch, so that it can be killed at any moment."""

import contextlib
import glob
import json
import os
import time

from absl import logging
import keras
import numpy as np

from tfmeta.callbacks import run_state
from tfmeta.callbacks import whole_file


class CheckpointError(OSError):
  """A checkpoint could not be written, or none of those found can be used."""


class Checkpoint(keras.callbacks.Callback):
  """Saves a run after every epoch, so that it can be killed at any moment.

  One file per epoch holds all variables of the model (random seeds too, which
  Keras's own weight files leave out), those of its optimizer, and the history.
  A SHA-256 beside it, written last, makes it count; all files are written
  under a temporary name, flushed and renamed. The last two are kept.

  A resumed run ends with the weights of one never stopped, bit for bit, if
  epoch `i` reads the same batches in both. `tfmeta.data` promises that for
  `start=`; what other callbacks know (`EarlyStopping`) is not saved.

  Args:
    directory: Where to write; made when missing. Its own for each run.
    monitor: Name in the logs, such as `"val_accuracy"`, by which the best
      weights are kept as well. Default `None`: none are.
    mode: `"max"` or `"min"`: which values of `monitor` are better. Of equal
      values the earlier epoch wins. Default `"max"`.
    keep: Integer >= 1. How many of the best weights are kept. Default 1.

  Attributes:
    epoch: Number of finished epochs.
    history: Dict from the name of a log to its values, one per finished epoch.
      `seconds` is the time each epoch took, validation and saving included.
    best_epochs: For each of the best weights that are kept, from the best on,
      the number of epochs behind it.

  Raises:
    ValueError: If `mode` or `keep` is none of those. From `fit`, if
      `monitor` is not in the logs, or if `fit` does not go on where the
      checkpoint is.
    CheckpointError: From `fit`, when the disk is full; what was saved before
      stays as it was.

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
    if mode not in ("max", "min"):
      raise ValueError(
        f'`mode` must be "max" or "min". Received: mode={mode!r}'
      )
    if not isinstance(keep, int) or keep < 1:
      raise ValueError(
        f"`keep` must be an integer of at least 1. Received: keep={keep!r}"
      )
    self.directory = os.fspath(directory)
    self.monitor = monitor
    self.mode = mode
    self.keep = keep
    self.epoch = 0
    self.history = {}

  def restore(self, model) -> int:
    """Loads the newest whole checkpoint into a compiled `model`.

    Returns:
      The number of finished epochs: `initial_epoch` for `fit`. 0 if there is
      no checkpoint; `model` is then as it was.

    Raises:
      CheckpointError: If there are checkpoints, but none is whole, or if the
        newest whole one belongs to another model.
    """
    for name in glob.glob(self._path("*.tmp")):
      # Another worker of the same run may have done so.
      with contextlib.suppress(FileNotFoundError):
        os.remove(name)
    paths = self._saved("epoch")
    for path in reversed(paths):
      data = whole_file.read(path)
      if data is not None:
        self._load_state(json.loads(self._load(model, data, path)))
        return self.epoch
      logging.warning("The checkpoint %s is damaged and was passed over.", path)
    if paths:
      raise CheckpointError(
        f"None of the {len(paths)} checkpoints in {self.directory} is whole. "
        "Remove the folder to start the run anew."
      )
    return 0

  @property
  def best_epochs(self) -> list[int]:
    values = self.history.get(self.monitor, [])
    sign = -1 if self.mode == "max" else 1
    ranked = sorted(
      (sign * value, epoch)
      for epoch, value in enumerate(values, start=1)
      if np.isfinite(value)
    )
    return [epoch for _, epoch in ranked[: self.keep]]

  def load_best(self, model, rank=0) -> bool:
    """Loads the best weights, and their optimizer state, into `model`.

    Args:
      model: A compiled model.
      rank: Integer below `keep`: 0 for the best, 1 for the second best, ...

    Returns:
      Whether it did. If not, `model` keeps the weights it has: there is no
      `monitor`, not so many epochs were finished, or the file is damaged
      (logged).
    """
    if rank >= len(self.best_epochs):
      return False
    path = self._best_path(self.best_epochs[rank])
    data = whole_file.read(path)
    if data is None:
      logging.warning("The best weights, %s, are damaged or missing.", path)
      return False
    self._load(model, data, path)
    return True

  def on_train_begin(self, logs=None) -> None:
    os.makedirs(self.directory, exist_ok=True)
    self._clock = time.monotonic()
    if not self.epoch and self._saved("epoch"):
      raise ValueError(
        "`directory` holds the checkpoints of a run: call `restore(model)` "
        f"first, or choose another. Received: directory={self.directory!r}"
      )

  def on_epoch_begin(self, epoch, logs=None) -> None:
    if epoch != self.epoch:
      raise ValueError(
        f"`fit` must go on after {self.epoch} finished epochs: give it "
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
    self._write(self._path(f"epoch-{self.epoch:05d}.npz"))
    self._prune()

  def _load(self, model, data, path):
    try:
      return run_state.load(model, data)
    except ValueError as error:
      raise CheckpointError(
        f"The checkpoint {path} belongs to another model. {error}"
      ) from error

  def _load_state(self, state):
    self.epoch, self.history = state["epoch"], state["history"]

  def _write(self, path):
    state = json.dumps({"epoch": self.epoch, "history": self.history})
    data = run_state.pack(self.model, state)
    try:
      whole_file.write(path, data)
    except OSError as error:
      raise CheckpointError(
        f"The checkpoint of epoch {self.epoch} could not be saved in "
        f"{self.directory}: {error.strerror or error}. The checkpoints before "
        "it are whole; make room and start the run again."
      ) from error

  def _prune(self):
    best = [self._best_path(epoch) for epoch in self.best_epochs]
    old = [path for path in self._saved("best") if path not in best]
    for path in old + self._saved("epoch")[:-2]:
      whole_file.remove(path)

  def _saved(self, kind):
    marks = glob.glob(self._path(f"{kind}-*.npz{whole_file.MARK}"))
    return [mark.removesuffix(whole_file.MARK) for mark in sorted(marks)]

  def _best_path(self, epoch):
    return self._path(f"best-{epoch:05d}.npz")

  def _path(self, name):
    return os.path.join(self.directory, name)
