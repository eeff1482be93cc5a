"""Tests that `make test` and `make test_lowest` leave out, for their time.

`make test_all` runs them too, and starts with them. Bazel allows their files 15
minutes. What they check in all learners, layers or trainers, other tests check
in one or two.
"""

# A file, or a class of a file.
NAMES = (
  "tests/algorithms/common_test.py::AllLearnersTest",
  "tests/algorithms/maml_plus_plus_test.py::DescentTest",
  "tests/algorithms/padding_test.py",
  "tests/algorithms/recompute_steps_test.py",
  "tests/algorithms/threads_test.py",
  "tests/layers/converted_test.py",
  "tests/numerics/keras_layers_test.py",
  "tests/repository/docs_test.py",
  "tests/rl/keras_test.py::ReplicaTest",
  "tests/trainers/kill_test.py",
  "tests/trainers/launch_test.py",
  "tests/trainers/smoke_test.py::RunTest",
)

PATHS = tuple({name.partition("::")[0]: None for name in NAMES})


def is_long(node: str) -> bool:
  """Returns whether a test, by its name in pytest, is a long one."""
  return any(node == name or node.startswith(f"{name}::") for name in NAMES)
