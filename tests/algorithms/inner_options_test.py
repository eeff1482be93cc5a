"""Tests clipping, Adam and mini-batches in the inner loops of the learners."""

from absl.testing import absltest
from absl.testing import parameterized
import directional
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import inner_rule
from tfmeta.testing.exam import subject

OPTIONS = {
  "clipnorm": {"inner_clipnorm": 0.3},
  "adam": {"inner_optimizer": "adam", "inner_learning_rate": 0.03},
  "batches": {"support_batch_size": 4},
  "all": {
    "inner_clipnorm": 0.3,
    "inner_optimizer": "adam",
    "inner_learning_rate": 0.03,
    "support_batch_size": 4,
  },
}
SECOND_ORDER = (
  (tfmeta.MAML, {}),
  (tfmeta.ANIL, {}),
  (tfmeta.EMAML, {"num_particles": 2}),
)
LEARNERS = (*SECOND_ORDER, (tfmeta.FOMAML, {}), (tfmeta.Reptile, {}))
OTHERS = (
  (tfmeta.MetaSGD, {}),
  (tfmeta.MAMLPlusPlus, {}),
  (tfmeta.PLATIPUS, {}),
  (tfmeta.BMAML, {}),
  (tfmeta.LEO, {}),
)


def _net(dtype="float64"):
  keras.utils.set_random_seed(0)
  inputs = keras.Input((4,), dtype=dtype)
  hidden = keras.layers.Dense(5, activation="tanh", dtype=dtype)(inputs)
  return keras.Model(inputs, keras.layers.Dense(3, dtype=dtype)(hidden))


def _learner(learner_class, *options, **kwargs):
  merged = {"inner_steps": 2, "inner_learning_rate": 0.5}
  for each in options:
    merged |= each
  return learner_class(_net(), **{**merged, **kwargs})


def _weights_of(learner):
  return [np.array(v) for v in learner.model.trainable_variables]


