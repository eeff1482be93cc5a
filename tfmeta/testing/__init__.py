"""Tools to test models and learners with, for users' own algorithms too."""

from tfmeta.testing.learner_test_case import LearnerTestCase as LearnerTestCase
from tfmeta.testing.meta_gradient import (
  check_second_order as check_second_order,
)
