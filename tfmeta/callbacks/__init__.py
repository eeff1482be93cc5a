"""Callbacks for runs that may be killed, diverge, or fill the disk."""

from tfmeta.callbacks.checkpoint import Checkpoint as Checkpoint
from tfmeta.callbacks.checkpoint import CheckpointError as CheckpointError
from tfmeta.callbacks.divergence import DivergenceError as DivergenceError
from tfmeta.callbacks.divergence import (
  TerminateOnDivergence as TerminateOnDivergence,
)
from tfmeta.callbacks.stuck_policy import WarnOfStuckPolicy as WarnOfStuckPolicy
