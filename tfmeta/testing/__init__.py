"""Tools to test models and learners with, for users' own algorithms too."""

from tfmeta.testing.learner_test_case import LearnerTestCase as LearnerTestCase
from tfmeta.testing.second_order import check_second_order as check_second_order
