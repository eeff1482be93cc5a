"""Tests that `make test` and `make test_lowest` leave out, for their time.

They take two thirds of the time of all tests. `make test_all` runs them too,
and starts with them. Bazel allows their files 15 minutes.
"""

# A file, or a class of a file.
NAMES = (
  "tests/algorithms/common_test.py::AllLearnersTest",
  "tests/algorithms/for_each_sample_test.py",
  "tests/algorithms/inner_options_test.py",
  "tests/algorithms/leo_embeddings_test.py",
  "tests/algorithms/maml_plus_plus_test.py::DescentTest",
  "tests/algorithms/padding_test.py",
  "tests/algorithms/random_layers_test.py",
  "tests/algorithms/recompute_steps_test.py",
  "tests/algorithms/several_inputs_test.py::TextTest",
  "tests/algorithms/targets_test.py::LearnersTest",
  "tests/algorithms/targets_test.py::SegmentationTest",
  "tests/algorithms/threads_test.py",
  "tests/core/compiled_steps_test.py::FitTest",
  "tests/core/svgd_test.py::ManyTasksTest",
  "tests/evaluation/passes_test.py",
  "tests/export_test.py::LoadingTest",
  "tests/layers/converted_test.py",
  "tests/numerics/keras_layers_test.py",
  "tests/repository/docs_test.py::ContributingTest",
  "tests/repository/docs_test.py::DocstringTest",
  "tests/repository/docs_test.py::ReadmeTest",
  "tests/repository/missing_packages_test.py",
  "tests/rl/keras_test.py::ReplicaTest",
  "tests/rl/learners_test.py",
  "tests/rl/objective_test.py",
  "tests/rl/outer_test.py",
  "tests/rl/trust_region_test.py::StepTest",
  "tests/testing/second_order_test.py",
  "tests/trainers/fine_tuning_test.py",
  "tests/trainers/kill_test.py",
  "tests/trainers/launch_test.py",
  "tests/trainers/rl_test.py::RunTest",
  "tests/trainers/rl_workers_test.py",
  "tests/trainers/smoke_test.py::RunTest",
)

PATHS = tuple({name.partition("::")[0]: None for name in NAMES})


def is_long(node: str) -> bool:
  """Returns whether a test, by its name in pytest, is a long one."""
  return any(node == name or node.startswith(f"{name}::") for name in NAMES)
