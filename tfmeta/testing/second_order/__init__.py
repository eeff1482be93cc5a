"""Checks the second derivatives of a model against central differences."""

from tfmeta.testing.second_order.check import (
  check_second_order as check_second_order,
)
