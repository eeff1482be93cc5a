"""Tests that `make test` and `make test_lowest` leave out, for their time.

They take three quarters of the time of all tests. `make test_all` runs them
too, and starts with them. Bazel allows their files 15 minutes.
"""

# A file, a class of a file, or a test of a class.
NAMES = (
  "tests/algorithms/common_test.py::AllLearnersTest",
  "tests/algorithms/for_each_sample_test.py",
  "tests/algorithms/imaml_test.py::IMAMLTest"
  "::test_converged_steps_have_the_gradient_of_the_whole_loop",
  "tests/algorithms/imaml_test.py::IMAMLTest"
  "::test_few_iterations_approximate_the_gradient",
  "tests/algorithms/inner_options_test.py",
  "tests/algorithms/leo_embeddings_test.py",
  "tests/algorithms/maml_plus_plus_test.py::DescentTest",
  "tests/algorithms/maml_plus_plus_test.py::MetaGradientTest"
  "::test_is_exact_with_all_switches_on2",
  "tests/algorithms/maml_plus_plus_test.py::MetaGradientTest"
  "::test_is_exact_with_all_switches_on3",
  "tests/algorithms/maml_plus_plus_test.py::MetaGradientTest"
  "::test_is_exact_with_all_switches_on4",
  "tests/algorithms/padding_test.py",
  "tests/algorithms/random_layers_test.py",
  "tests/algorithms/recompute_steps_test.py",
  "tests/algorithms/several_inputs_test.py::TextTest",
  "tests/algorithms/targets_test.py::LearnersTest",
  "tests/algorithms/targets_test.py::SegmentationTest",
  "tests/algorithms/threads_test.py",
  "tests/core/compiled_steps_test.py::FitTest",
  "tests/core/conjugate_gradient_test.py::ConjugateGradientTest"
  "::test_solves_a_random_system0",
  "tests/core/keras_internals_test.py::UsesOneDnnTest",
  "tests/core/svgd_test.py::ManyTasksTest",
  "tests/data/omniglot_test.py::RealOmniglotTest",
  "tests/evaluation/passes_test.py",
  "tests/export_test.py::LoadingTest",
  "tests/layers/converted_test.py",
  "tests/layers/fused_normalization_test.py::FusedNormalizationTest"
  "::test_with_onednn_a_deep_network_with_biases_has_a_graph",
  "tests/numerics/keras_layers_test.py",
  "tests/numerics/second_order_test.py::MetaGradientTest"
  "::test_is_exact_for_what_is_adapted_in_another_way1",
  "tests/numerics/second_order_test.py::MetaGradientTest"
  "::test_is_exact_with_support_statistics",
  "tests/repository/docs_test.py::ContributingTest",
  "tests/repository/docs_test.py::DocstringTest",
  "tests/repository/docs_test.py::ReadmeTest",
  "tests/repository/missing_packages_test.py",
  "tests/rl/export_test.py::ExportTest"
  "::test_saved_model_acts_and_adapts_like_the_learner1",
  "tests/rl/export_test.py::ExportTest"
  "::test_saved_model_acts_and_adapts_like_the_learner2",
  "tests/rl/keras_test.py::FitTest"
  "::test_policies_may_use_what_tensorflow_differentiates_once0",
  "tests/rl/keras_test.py::FitTest"
  "::test_predict_returns_the_mean_return_after_each_step",
  "tests/rl/keras_test.py::FitTest::test_resumed_training_has_the_same_bits",
  "tests/rl/keras_test.py::ReplicaTest",
  "tests/rl/learners_test.py",
  "tests/rl/objective_test.py",
  "tests/rl/outer_test.py",
  "tests/rl/trust_region_test.py::StepTest",
  "tests/testing/second_order_test.py",
  "tests/trainers/fine_tuning_test.py",
  "tests/trainers/image_sets_test.py::ImageSetsTest"
  "::test_what_has_no_test_classes_is_measured_on_the_others",
  "tests/trainers/kill_test.py",
  "tests/trainers/launch_test.py",
  "tests/trainers/pretraining_test.py::PretrainingTest"
  "::test_embeddings_are_those_of_the_backbone_and_leo_takes_them",
  "tests/trainers/rl_test.py::RunTest",
  "tests/trainers/rl_workers_test.py",
  "tests/trainers/smoke_test.py::RunTest",
  "tests/trainers/smoke_test.py::TrainTest"
  "::test_mirrored_strategy_trains_alike",
)

PATHS = tuple({name.partition("::")[0]: None for name in NAMES})


def is_long(node: str) -> bool:
  """Returns whether a test, by its name in pytest, is a long one."""
  return any(node == name or node.startswith(f"{name}::") for name in NAMES)
