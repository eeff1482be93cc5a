"""Callbacks for runs that may be killed, diverge, or fill the disk."""

from tfmeta.callbacks.checkpoint import Checkpoint
from tfmeta.callbacks.checkpoint import CheckpointError
from tfmeta.callbacks.divergence import DivergenceError
from tfmeta.callbacks.divergence import TerminateOnDivergence
from tfmeta.callbacks.stuck_policy import WarnOfStuckPolicy

__all__ = [
  "Checkpoint",
  "CheckpointError",
  "DivergenceError",
  "TerminateOnDivergence",
  "WarnOfStuckPolicy",
]
