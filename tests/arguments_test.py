"""Tests that checks accept valid arguments and name the invalid ones."""

import math
import pathlib
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tfmeta import arguments


class IntegerTest(parameterized.TestCase):
  def test_returns_a_python_integer(self):
    found = arguments.check_integer("n", np.int64(3), least=1)
    self.assertIs(type(found), int)
    self.assertEqual(found, 3)

  @parameterized.parameters(True, 2.0, "2", None)
  def test_another_type_is_a_type_error_and_a_value_error(self, value):
    for error in (TypeError, ValueError):
      with self.assertRaisesRegex(
        error, "`n` must be an integer.*Received: n="
      ):
        arguments.check_integer("n", value, least=1)

  def test_the_bound_is_inclusive(self):
    self.assertEqual(arguments.check_integer("n", 1, least=1), 1)
    with self.assertRaisesRegex(ValueError, "at least 1. Received: n=0"):
      arguments.check_integer("n", 0, least=1)


class NumberTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"above": 0}, 1e-9, 0),
    ({"least": 0}, 0, -1e-9),
    ({"below": 1}, 0.999, 1),
    ({"most": 1}, 1, 1.001),
    ({}, -3.5, math.nan),
    ({}, np.float32(2), math.inf),
  )
  def test_bounds(self, bounds, right, wrong):
    self.assertEqual(arguments.check_number("x", right, **bounds), right)
    with self.assertRaisesRegex(ValueError, "`x` must be .*Received: x="):
      arguments.check_number("x", wrong, **bounds)

  @parameterized.parameters(True, "1", None, ([1.0],))
  def test_other_types_are_refused(self, value):
    with self.assertRaisesRegex(ValueError, "Received: x="):
      arguments.check_number("x", value)


class OthersTest(parameterized.TestCase):
  def test_choices_are_listed(self):
    self.assertEqual(arguments.check_choice("c", "a", ("a", "b")), "a")
    with self.assertRaisesRegex(ValueError, "one of 'a', 'b'. Received: c='d'"):
      arguments.check_choice("c", "d", ("a", "b"))

  @parameterized.parameters(2**31, -(2**31) - 1, 1.5, True, None)
  def test_seeds_have_32_bits(self, seed):
    with self.assertRaisesRegex(ValueError, "32 bits.*Received: seed="):
      arguments.check_seed("seed", seed)
    self.assertEqual(arguments.check_seed("seed", -(2**31)), -(2**31))

  def test_paths_begin_with_a_home_that_exists(self):
    self.assertEqual(arguments.path("x", "~/a"), pathlib.Path.home() / "a")
    with self.assertRaisesRegex(ValueError, "home of a user.*x='~no_such_user"):
      arguments.path("x", "~no_such_user/a")

  @parameterized.parameters("runs/[a]", "runs/a*", "what?/b", "a\\b")
  def test_export_warns_of_paths_that_tensorflow_takes_for_patterns(self, path):
    with self.assertWarnsRegex(UserWarning, "a pattern.*Received: filepath="):
      arguments.check_export_path(path)

  def test_export_warns_of_no_other_path(self):
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      arguments.check_export_path(pathlib.Path("runs", "a b", "{c}]"))


if __name__ == "__main__":
  absltest.main()