class InnerOptionsTest(parameterized.TestCase):
  @parameterized.product(row=SECOND_ORDER, name=tuple(OPTIONS))
  def test_meta_gradient_equals_differences(self, row, name):
    learner_class, own = row
    learner = _learner(learner_class, own, OPTIONS[name])
    # Steps of Adam turn quickly where a gradient is small, so the differences
    # are shorter than elsewhere. Their error falls with the square of the step.
    error = directional.error_of_gradient(
      learner, directional.mlp_task(), step=1e-6
    )
    self.assertLess(error, 1e-6)

  @parameterized.product(row=LEARNERS, name=("clipnorm", "adam", "batches"))
  def test_each_option_changes_the_adapted_weights(self, row, name):
    # A learner that took an option and left it out would pass all other tests.
    learner_class, own = row
    base = {"inner_optimizer": "sgd", "inner_learning_rate": 0.5}
    with_option = {**base, **OPTIONS[name], "inner_learning_rate": 0.5}
    x, y, query_x, _ = directional.mlp_task()
    outputs = []
    for options in (base, with_option):
      learner = _learner(learner_class, own, options)
      outputs.append(learner.predict_with(learner.adapt(x, y), query_x))
    self.assertGreater(np.abs(outputs[1] - outputs[0]).max(), 1e-3)

  @parameterized.parameters(1, 3)
  def test_adam_equals_keras_on_one_task(self, steps):
    learner = _learner(tfmeta.MAML, OPTIONS["adam"], inner_steps=steps)
    x, y, _, _ = directional.mlp_task()
    adapted = learner.adapt(x, y)
    model = _net()
    model.compile(keras.optimizers.Adam(0.03), learner.inner_loss)
    for _ in range(steps):
      model.train_on_batch(x, y)
    for weight, variable in zip(
      adapted, model.trainable_variables, strict=True
    ):
      # Keras keeps its betas in float32: an error of 1e-5 of each step.
      np.testing.assert_allclose(weight, variable, rtol=0, atol=3e-7 * steps)

  def test_adam_starts_anew_in_each_task(self):
    learner = _learner(tfmeta.MAML, OPTIONS["adam"])
    x, y, _, _ = directional.mlp_task()
    first = learner.adapt(x, y)
    for a, b in zip(first, learner.adapt(x, y), strict=True):
      np.testing.assert_array_equal(a, b)

  def test_clipped_step_has_the_length_of_the_bound(self):
    options = {"inner_steps": 1, "inner_clipnorm": 0.01}
    for learner_class in (tfmeta.MAML, tfmeta.FOMAML, tfmeta.ANIL):
      learner = _learner(learner_class, options)
      x, y, _, _ = directional.mlp_task()
      pairs = zip(learner.adapt(x, y), _weights_of(learner), strict=True)
      square = sum(np.sum((new - old) ** 2) for new, old in pairs)
      np.testing.assert_allclose(np.sqrt(square), 0.5 * 0.01, rtol=1e-9)

  def test_reptile_clips_what_it_hands_to_adam(self):
    # The first step of Adam alone ignores the scale of the gradient, up to
    # epsilon, so plain steps are compared.
    options = {"inner_optimizer": "sgd", "inner_clipnorm": 0.01}
    learner = _learner(tfmeta.Reptile, options, inner_steps=1)
    x, y, _, _ = directional.mlp_task()
    pairs = zip(learner.adapt(x, y), _weights_of(learner), strict=True)
    square = sum(np.sum((new - old) ** 2) for new, old in pairs)
    np.testing.assert_allclose(np.sqrt(square), 0.5 * 0.01, rtol=1e-9)

  def test_mini_batches_are_steps_on_parts_of_the_support_set(self):
    learner = _learner(tfmeta.MAML, support_batch_size=2, inner_steps=3)
    x, y, _, _ = directional.mlp_task()
    context = tfmeta.EVALUATION.for_support(learner, x, y)
    seed = context.seed_from(0)
    batches = inner_rule.mini_batches(tf.constant(6), 2, 3, seed)
    weights = tfmeta.core.weights_of(learner.model)
    plain = _learner(tfmeta.MAML, inner_steps=1)
    for variable, value in zip(
      plain.model.trainable_variables, weights, strict=True
    ):
      variable.assign(value)
    for batch in batches:
      weights = plain.adapt(tf.gather(x, batch), tf.gather(y, batch))
      for variable, value in zip(
        plain.model.trainable_variables, weights, strict=True
      ):
        variable.assign(value)
    for a, b in zip(learner.adapt(x, y), weights, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-12)

  def test_anil_uses_the_same_mini_batches_with_and_without_a_split(self):
    learner = _learner(tfmeta.ANIL, OPTIONS["batches"])
    x, y, _, _ = directional.mlp_task()
    split = learner.adapt(x, y)
    self.assertIsNotNone(learner._split)
    object.__setattr__(learner, "_split", None)
    for a, b in zip(split, learner.adapt(x, y), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-12)

  @parameterized.product(row=OTHERS, name=("clipnorm", "adam", "batches"))
  def test_other_learners_refuse_them(self, row, name):
    learner_class, own = row
    (option, value), *_ = OPTIONS[name].items()
    with self.assertRaisesRegex(
      ValueError, f"{learner_class.__name__} has no option `{option}`"
    ):
      learner_class(_net(), **{**own, option: value})

  def test_a_class_with_a_method_of_its_own_must_say_that_it_has_them(self):
    class Own(tfmeta.MAML):
      def adaptation_path(
        self, support_x, support_y, context=tfmeta.EVALUATION
      ):
        del context
        return [tfmeta.core.weights_of(self.model)]

    with self.assertRaisesRegex(ValueError, "Own has no option"):
      Own(_net(), inner_clipnorm=1.0)
    Own(_net())

  @parameterized.parameters(
    ({"inner_clipnorm": 0.0}, "inner_clipnorm.*0"),
    ({"inner_optimizer": "rmsprop"}, "'adam', 'sgd'.*'rmsprop'"),
    ({"support_batch_size": 0}, "support_batch_size.*0"),
  )
  def test_values_out_of_range_are_refused(self, options, sentence):
    with self.assertRaisesRegex(ValueError, sentence):
      tfmeta.MAML(_net(), **options)

  def test_weights_of_examples_exclude_mini_batches(self):
    learner = _learner(tfmeta.MAML, OPTIONS["batches"])
    x, y, _, _ = directional.mlp_task()
    context = tfmeta.EVALUATION.replace(support_weight=tf.ones([6]))
    with self.assertRaisesRegex(ValueError, "MAML with a `support_batch_size`"):
      learner.adapt(x, y, context)

  @parameterized.parameters(*LEARNERS)
  def test_saved_and_exported_learners_keep_them(self, learner_class, own):
    # More than ten steps run in a loop of the graph.
    steps = 11 if learner_class in (tfmeta.MAML, tfmeta.EMAML) else 2
    learner = learner_class(
      subject.mlp(),
      **{**own, **OPTIONS["all"], "inner_steps": 2, "eval_inner_steps": steps},
    )
    learner.compile(keras.optimizers.Adam(0.01))
    x, y = subject.gaussian_tasks("mlp")
    learner.train_on_batch(x, y)
    expected = learner.predict_on_batch(x)
    folder = self.create_tempdir().full_path
    learner.save(f"{folder}/learner.keras")
    loaded = keras.saving.load_model(f"{folder}/learner.keras")
    np.testing.assert_allclose(
      loaded.predict_on_batch(x), expected, rtol=1e-5, atol=1e-6
    )
    if learner_class is tfmeta.MAML:
      learner.export(f"{folder}/exported")
      served = tf.saved_model.load(f"{folder}/exported")
      outputs = served.signatures["serving_default"](
        **{name: tf.constant(value) for name, value in x.items()}
      )["outputs"]
      np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
  absltest.main()
