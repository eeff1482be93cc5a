"""The exam that every learner must pass: one row of the table for each.

`make test` asks one learner only: see tests/repository/long_tests.py.
"""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import tensorflow as tf

import tfmeta
from tfmeta.testing import exam
from tfmeta.testing.exam import execution
from tfmeta.testing.exam import saving
from tfmeta.testing.exam import training

ROWS = (
  (tfmeta.MAML, {"inner_learning_rate": 0.1}),
  (tfmeta.FOMAML, {"inner_learning_rate": 0.1}),
  (tfmeta.ANIL, {"inner_learning_rate": 0.1}),
  (tfmeta.MetaSGD, {"inner_learning_rate": 0.1}),
  (
    tfmeta.MAMLPlusPlus,
    # The first phase lasts one step, so that two epochs pass through both.
    {"multi_step_epochs": 1, "steps_per_epoch": 1},
  ),
  (tfmeta.Reptile, {"inner_learning_rate": 0.01}),
)
PROBABILISTIC_ROWS = (
  (
    tfmeta.PLATIPUS,
    # The gradients of its rates are large, and some questions use SGD.
    {"inner_learning_rate": 0.02, "num_samples": 2, "clipnorm": 0.1},
  ),
  (tfmeta.EMAML, {"inner_learning_rate": 0.1, "num_particles": 2}),
  (tfmeta.BMAML, {"inner_learning_rate": 0.02, "num_particles": 2}),
)
# Questions whose answer depends on the network. With convolutions the samples
# of a probabilistic learner are computed one after the other.
CONVOLUTIONAL = (
  training.check_fit_lowers_loss,
  saving.check_saved_model,
  execution.check_eager_and_xla,
  execution.check_replicas,
)
# Questions whose answer depends on batch statistics.
STATISTICS = (saving.check_saved_model, execution.check_replicas)


# Rows of which the MLP takes two inner steps. The others move their weights as
# these do, and files of their own test what a second step computes.
TWO_STEPS = (tfmeta.MAML, tfmeta.MAMLPlusPlus, tfmeta.Reptile, tfmeta.EMAML)


def steps_of(row, backbone):
  return 2 if backbone == "mlp" and row[0] in TWO_STEPS else 1


class FirstLearnerTest(tfmeta.testing.LearnerTestCase):
  def test_exam(self):
    learner_class, init_kwargs = ROWS[0]
    self.run_learner_test(
      learner_class,
      init_kwargs={"inner_steps": 2, **init_kwargs},
      backbones=["mlp"],
    )


class AllLearnersTest(tfmeta.testing.LearnerTestCase):
  @parameterized.product(row=ROWS, backbone=("mlp", "conv"))
  def test_exam(self, row, backbone):
    learner_class, init_kwargs = row
    if learner_class is tfmeta.MAMLPlusPlus and backbone == "conv":
      # Each phase would be traced. The second step has a slot of its own.
      init_kwargs = {"multi_step_epochs": 0, "inner_steps": 2}
    self.run_learner_test(
      learner_class,
      init_kwargs={"inner_steps": steps_of(row, backbone), **init_kwargs},
      backbones=[backbone],
      optimizer=lambda: keras.optimizers.Adam(0.01),
    )

  @parameterized.product(row=PROBABILISTIC_ROWS, backbone=("mlp", "conv"))
  def test_exam_of_probabilistic_learners(self, row, backbone):
    learner_class, init_kwargs = row
    dense = backbone == "mlp"
    self.run_learner_test(
      learner_class,
      init_kwargs={"inner_steps": steps_of(row, backbone), **init_kwargs},
      backbones=[backbone],
      optimizer=lambda: keras.optimizers.Adam(0.01),
      draws=learner_class is tfmeta.PLATIPUS,
      checks=exam.CHECKS if dense else CONVOLUTIONAL,
    )

  @parameterized.parameters("mlp", "conv")
  def test_exam_of_imaml(self, backbone):
    self.run_learner_test(
      tfmeta.IMAML,
      init_kwargs={"inner_learning_rate": 0.1, "inner_steps": 2},
      backbones=[backbone],
      optimizer=lambda: keras.optimizers.Adam(0.01),
      checks=exam.CHECKS if backbone == "mlp" else STATISTICS,
    )

  @parameterized.parameters("mlp", "conv")
  def test_exam_of_prototypical_networks(self, backbone):
    of_classes = [
      check for check in exam.CHECKS if check is not training.check_regression
    ]
    self.run_learner_test(
      tfmeta.ProtoNet,
      backbones=[backbone],
      optimizer=lambda: keras.optimizers.Adam(0.01),
      checks=of_classes if backbone == "mlp" else STATISTICS,
    )

  @parameterized.parameters("mlp", "conv")
  def test_exam_of_fine_tuning(self, backbone):
    self.run_learner_test(
      tfmeta.FineTuning,
      init_kwargs={
        "inner_learning_rate": 0.02,
        "inner_steps": 11,  # So many steps run in a loop.
        # No network of the exam is trained, so it has no moving statistics.
        "normalization": "transductive" if backbone == "conv" else None,
      },
      backbones=[backbone],
      optimizer=lambda: keras.optimizers.Adam(0.01),
      checks=exam.CHECKS if backbone == "mlp" else STATISTICS,
    )

  def test_exam_of_a_hierarchical_prior(self):
    self.run_learner_test(
      tfmeta.BMAML,
      init_kwargs={
        "prior": "hierarchical",
        "inner_learning_rate": 0.02,
        "num_particles": 2,
      },
      backbones=["mlp"],
      optimizer=lambda: keras.optimizers.Adam(0.01),
      checks=(*saving.CHECKS, execution.check_replicas),
    )

  def test_exam_of_leo(self):
    self.run_learner_test(
      tfmeta.LEO,
      init_kwargs={
        "num_latents": 4,
        "inner_steps": 1,
        "finetuning_steps": 1,
        "dropout_rate": 0.0,
        "clipvalue": 0.01,
        "clipnorm": 0.01,
      },
      backbones=["embeddings"],
      optimizer=lambda: keras.optimizers.Adam(0.01),
      draws=True,
    )

  @parameterized.parameters("per_step_running", "per_step_support")
  def test_exam_of_other_normalizations(self, normalization):
    # They change the queries only. The questions are those about what is kept,
    # saved and shared between replicas.
    self.run_learner_test(
      tfmeta.MAMLPlusPlus,
      init_kwargs={
        "inner_steps": 2,
        "inner_learning_rate": 0.1,
        "normalization": normalization,
      },
      backbones=["conv"],
      checks=(
        training.check_adapting_assigns_nothing,
        saving.check_keras_file,
        saving.check_saved_model,
        execution.check_replicas,
      ),
    )


if __name__ == "__main__":
  if not tf.config.get_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0]
  ):
    execution.two_logical_cpus()
  absltest.main()
