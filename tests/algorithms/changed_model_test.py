"""Tests that every learner refuses a model that changed after it was made.

Without the check, learners with values for each weight end in a traceback, and
the others train the old weights in a compiled function.
"""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

import tfmeta
from tfmeta.testing.exam import subject

LEARNERS = (
  (tfmeta.MAML, {}),
  (tfmeta.FOMAML, {}),
  (tfmeta.ANIL, {}),
  (tfmeta.MetaSGD, {}),
  (tfmeta.MAMLPlusPlus, {"multi_step_epochs": 0}),
  (tfmeta.Reptile, {}),
  (tfmeta.PLATIPUS, {"num_samples": 1}),
  (tfmeta.EMAML, {"num_particles": 2}),
  (tfmeta.BMAML, {"num_particles": 2}),
  (tfmeta.LEO, {"num_latents": 4}),
)
CHANGES = {
  "frozen": lambda hidden: setattr(hidden, "trainable", False),
  "lora": lambda hidden: hidden.enable_lora(2),
  "quantized": lambda hidden: hidden.quantize("int8"),
}
SENTENCE = "must keep the trainable weights.*make a new learner.*hidden"


def _learner(learner_class, **kwargs):
  inputs = keras.Input((6,))
  hidden = keras.layers.Dense(5, activation="tanh", name="hidden")
  # LEO learns no more than a head, and freezing must leave the others weights.
  hidden.trainable = learner_class is not tfmeta.LEO
  head = keras.layers.Dense(3, use_bias=False, name="head")
  learner = learner_class(keras.Model(inputs, head(hidden(inputs))), **kwargs)
  learner.compile(keras.optimizers.SGD(0.1))
  return learner, hidden


class ChangedModelTest(parameterized.TestCase):
  @parameterized.parameters(*LEARNERS)
  def test_every_call_says_so(self, learner_class, kwargs):
    learner, hidden = _learner(learner_class, **kwargs)
    hidden.trainable = not hidden.trainable
    x, y = subject.gaussian_tasks("mlp")
    task = (x["support_x"][0], x["support_y"][0])
    folder = self.create_tempdir().full_path
    for call in (
      lambda: learner.fit(x, y, verbose=0),
      lambda: learner.evaluate(x, y, verbose=0),
      lambda: learner.predict(x, verbose=0),
      lambda: learner.train_on_batch(x, y),
      lambda: learner.adapt(*task),
      lambda: learner.adaptation_path(*task),
      lambda: learner.predict_with([], x["query_x"][0]),
      lambda: learner.task_loss(*task, x["query_x"][0], y[0]),
      lambda: learner.to_model({"weights": []}),
      lambda: learner.export(folder),
      lambda: learner.save(f"{folder}/learner.keras"),
    ):
      with self.assertRaisesRegex(ValueError, SENTENCE):
        call()

  @parameterized.parameters(*CHANGES)
  def test_every_change_is_noticed_after_training(self, change):
    learner, hidden = _learner(tfmeta.MAML)
    x, y = subject.gaussian_tasks("mlp")
    learner.fit(x, y, verbose=0)
    CHANGES[change](hidden)
    with self.assertRaisesRegex(ValueError, SENTENCE):
      learner.fit(x, y, verbose=0)

  def test_model_that_is_changed_back_is_taken_again(self):
    learner, hidden = _learner(tfmeta.MAML)
    x, y = subject.gaussian_tasks("mlp")
    hidden.trainable = False
    hidden.trainable = True
    learner.fit(x, y, verbose=0)

  def test_new_learner_of_the_changed_model_trains(self):
    learner, hidden = _learner(tfmeta.MAML)
    hidden.trainable = False
    learner = tfmeta.MAML(learner.model)
    learner.compile(keras.optimizers.SGD(0.1))
    before = np.array(hidden.kernel)
    x, y = subject.gaussian_tasks("mlp")
    learner.fit(x, y, verbose=0)
    np.testing.assert_array_equal(hidden.kernel, before)

  def test_learner_of_the_users_own_says_so_too(self):
    class Own(tfmeta.MetaLearner):
      def adaptation_path(
        self, support_x, support_y, context=tfmeta.EVALUATION
      ):
        del context
        return [tfmeta.core.weights_of(self.model)]

    learner, hidden = _learner(Own)
    hidden.trainable = False
    x, _ = subject.gaussian_tasks("mlp")
    with self.assertRaisesRegex(ValueError, SENTENCE):
      learner.adaptation_path(x["support_x"][0], x["support_y"][0])


class SupportStatisticsTest(absltest.TestCase):
  def test_leo_refuses_what_it_does_not_have(self):
    # It would use the moving statistics instead.
    model = subject.embeddings()
    with self.assertRaisesRegex(ValueError, "normalization.*support_stats"):
      tfmeta.LEO(model, normalization="support_stats")


if __name__ == "__main__":
  absltest.main()
