"""Test files that take longer than a minute on two cores.

`make test_lowest` leaves them out, `make test` starts with them, and Bazel
allows them 15 minutes.
"""

PATHS = (
  "tests/algorithms/common_test.py",
  "tests/algorithms/threads_test.py",
  "tests/repository/docs_test.py",
  "tests/trainers/kill_test.py",
  "tests/trainers/launch_test.py",
  "tests/trainers/smoke_test.py",
)
