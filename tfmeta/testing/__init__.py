"""Tools to test models and learners with, including your own algorithms."""

import typing

from tfmeta.testing.second_order import check_second_order as check_second_order

if typing.TYPE_CHECKING:
  from tfmeta.testing.learner_test_case import (
    LearnerTestCase as LearnerTestCase,
  )


def __getattr__(name: str) -> typing.Any:
  """Loads `LearnerTestCase` when it is first used.

  Training a learner needs neither the exam nor `absl.testing`.
  """
  if name != "LearnerTestCase":
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  from tfmeta.testing import learner_test_case

  return learner_test_case.LearnerTestCase


def __dir__() -> list[str]:
  return sorted({*globals(), "LearnerTestCase"})
