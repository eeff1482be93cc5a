"""The questions that every learner is asked: see `LearnerTestCase`."""

from tfmeta.testing.exam import execution
from tfmeta.testing.exam import saving
from tfmeta.testing.exam import training

CHECKS = (*training.CHECKS, *saving.CHECKS, *execution.CHECKS)
