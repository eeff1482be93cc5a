"""The exam, for each learner: one row of the table is all it takes."""

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
    # The first phase is one step: two epochs pass through both.
    {"multi_step_epochs": 1, "steps_per_epoch": 1},
  ),
  (tfmeta.Reptile, {"inner_learning_rate": 0.01}),
)
OF_DRAWS = (
  (tfmeta.PLATIPUS, {"inner_learning_rate": 0.1, "num_samples": 2}),
  (tfmeta.EMAML, {"inner_learning_rate": 0.1, "num_particles": 2}),
  (tfmeta.BMAML, {"inner_learning_rate": 0.02, "num_particles": 2}),
)
# What convolutions change: on them draws come one after the other.
CONVOLUTIONAL = (
  training.check_fit_lowers_loss,
  saving.check_saved_model,
  execution.check_eager_and_xla,
  execution.check_replicas,
)


class CommonTest(tfmeta.testing.LearnerTestCase):
  @parameterized.product(row=ROWS, backbone=("mlp", "conv4"))
  def test_exam(self, row, backbone):
    learner_class, init_kwargs = row
    if learner_class is tfmeta.Reptile and backbone == "conv4":
      # Adam makes whole steps of the round-off that is the gradient of a bias
      # before batch normalisation, so that no two ways to run it agree.
      init_kwargs = {"inner_optimizer": "sgd", "inner_learning_rate": 0.1}
    if learner_class is tfmeta.MAMLPlusPlus and backbone == "conv4":
      # Each phase is traced; a slot of its own takes a second step.
      init_kwargs = {"multi_step_epochs": 0, "inner_steps": 2}
    self.run_learner_test(
      learner_class,
      # Convolutions take long to trace; two steps are seen on the other net.
      init_kwargs={"inner_steps": 2 if backbone == "mlp" else 1, **init_kwargs},
      backbones=[backbone],
      optimizer=lambda: keras.optimizers.Adam(0.01),
    )

  @parameterized.product(row=OF_DRAWS, backbone=("mlp", "conv4"))
  def test_exam_of_draws(self, row, backbone):
    learner_class, init_kwargs = row
    dense = backbone == "mlp"
    self.run_learner_test(
      learner_class,
      init_kwargs={"inner_steps": 2 if dense else 1, **init_kwargs},
      backbones=[backbone],
      optimizer=lambda: keras.optimizers.Adam(0.01),
      draws=learner_class is tfmeta.PLATIPUS,
      checks=exam.CHECKS if dense else CONVOLUTIONAL,
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
        "inner_steps": 2,
        "finetuning_steps": 1,
        "dropout_rate": 0.0,
        "clipvalue": 0.01,
        "clipnorm": 0.01,
      },
      backbones=["embeddings"],
      optimizer=lambda: keras.optimizers.Adam(0.01),
      draws=True,
    )

  def test_exam_of_running_statistics(self):
    # These normalise in training as before, and in evaluation otherwise: the
    # questions are those about what is kept, saved and shared.
    self.run_learner_test(
      tfmeta.MAMLPlusPlus,
      init_kwargs={
        "inner_steps": 2,
        "inner_learning_rate": 0.1,
        "normalization": "per_step_running",
      },
      backbones=["conv4"],
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
